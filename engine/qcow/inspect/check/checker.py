"""The whole check, step by step (qcow2 spec, "Host cluster management")."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import StorageError
from ...findings import Severity
from ...image.image import Image
from ...jobs import CancelToken, ProgressCallback, Throttle
from ...layout.constants import REFCOUNT_TABLE_OFFSET_MASK
from ...layout.geometry import Geometry
from ...layout.tables import U64
from . import kinds as K
from . import structures
from .aftermath import compare_l1_flags, mark_collisions, name_metadata, name_tables
from .blocks import RefcountBlocks, claim_blocks, judge_sharing, judge_table, read_table
from .claims import Claims, Owner
from .codes import UNKNOWN
from .collect import Collector
from .compare import Comparison, Expectations
from .counts import Counts, SparseCounts
from .dense import compare_dense
from .entries import EntryWalk, WindowFacts
from .faults import EntryFaults, Scope
from .l1 import L1Tables, l1_regions, read_l1_tables
from .parallel import share_out, threads_for
from .plan import Turn, turns
from .presence import DataMap
from .regions import TableRegion
from .second_look import SecondLook
from .space import HostSpace
from .sparse import compare_sparse, count_far_blocks
from .tables import WINDOW_BYTES, L2TableSet, TableReader, TableWindow, table_windows

#: Refcount blocks are followed this many times as far as the file goes.
_FAR = 4


class Checker:
    """One check of one image; what it found is in ``collector`` and the other attributes.

    ``allocated``, ``fragmented``, ``compressed``: clusters of the active state.  ``end``: clusters
    that count as part of the file.  ``highest``: the last used one.  ``regions``: the L1
    tables that were walked; ``wrong_l1`` others are counted as corruptions.  ``windows`` and
    ``facts``: the L2 tables, and what they refer to.
    """

    def __init__(
        self,
        image: Image,
        geometry: Geometry,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> None:
        self._image = image
        self._geometry = geometry
        self._tell = Throttle(progress)
        self._cancel = cancel
        self.collector = Collector()
        self.space = HostSpace.of(image.storage, geometry)
        self.data = DataMap(image.storage, self.space)
        self.allocated = self.fragmented = self.compressed = 0
        self.end = self.space.clusters
        self.highest = 0
        self.regions: tuple[TableRegion, ...] = ()
        self.wrong_l1 = 0
        self.windows: list[TableWindow] = []
        self.facts: list[WindowFacts] = []
        self._claims = Claims(self.space, self.collector)
        self._spill = 0
        self._first_walk = True

    def run(self) -> None:
        """Walk everything and compare.  Raises Cancelled."""
        image, geometry = self._image, self._geometry
        for problem in image.problems:
            if problem.severity is Severity.ERROR:
                self.collector.totals(check_errors=1)
        structures.claim_header(self._claims, geometry)
        self.regions, self.wrong_l1 = l1_regions(image, geometry, self._claims, self.collector)
        structures.claim_snapshot_table(image, geometry, self._claims, self.collector)
        table = read_table(image, geometry, self._claims, self.collector)
        self._table: U64 = np.zeros(0, dtype=np.uint64) if table is None else table
        self._counts_known = table is not None
        structures.claim_luks_header(image, self._claims, self.collector)
        bitmaps = structures.Bitmaps(image, geometry, self.space, self.data, self.collector)
        bitmaps.claim(self._claims, self.check_cancel)
        self._stale_bitmaps = bitmaps.stale_clusters()
        self._l1: L1Tables = read_l1_tables(
            image,
            geometry,
            self.regions,
            self.space,
            self.data,
            self.collector,
            self.check_cancel,
        )
        tables = self._l1.tables
        self._claim_tables(tables)
        held = self.data.holds(tables.offset, geometry.cluster_size)
        self.windows = table_windows(tables.take(held), geometry)
        self.facts = [WindowFacts()] * len(self.windows)
        limit = self._limit()
        self._scope = Scope(geometry, self.space, image.header.has_data_file, limit)
        entries = int(np.count_nonzero(held)) * geometry.l2_entries
        self._count(turns(limit, entries, self.space.present))

    def check_cancel(self) -> None:
        if self._cancel is not None:
            self._cancel.check()

    # -- the references ---------------------------------------------------------------------------

    def _claim_tables(self, tables: L2TableSet) -> None:
        bits = self._geometry.cluster_bits
        self._claims.clusters(Owner.L2, tables.offset, tables.times, bits)
        split = tables.offset & (self._geometry.cluster_size - 1) != 0
        if split.any():
            behind = tables.offset[split] + self._geometry.cluster_size
            self._claims.clusters(Owner.L2, behind, tables.times[split], bits)

    def _limit(self) -> int:
        """Clusters to keep counts for: a little more than the file has.

        Refcount blocks may go on behind the end of a file that was cut; what they say is needed
        for the flags of entries that point there.
        """
        offsets = self._table & np.uint64(REFCOUNT_TABLE_OFFSET_MASK)
        inside = np.flatnonzero((offsets != 0) & (offsets < np.uint64(self.space.length)))
        per_block = self._geometry.refcount_block_entries
        covered = (int(inside[-1]) + 1) * per_block if len(inside) else 0
        own = self.space.clusters + 1
        return max(own, min(covered, _FAR * (own + per_block)))

    def _count(self, planned: list[Turn]) -> None:
        limit = planned[-1].high
        self._blocks: RefcountBlocks | None = None
        comparison: Comparison | None = None
        while planned:
            turn = planned.pop(0)
            counts = turn.counts()
            if self._walk(turn, counts):
                comparison = self._compare(turn, counts)
            else:
                planned = turn.again(self.space.present) + planned
        assert comparison is not None, "there is at least one turn"
        count_far_blocks(self._image, self._table, limit, comparison, self.data)

    def _walk(self, turn: Turn, counts: Counts) -> bool:
        """Count all references to the clusters of ``turn``; False when it has to be repeated."""
        walks: list[EntryWalk] = []
        # Only the first walk looks for faults; another one would count them again.
        faults = EntryFaults(self._scope, self.collector) if self._first_walk else None

        def work(take: Callable[[], TableWindow | None]) -> None:
            adder = counts.adder()
            walk = EntryWalk(self._scope, adder, faults)
            reader = TableReader(self._image.storage, self._geometry)
            while (window := take()) is not None:
                try:
                    entries, bitmaps = reader.load(window.offsets)
                except StorageError:
                    failed, entries, bitmaps = reader.load_each(window.offsets)
                    if faults is not None:
                        self._unreadable(failed)
                facts = walk.walk(window, entries, bitmaps)
                if faults is not None:
                    self.facts[window.number] = facts
            adder.finish()
            walks.append(walk)

        threads = 1 if turn.alone else threads_for(len(self.windows))
        share_out(self.windows, work, threads, self._between("reading tables"))
        if self._first_walk:
            self._first_walk = False
            self._settle_first_walk(walks)
        adder = counts.adder()
        self._claims.add_to(adder)
        adder.finish()
        return counts.settle() and self._spill <= np.iinfo(counts.values.dtype).max

    def _settle_first_walk(self, walks: list[EntryWalk]) -> None:
        self.allocated = sum(walk.allocated for walk in walks)
        self.fragmented = sum(walk.fragmented for walk in walks)
        self.compressed = sum(walk.compressed for walk in walks)
        self._spill = self._claims.spill() + sum(walk.spill for walk in walks)
        # A structure that ends just behind the end makes QEMU count one cluster more.
        self.end = self.space.clusters + (1 if self._spill else 0)
        self._blocks = judge_table(
            self._image, self._geometry, self._table, self.end, self.collector
        )
        claim_blocks(self._blocks, self._claims)

    def _unreadable(self, offsets: list[int]) -> None:
        for offset in offsets:
            self.collector.totals(check_errors=1)
            self.collector.add(
                K.UNREADABLE, place=(offset, self._geometry.cluster_size), note="an L2 table"
            )

    # -- the comparison ---------------------------------------------------------------------------

    def _compare(self, turn: Turn, counts: Counts) -> Comparison:
        assert self._blocks is not None
        image = self._image
        if self._spill:
            where = counts.positions(self.space.clusters, self.space.clusters + 1)
            counts.values[where] = self._spill
        double = self._claims.collisions(counts, self.end)
        start = image.header.refcount_table_offset
        judge_sharing(self._blocks, counts, self._geometry, start, self.collector)
        expected = Expectations(
            self._geometry, self.end, image.header.dirty, double.cluster, self._stale_bitmaps
        )
        comparison = Comparison(expected, self.collector)
        tell = self._reached
        if not self._counts_known:
            counts.recode()
            counts.codes[:] = UNKNOWN
        elif isinstance(counts, SparseCounts):
            compare_sparse(image, self._table, counts, comparison, self.data, tell)
        else:
            compare_dense(image, self._table, counts, comparison, tell)
        tell(turn.high)
        self.highest = max(self.highest, comparison.highest)
        mark_collisions(double, counts, comparison.mismatched, self.collector)
        name_metadata(self._claims, counts, self.collector)
        name_tables(self._l1.tables, counts, self._geometry, self.collector)
        compare_l1_flags(
            image, self._geometry, self._l1.active, counts, self.collector, last=turn.last
        )
        look = SecondLook(image, self._scope, counts, self.collector, last=turn.last)
        look.run(self.windows, self.facts, self._between("comparing flags"))
        return comparison

    def _reached(self, cluster: int) -> None:
        self.check_cancel()
        self._tell("comparing refcounts", min(cluster, self.end), self.end)

    def _between(self, phase: str) -> Callable[[int], None]:
        total = sum(len(window.offsets) for window in self.windows)
        together = max(1, WINDOW_BYTES >> self._geometry.cluster_bits)

        def between(number: int) -> None:
            self.check_cancel()
            self._tell(phase, min(number * together, total), total, "L2 tables")

        return between
