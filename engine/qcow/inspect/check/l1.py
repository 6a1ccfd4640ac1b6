"""The L1 tables of all states: which L2 tables they name, and what is wrong with their entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...findings import FindingKind
from ...image.image import Image
from ...layout.constants import L1_RESERVED_MASK, MAX_L1_BYTES, OFLAG_COPIED
from ...layout.distinct import distinct
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64
from ...record import record
from . import kinds as K
from .claims import Claims, Owner
from .collect import MAX_EXAMPLES, Collector, Example, exceeding, runs_of
from .presence import DataMap
from .regions import TableRegion, Words, read_words, segments
from .space import HostSpace
from .tables import L2TableSet, TableTally

#: State numbers, here and in findings: 0 is the active state, n + 1 the snapshot at index n.
ACTIVE = 0
_RESERVED = np.uint64(L1_RESERVED_MASK)
_COPIED = np.uint64(OFLAG_COPIED)


@record
class ActiveL1:
    """The entries of the active L1 table that have an offset.

    ``number``: int32, in the table.  ``entry``: uint64, native.
    """

    number: NDArray[np.int32]
    entry: U64


@record
class L1Tables:
    """``tables``: the distinct L2 tables that begin inside the file.  ``active``: what the COPIED
    flags of the L1 table are compared for."""

    tables: L2TableSet
    active: ActiveL1


def l1_regions(
    image: Image, geometry: Geometry, claims: Claims, collector: Collector
) -> tuple[tuple[TableRegion, ...], int]:
    """The L1 tables of all states that can be walked, claimed; owners are state numbers.

    Also how many L1 tables were counted as corruptions.
    """
    header = image.header
    found = []
    wrong = 0
    usable = (
        header.l1_table_offset % geometry.cluster_size == 0
        and header.l1_size * 8 <= MAX_L1_BYTES
        and header.l1_table_offset < 1 << 63
    )
    if usable and header.l1_size:
        wrong += not claims.region(Owner.L1, header.l1_table_offset, header.l1_size * 8)
        found.append(TableRegion(header.l1_table_offset, header.l1_size, ACTIVE))
    for snapshot in image.snapshots:
        offset, size = snapshot.l1_table_offset, snapshot.l1_size
        if offset % geometry.cluster_size or size * 8 > MAX_L1_BYTES:
            # What is wrong was said when the image was opened; qemu-img counts it here.
            collector.totals(corruptions=1)
            wrong += 1
        elif size:
            wrong += not claims.region(Owner.SNAPSHOT_L1, offset, size * 8)
            found.append(TableRegion(offset, size, snapshot.index + 1))
    return tuple(found), wrong


def read_l1_tables(
    image: Image,
    geometry: Geometry,
    regions: Sequence[TableRegion],
    space: HostSpace,
    data: DataMap,
    collector: Collector,
    cancelled: Callable[[], None],
) -> L1Tables:
    """Read every L1 table once and judge its entries."""
    judge = _Judge(geometry, space, {r.owner: r.offset for r in regions}, collector)

    def failed(offset: int, length: int) -> None:
        collector.totals(check_errors=1)
        collector.add(K.UNREADABLE, place=(offset, length), note="an L1 table")

    found = segments(regions, image.storage.size())
    for words in read_words(image.storage, found, data, failed):
        cancelled()
        judge.take(words)
    return L1Tables(judge.tally.result(), judge.active())


class _Judge:
    def __init__(
        self,
        geometry: Geometry,
        space: HostSpace,
        starts: dict[int, int],
        collector: Collector,
    ) -> None:
        """``starts``: the host offset of each state's L1 table."""
        self.tally = TableTally()
        self._geometry = geometry
        self._space = space
        self._starts = starts
        self._collector = collector
        self._active: list[ActiveL1] = []

    def active(self) -> ActiveL1:
        if not self._active:
            return ActiveL1(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.uint64))
        number = np.concatenate([part.number for part in self._active])
        return ActiveL1(number, np.concatenate([part.entry for part in self._active]))

    def take(self, words: Words) -> None:
        values = words.values
        offsets = (values & OFFSETS).astype(np.int64)
        reserved = np.flatnonzero(values & _RESERVED)
        if len(reserved):
            self._note(
                K.L1_RESERVED,
                words,
                reserved,
                lambda at: f"ERROR found L1 entry with reserved bits set: {int(values[at]):x}",
            )
        stray = np.flatnonzero(offsets == 0)
        if len(stray):
            self._note(
                K.L1_STRAY,
                words,
                stray,
                lambda at: f"L1 entry without an offset: {int(values[at]):x}",
                counted=False,
            )
        self._places(words, offsets)
        own = words.owner == ACTIVE
        used = own & (offsets != 0)
        if used.any():
            self._active.append(ActiveL1(words.number[used].astype(np.int32), values[used]))
        inside = offsets < self._space.length
        self.tally.add(offsets[inside], words.times[inside], own[inside].astype(np.int32))

    def _places(self, words: Words, offsets: I64) -> None:
        size = self._geometry.cluster_size
        outside = np.flatnonzero(offsets >= self._space.length)
        if len(outside):
            self._note(
                K.L2_TABLE_OUTSIDE,
                words,
                outside,
                lambda at: exceeding(int(offsets[at]), size),
            )
        misaligned = np.flatnonzero(offsets & (size - 1))
        if len(misaligned):
            self._note(
                K.L2_TABLE_UNALIGNED,
                words,
                misaligned,
                lambda at: (
                    f"ERROR l2_offset={int(offsets[at]):x}: Table is not cluster aligned; L1 entry "
                    "corrupted"
                ),
            )

    def _note(
        self,
        kind: FindingKind,
        words: Words,
        which: I64,
        example: Callable[[int], str],
        *,
        counted: bool = True,
    ) -> None:
        times = int(words.times[which].sum())
        if counted:
            self._collector.totals(corruptions=times)
        else:
            self._collector.totals(extra_corruptions=times)
        examples: list[Example] = [
            (int(words.owner[at]) << 32 | int(words.number[at]), example(at))
            for at in which[:MAX_EXAMPLES].tolist()
        ]
        self._collector.add(kind, times, examples=examples)
        per_table = self._geometry.l2_entries
        for owner in distinct(words.owner[which]).tolist()[:MAX_EXAMPLES]:
            index = np.sort(words.number[which][words.owner[which] == owner])
            first, count = runs_of(index)
            for start, length in zip(first[:1000].tolist(), count[:1000].tolist(), strict=True):
                self._collector.add(
                    kind,
                    0,
                    guest=(owner, start * per_table, length * per_table),
                    place=(self._starts[owner] + 8 * start, 8 * length),
                )
