"""Counting every reference and comparing (qcow2 spec, "Host cluster management")."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import StorageError
from ...image.image import Image
from ...jobs import Throttle
from ...layout.geometry import Geometry
from ...parallel import share_out, threads_for
from . import kinds as K
from .aftermath import compare_l1_flags, mark_collisions, name_metadata, name_tables
from .blocks import RefcountBlocks, claim_blocks, judge_sharing, judge_table
from .codes import UNKNOWN
from .collect import Collector
from .compare import Comparison, Expectations
from .counts import Counts, SparseCounts
from .dense import compare_dense
from .entries import EntryWalk, WindowFacts
from .faults import EntryFaults, Scope
from .plan import Turn, turns
from .second_look import SecondLook
from .sparse import compare_sparse, count_far_blocks
from .survey import Survey
from .tables import WINDOW_BYTES, TableReader, TableWindow, table_windows


class Checker:
    """Counts all references of an image and compares them; raises Cancelled.

    What is wrong goes to ``collector``.  ``allocated``, ``fragmented``, ``compressed``: clusters of
    the active state.  ``end``: clusters that count as part of the file.  ``highest``: the last used
    one.  ``windows`` and ``facts``: the L2 tables, and what they refer to.
    """

    def __init__(
        self,
        image: Image,
        geometry: Geometry,
        found: Survey,
        collector: Collector,
        tell: Throttle,
        check_cancel: Callable[[], None],
    ) -> None:
        self.allocated = self.fragmented = self.compressed = 0
        self.end = found.space.clusters
        self.highest = 0
        tables = found.l1.tables
        held = found.data.holds(tables.offset, geometry.cluster_size)
        self.windows: list[TableWindow] = table_windows(tables.take(held), geometry)
        self.facts: list[WindowFacts] = [WindowFacts()] * len(self.windows)
        self._image = image
        self._geometry = geometry
        self._found = found
        self._collector = collector
        self._tell = tell
        self._check_cancel = check_cancel
        limit = found.limit(geometry)
        self._scope = Scope(geometry, found.space, image.header.has_data_file, limit)
        self._entries = int(np.count_nonzero(held)) * geometry.l2_entries
        self._blocks: RefcountBlocks | None = None  # None until the first walk
        self._spill = 0

    def run(self) -> None:
        """Count and compare, a turn of host clusters after the other."""
        limit, present = self._scope.limit, self._found.space.present
        planned = turns(limit, self._entries, present)
        comparison: Comparison | None = None
        while planned:
            turn = planned.pop(0)
            counts = turn.counts()
            if self._walk(turn, counts):
                comparison = self._compare(turn, counts)
            else:
                planned = turn.again(present) + planned
        assert comparison is not None, "there is at least one turn"
        if not turn.sparse:  # which has looked at all blocks
            table = self._found.refcount_table
            count_far_blocks(self._image, table, limit, comparison, self._found.data)

    # -- the references ---------------------------------------------------------------------------

    def _walk(self, turn: Turn, counts: Counts) -> bool:
        """Count all references to the clusters of ``turn``; False when it has to be repeated."""
        walks: list[EntryWalk] = []
        # Only the first walk looks for faults; another one would count them again.
        first = self._blocks is None
        faults = EntryFaults(self._scope, self._collector) if first else None

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
        if first:
            self._settle_first_walk(walks)
        adder = counts.adder()
        self._found.claims.add_to(adder)
        adder.finish()
        return counts.settle() and self._spill <= np.iinfo(counts.values.dtype).max

    def _settle_first_walk(self, walks: list[EntryWalk]) -> None:
        self.allocated = sum(walk.allocated for walk in walks)
        self.fragmented = sum(walk.fragmented for walk in walks)
        self.compressed = sum(walk.compressed for walk in walks)
        claims = self._found.claims
        self._spill = claims.spill() + sum(walk.spill for walk in walks)
        # A structure that ends just behind the end makes QEMU count one cluster more.
        self.end = self._found.space.clusters + (1 if self._spill else 0)
        table = self._found.refcount_table
        self._blocks = judge_table(self._image, self._geometry, table, self.end, self._collector)
        claim_blocks(self._blocks, claims)

    def _unreadable(self, offsets: list[int]) -> None:
        for offset in offsets:
            self._collector.totals(check_errors=1)
            self._collector.add(
                K.UNREADABLE, place=(offset, self._geometry.cluster_size), note="an L2 table"
            )

    # -- the comparison ---------------------------------------------------------------------------

    def _compare(self, turn: Turn, counts: Counts) -> Comparison:
        assert self._blocks is not None
        image, geometry, found = self._image, self._geometry, self._found
        if self._spill:
            behind = found.space.clusters
            counts.values[counts.positions(behind, behind + 1)] = self._spill
        double = found.claims.collisions(counts, self.end)
        start = image.header.refcount_table_offset
        judge_sharing(self._blocks, counts, geometry, start, self._collector)
        expected = Expectations(
            geometry, self.end, image.header.dirty, double.cluster, found.stale_bitmaps
        )
        comparison = Comparison(expected, self._collector)
        table, tell = found.refcount_table, self._reached
        if not found.counts_known:
            counts.recode()
            counts.codes[:] = UNKNOWN
        elif isinstance(counts, SparseCounts):
            compare_sparse(image, table, counts, comparison, found.data, tell)
        else:
            compare_dense(image, table, counts, comparison, tell)
        tell(turn.high)
        self.highest = max(self.highest, comparison.highest)
        mark_collisions(double, counts, comparison.mismatched, self._collector)
        name_metadata(found.claims, counts, self._collector)
        name_tables(found.l1.tables, counts, geometry, self._collector)
        compare_l1_flags(image, geometry, found.l1.active, counts, self._collector, last=turn.last)
        look = SecondLook(image, self._scope, counts, self._collector, last=turn.last)
        look.run(self.windows, self.facts, self._between("comparing flags"))
        return comparison

    def _reached(self, cluster: int) -> None:
        self._check_cancel()
        self._tell("comparing refcounts", min(cluster, self.end), self.end)

    def _between(self, phase: str) -> Callable[[int], None]:
        total = sum(len(window.offsets) for window in self.windows)
        together = max(1, WINDOW_BYTES >> self._geometry.cluster_bits)

        def between(number: int) -> None:
            self._check_cancel()
            self._tell(phase, min(number * together, total), total, "L2 tables")

        return between
