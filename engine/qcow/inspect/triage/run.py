"""The triage: every leaked cluster gets a class, and every lost table the places it fits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...disk import Disk
from ...image.image import Image
from ...image.refcounts import refcount_table
from ...jobs import CancelToken, ProgressCallback, Throttle
from ...layout.constants import REFCOUNT_TABLE_OFFSET_MASK
from ...layout.snapshots import NeedMoreBytes, SnapshotEntryError, parse_snapshot
from ...layout.tables import I64, decode_refcounts
from ...text import plural
from . import sampling
from .candidates import Candidates, Gather, Kinds, conflicts, judge
from .classes import LeakClass
from .fitting import Fitting
from .groups import Grouping
from .holes import Holes, find_holes
from .kinship import shared_tables
from .leaks import ClusterSet, Leaks, find_leaks
from .packed import find_packed
from .report import Orphan, Triage
from .shapes import Shapes
from .slots import tables_in_use

#: Clusters that are looked at as old snapshot tables, at most.
_MOST_TABLES = 1000
#: Old refcount blocks are compared with this many blocks in use.
_MOST_BLOCKS = 4096
#: A leaked block is an old copy when so many in ten of its counts are those of one in use.
_ALIKE = 9


def triage(
    image: Image,
    *,
    disk: Disk | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Triage:
    """Look into every leaked cluster of ``image``.

    ``disk``: the guest disk (through its backing files), whose partition table tells where file
    systems begin; its damage does no harm.  Raises GuestDataError when no table of the image can
    be interpreted, Cancelled.
    """
    return _Triage(image, disk, progress, cancel).run()


class _Triage:
    def __init__(
        self,
        image: Image,
        disk: Disk | None,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> None:
        self._image = image
        self._geometry = image.usable_geometry_for_tables()
        self._disk = disk
        self._progress = progress
        self._cancel = cancel
        self._tell = Throttle(progress)
        self._shapes = Shapes(image)
        self._evidence: dict[LeakClass, list[str]] = {}

    def run(self) -> Triage:
        leaks = find_leaks(self._image, self._progress, self._cancel)
        fitting = Fitting(self._image, self._geometry, self._disk, self._cancel)
        shared = shared_tables(self._image, self._geometry, fitting.slots, leaks.surplus.clusters)
        clusters = leaks.leaked.clusters
        classes = np.zeros(len(clusters), dtype=np.uint8)
        sure = np.zeros(len(clusters), dtype=bool)
        if not len(clusters):
            return Triage(
                self._geometry.cluster_size, clusters, classes, sure, (), tuple(shared), ()
            )
        flags = sampling.look(self._image, self._shapes, clusters, self._step)
        in_use = ClusterSet(tables_in_use(self._geometry, fitting.slots))
        found, even = self._read_whole(leaks, in_use, flags, classes, sure)
        orphans: list[Orphan] = []
        lost_l1: tuple[int, ...] = ()
        if found is not None:
            orphans, lost_l1 = self._tables(found, classes, sure)
            orphans = fitting.place(orphans)
        self._snapshot_tables(clusters, flags, classes, sure)
        self._rest(leaks, fitting, even, classes, sure)
        grouping = Grouping(self._geometry.cluster_size, orphans, self._evidence)
        return Triage(
            self._geometry.cluster_size,
            clusters,
            classes,
            sure,
            grouping.groups(clusters, classes, sure),
            (*orphans, *shared),
            lost_l1,
        )

    def _step(self, phase: str, done: int, total: int) -> None:
        if self._cancel is not None:
            self._cancel.check()
        self._tell(phase, done, total, "clusters")

    # ---- reading

    def _read_whole(
        self,
        leaks: Leaks,
        in_use: ClusterSet,
        flags: NDArray[np.uint8],
        classes: NDArray[np.uint8],
        sure: NDArray[np.bool_],
    ) -> tuple[Candidates | None, I64]:
        """What parses as tables, and the indices of clusters with one value throughout."""
        clusters = leaks.leaked.clusters
        holes = flags & sampling.HOLE != 0
        classes[holes], sure[holes] = LeakClass.EMPTY, True
        chosen = np.flatnonzero(~holes & (flags & sampling.MAY_BE_TABLE != 0))
        gather = Gather(self._geometry, leaks, self._image.header.has_data_file, in_use)
        even: list[I64] = []
        blocks: list[tuple[int, NDArray[np.uint8]]] = []
        for at, seen, raw, words in sampling.whole(
            self._image, self._shapes, clusters[chosen], self._step
        ):
            index = chosen[at]
            zeros = seen & sampling.ZEROS != 0
            classes[index[zeros]], sure[index[zeros]] = LeakClass.EMPTY, True
            even.append(index[(seen & sampling.UNIFORM != 0) & ~zeros])
            tables = ~zeros & (seen & sampling.ENTRIES != 0)
            if tables.any():
                gather.add(clusters[index[tables]], words[tables], entries=True)
            upper = ~zeros & ~tables & (seen & sampling.POINTERS != 0)
            if upper.any():
                gather.add(clusters[index[upper]], words[upper], entries=False)
            counts = ~zeros & ~tables & (seen & sampling.COUNTS != 0)
            for row in np.flatnonzero(counts)[: _MOST_BLOCKS - len(blocks)].tolist():
                blocks.append((int(index[row]), raw[row].copy()))
        self._old_blocks(blocks, classes, sure)
        return gather.result(), np.concatenate(even) if even else np.zeros(0, dtype=np.int64)

    def _old_blocks(
        self,
        blocks: list[tuple[int, NDArray[np.uint8]]],
        classes: NDArray[np.uint8],
        sure: NDArray[np.bool_],
    ) -> None:
        """Old copies of refcount blocks are nearly the same as one in use."""
        if not blocks:
            return
        geometry, image = self._geometry, self._image
        table = refcount_table(image) & np.uint64(REFCOUNT_TABLE_OFFSET_MASK)
        used = table[(table != 0) & (table < np.uint64(image.storage.size()))].astype(np.int64)
        order = geometry.refcount_order
        loaded = [
            decode_refcounts(image.storage.read(offset, geometry.cluster_size), order)
            for offset in used[: max(1, _MOST_BLOCKS // len(blocks))].tolist()
        ]
        for index, raw in blocks:
            self._step("comparing refcount blocks", 0, len(blocks))
            counts = decode_refcounts(raw, order)
            for other in loaded:
                if len(other) != len(counts):
                    continue
                some = (counts != 0) | (other != 0)
                alike = int(np.count_nonzero((counts == other) & some))
                if 10 * alike >= _ALIKE * int(np.count_nonzero(some)):
                    classes[index], sure[index] = LeakClass.OLD_REFCOUNT_BLOCK, True
                    self._note(
                        LeakClass.OLD_REFCOUNT_BLOCK,
                        "Nearly all of its counts are those of a refcount block in use.",
                    )
                    break

    # ---- tables

    def _tables(
        self,
        found: Candidates,
        classes: NDArray[np.uint8],
        sure: NDArray[np.bool_],
    ) -> tuple[list[Orphan], tuple[int, ...]]:
        kinds = judge(found)
        place = found.place
        for kind, which, text in (
            (LeakClass.OLD_L2, kinds.old_l2, "All that it names is in use by other tables."),
            (LeakClass.OLD_L1, kinds.old_l1, "The L2 tables that it names are in use."),
            (
                LeakClass.OLD_REFCOUNT_TABLE,
                kinds.old_refcount_table,
                "It names the refcount blocks in use.",
            ),
        ):
            if which.any():
                classes[place[which]], sure[place[which]] = kind, True
                self._note(kind, text)
        rivals = conflicts(found, kinds.orphan_l2)
        remnant = self._remnants(found, kinds, classes)
        classes[_claimed(found, kinds.orphan_l2 & ~remnant)] = LeakClass.GUEST_DATA
        free_l2 = np.flatnonzero(kinds.orphan_l2 & ~remnant)
        classes[place[free_l2]] = LeakClass.ORPHAN_L2
        complete = found.surplus == found.pointers
        sure[place[free_l2]] = complete[free_l2]
        claimed = np.bincount(found.rows, minlength=len(found.cluster))
        bits = self._geometry.cluster_bits
        orphans = [
            Orphan(
                int(found.cluster[at]) << bits,
                int(found.used[at]),
                int(claimed[at]),
                int(found.first[at]),
                int(found.last[at]),
                bool(found.copied[at]),
                int(rivals[at]) + int(found.pointers[at] - found.surplus[at]),
            )
            for at in free_l2.tolist()
        ]
        lost = (found.cluster[kinds.lost_l1] << bits).tolist()
        return orphans, tuple(lost)

    def _remnants(
        self, found: Candidates, kinds: Kinds, classes: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Class what a lost L1 table reaches; which candidates it names (bool)."""
        named = np.zeros(len(found.cluster), dtype=bool)
        if not kinds.lost_l1.any():
            return named
        hit = found.row_of[found.targets[kinds.lost_l1[found.rows]]]
        named[hit[hit >= 0]] = True
        named &= kinds.orphan_l2
        below = named | kinds.lost_l1
        classes[_claimed(found, below)] = LeakClass.SNAPSHOT_REMNANT
        classes[found.place[below]] = LeakClass.SNAPSHOT_REMNANT
        self._note(
            LeakClass.SNAPSHOT_REMNANT,
            f"{plural(int(np.count_nonzero(named)), 'leaked L2 table')}, named by "
            f"{plural(int(np.count_nonzero(kinds.lost_l1)), 'leaked L1 table')}: "
            "a state of the disk that no snapshot and not the header refers to.",
        )
        return named

    def _snapshot_tables(
        self,
        clusters: I64,
        flags: NDArray[np.uint8],
        classes: NDArray[np.uint8],
        sure: NDArray[np.bool_],
    ) -> None:
        """Old snapshot tables, when every snapshot they list is still there."""
        known = {(s.l1_table_offset, s.id) for s in self._image.snapshots}
        chosen = np.flatnonzero((flags & sampling.SNAPSHOTS != 0) & (classes == LeakClass.UNKNOWN))
        for index in chosen[:_MOST_TABLES].tolist():
            offset = int(clusters[index]) * self._geometry.cluster_size
            data = self._image.storage.read(offset, self._geometry.cluster_size)
            listed = _listed(data, offset)
            if not listed:
                continue
            classes[index] = LeakClass.OLD_SNAPSHOT_TABLE
            sure[index] = listed <= known
            text = "Every snapshot that it lists is in the snapshot table in use."
            if not sure[index]:
                text = "It lists snapshots that are not in the snapshot table in use."
            self._note(LeakClass.OLD_SNAPSHOT_TABLE, text)

    # ---- what no table explains

    def _rest(
        self,
        leaks: Leaks,
        fitting: Fitting,
        even: I64,
        classes: NDArray[np.uint8],
        sure: NDArray[np.bool_],
    ) -> None:
        clusters = leaks.leaked.clusters
        unexplained = np.flatnonzero(classes == LeakClass.UNKNOWN)
        if not len(unexplained):
            return
        holes: Holes = find_holes(
            self._image,
            self._geometry,
            self._shapes,
            leaks,
            clusters[unexplained],
            fitting.slots,
            self._cancel,
        )
        if len(holes.fitting):
            classes[leaks.leaked.places(holes.fitting)] = LeakClass.HOLE_DATA
            self._note(
                LeakClass.HOLE_DATA,
                "The clusters before and behind them belong to the guest clusters before and "
                "behind a hole of the mapping of the same length.",
            )
        unexplained = np.flatnonzero(classes == LeakClass.UNKNOWN)
        packed = find_packed(self._image, self._geometry, clusters[unexplained], self._cancel)
        if len(packed):
            classes[leaks.leaked.places(packed)] = LeakClass.COMPRESSED
            self._note(
                LeakClass.COMPRESSED, "They begin with a stream that unpacks to a whole cluster."
            )
        lost = classes >= LeakClass.SNAPSHOT_REMNANT
        if not holes.missing and not lost.any():
            even = even[classes[even] == LeakClass.UNKNOWN]
            classes[even], sure[even] = LeakClass.GARBAGE, True
            self._note(
                LeakClass.GARBAGE,
                "Each holds one byte value throughout, no table names it, and no hole of the "
                "guest's disk fits it.",
            )
        for text in (*holes.missing, "No table names them, and they hold something."):
            self._note(LeakClass.UNKNOWN, text)

    # ---- telling

    def _note(self, kind: LeakClass, text: str) -> None:
        notes = self._evidence.setdefault(kind, [])
        if text not in notes:
            notes.append(text)


def _claimed(found: Candidates, which: NDArray[np.bool_]) -> I64:
    """Indices of the leaked clusters that some candidates name."""
    return found.targets if which.all() else found.targets[which[found.rows]]


def _listed(data: bytes, offset: int) -> set[tuple[int, bytes]]:
    """(L1 offset, id) of the snapshots in a table, up to its end or the first that is none."""
    found: set[tuple[int, bytes]] = set()
    at = 0
    while at < len(data) and any(data[at : at + 8]):
        try:
            snapshot, at = parse_snapshot(data, at, len(found), offset)
        except (NeedMoreBytes, SnapshotEntryError):
            return found
        found.add((snapshot.l1_table_offset, snapshot.id))
    return found
