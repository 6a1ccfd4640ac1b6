"""Walking the entries of L2 tables: what they refer to, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...findings import FindingKind
from ...layout.constants import (
    L2_RESERVED_MASK,
    OFFSET_MASK,
    OFLAG_COMPRESSED,
    OFLAG_COPIED,
    OFLAG_ZERO,
)
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64, compressed_fields
from . import kinds as K
from .collect import MAX_EXAMPLES, Collector, EntryRuns
from .counts import Adder
from .space import HostSpace
from .tables import TableWindow

_COMPRESSED = np.uint64(OFLAG_COMPRESSED)
_COPIED = np.uint64(OFLAG_COPIED)
_ZERO = np.uint64(OFLAG_ZERO)
_RESERVED = np.uint64(L2_RESERVED_MASK)
_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)
#: Runs are handled one by one when there is at most one for so many entries.
_ENTRIES_PER_RUN = 256

Bitmaps = NDArray[np.uint64]
Example = Callable[[int, int], str]


@dataclass(frozen=True, slots=True)
class Scope:
    """What the walk has to know of the image.

    ``limit``: clusters that counts are kept for; at least one more than the file has.
    """

    geometry: Geometry
    space: HostSpace
    data_file: bool
    limit: int


class Runs(NamedTuple):
    """A window's entries as runs of adjacent entries with adjacent clusters.

    int64[n] ``start``: number of the first entry; ``first``: its host cluster; ``length``: entries.
    bool[n] ``copied``: OFLAG_COPIED.
    """

    start: I64
    first: I64
    length: I64
    copied: NDArray[np.bool_]


class WindowFacts(NamedTuple):
    """What a window's entries refer to, so that a second look at it can often be spared.

    ``low``, ``high``: the first and last host cluster (low > high: none).  ``allocated``: entries
    with a cluster, not compressed; ``copied`` of them carry OFLAG_COPIED.  ``compressed``: entries.
    ``beyond``: whether any cluster lies beyond the end of the file.  ``runs``: all that its entries
    say, when they are few long runs of plain, sound entries.
    """

    low: int = 1
    high: int = 0
    allocated: int = 0
    copied: int = 0
    compressed: int = 0
    beyond: bool = False
    runs: Runs | None = None


class EntryWalk:
    """Adds the references of windows of L2 tables to counts; each thread has its own.

    What is wrong with the entries themselves goes to ``collector``, which is None when the tables
    are only walked to count again.  ``allocated``, ``fragmented`` and ``compressed`` are the
    active state's numbers as qemu-img counts them; ``spill`` the references to the cluster just
    behind the last one, which QEMU counts when less than a cluster of them is missing.
    """

    def __init__(self, scope: Scope, adder: Adder, collector: Collector | None) -> None:
        self._scope = scope
        self._bits = scope.geometry.cluster_bits
        self._size = scope.geometry.cluster_size
        self._table_bits = scope.geometry.l2_entries.bit_length() - 1
        self._adder = adder
        self._collector = collector
        self._steps: U64 = np.empty(0, dtype=np.uint64)
        self._breaks: NDArray[np.bool_] = np.empty(0, dtype=bool)
        self.allocated = 0
        self.fragmented = 0
        self.compressed = 0
        self.spill = 0

    def walk(self, window: TableWindow, entries: U64, bitmaps: Bitmaps | None) -> WindowFacts:
        """One window; see :meth:`.tables.TableReader.load` for the arrays."""
        facts = self._runs(window, entries, bitmaps)
        return facts if facts is not None else self._each(window, entries, bitmaps)

    # -- contiguous stretches ---------------------------------------------------------------------

    def _runs(
        self, window: TableWindow, entries: U64, bitmaps: Bitmaps | None
    ) -> WindowFacts | None:
        """The facts when the window is few long runs of plain, sound entries; else None."""
        n = len(entries)
        if self._scope.data_file or n < 2:
            return None
        if len(self._steps) < n:
            self._steps = np.empty(n, dtype=np.uint64)
            self._breaks = np.empty(n, dtype=bool)
        steps = np.subtract(entries[1:], entries[:-1], out=self._steps[: n - 1])
        breaks = np.not_equal(steps, np.uint64(self._size), out=self._breaks[: n - 1])
        if int(np.count_nonzero(breaks)) * _ENTRIES_PER_RUN >= n:
            return None
        if bitmaps is not None:
            seen = _or(bitmaps)
            if seen >> 32 & seen:
                return None
        starts = np.concatenate(([0], np.flatnonzero(breaks) + 1))
        counts = np.diff(starts, append=n)
        heads = entries[starts]
        used = heads != 0
        if not used.all():
            if bitmaps is not None or int(counts[~used].max()) > 1:
                return None  # an entry without a place may still say something
            starts, counts, heads = starts[used], counts[used], heads[used]
            if not len(heads):
                return WindowFacts()
        wrong = L2_RESERVED_MASK | OFLAG_COMPRESSED | OFLAG_ZERO | (OFFSET_MASK & (self._size - 1))
        if _or(heads) & wrong:
            return None
        offsets = (heads & OFFSETS).astype(np.int64)
        firsts = offsets >> self._bits
        stops = firsts + counts
        if int(offsets.min()) == 0 or int(stops.max()) > self._scope.space.clusters:
            return None
        add = self._adder.run
        for first, stop in zip(firsts.tolist(), stops.tolist(), strict=True):
            add(first, stop, window.times)
        allocated = int(counts.sum())
        if window.active and self._collector is not None:
            ends = starts + counts - 1
            same = starts[1:] >> self._table_bits == ends[:-1] >> self._table_bits
            apart = firsts[1:] != stops[:-1]
            self.fragmented += int(np.count_nonzero(same & apart)) * window.active
            self.allocated += allocated * window.active
        flags = heads >= _COPIED
        copied = int(counts[flags].sum())
        runs = Runs(starts, firsts, counts, flags)
        return WindowFacts(int(firsts.min()), int(stops.max()) - 1, allocated, copied, runs=runs)

    # -- anything ---------------------------------------------------------------------------------

    def _each(self, window: TableWindow, entries: U64, bitmaps: Bitmaps | None) -> WindowFacts:
        used = entries != 0
        if bitmaps is not None:
            used |= bitmaps != 0
        index = np.flatnonzero(used)
        if not len(index):
            return WindowFacts()
        if len(index) < len(entries):
            entries = entries[index]
        maps = None if bitmaps is None else bitmaps[index].astype(np.uint64)
        facts = WindowFacts()
        bits = _or(entries)
        if bits & OFLAG_COMPRESSED:
            packed = (entries & _COMPRESSED) != 0
            facts = self._compressed(
                window, index[packed], entries[packed], None if maps is None else maps[packed]
            )
            plain = ~packed
            index, entries = index[plain], entries[plain]
            maps = None if maps is None else maps[plain]
            if not len(index):
                return facts
        self._judge(window, index, entries, maps)
        offsets = (entries & OFFSETS).astype(np.int64)
        allocated = offsets != 0
        if self._scope.data_file:
            # In a data file offset 0 is a place like any other; COPIED tells it from no place.
            allocated |= entries >= _COPIED
        if not allocated.all():
            index, entries, offsets = index[allocated], entries[allocated], offsets[allocated]
            maps = None if maps is None else maps[allocated]
        if not len(index):
            return facts
        self._count_allocated(window, index, offsets)
        if offsets.any() and bits & OFFSET_MASK & (self._size - 1):
            self._misaligned(window, index, entries, offsets, maps)
        copied = entries >= _COPIED
        found = int(np.count_nonzero(copied))
        if self._scope.data_file:
            self._copied_in_data_file(window, index[~copied], entries[~copied])
            return facts._replace(allocated=len(index), copied=found)
        own = self._references(window, index, entries, offsets)
        return _joined(facts, own._replace(allocated=len(index), copied=found))

    def _count_allocated(self, window: TableWindow, index: I64, offsets: I64) -> None:
        if not window.active or self._collector is None:
            return
        table = index >> self._table_bits
        apart = (table[1:] == table[:-1]) & (offsets[1:] != offsets[:-1] + self._size)
        self.allocated += len(index) * window.active
        self.fragmented += int(np.count_nonzero(apart)) * window.active

    def _references(
        self, window: TableWindow, index: I64, entries: U64, offsets: I64
    ) -> WindowFacts:
        """Add the clusters that ``entries`` refer to; (low, high, beyond) of the facts."""
        space = self._scope.space
        clusters = offsets >> self._bits
        facts = WindowFacts(int(clusters.min()), int(clusters.max()))
        outside = None
        if int(offsets.max()) >= space.length:
            outside = offsets >= space.length
            self._note(
                K.DATA_OUTSIDE,
                window,
                index[outside],
                lambda at, _: _exceeding(int(offsets[outside][at]), self._size),
            )
            self._add_beyond(clusters[outside], window.times)
            facts = facts._replace(beyond=True)
            offsets, clusters = offsets[~outside], clusters[~outside]
        self._adder.many(clusters, window.times)
        split = (offsets & (self._size - 1)) != 0
        if split.any():
            second = clusters[split] + 1
            self._adder.many(second, window.times)
            self._count_spill(second, window.times)
            facts = facts._replace(high=facts.high + 1)
        return facts

    def _count_spill(self, clusters: I64, times: int) -> None:
        end = self._scope.space.clusters
        self.spill += int(np.count_nonzero(clusters >= end)) * times

    def _add_beyond(self, clusters: I64, times: int) -> None:
        """Count what is referred to beyond the end: a refcount there is no leftover."""
        space, limit = self._scope.space, self._scope.limit
        clusters = clusters[(clusters >= space.clusters) & (clusters < limit)]
        self._adder.many(clusters, times)

    def _compressed(
        self, window: TableWindow, index: I64, entries: U64, maps: U64 | None
    ) -> WindowFacts:
        copied = entries >= _COPIED
        mask = (1 << self._scope.geometry.compressed_offset_bits) - 1
        if copied.any():
            where = index[copied]
            values = entries[copied]
            self._note(
                K.COMPRESSED_COPIED,
                window,
                where,
                lambda at, _: (
                    f"ERROR: coffset=0x{int(values[at]) & mask:x}: copied flag must never be set "
                    "for compressed clusters"
                ),
            )
        if self._scope.data_file:
            self._note(
                K.COMPRESSED_MISPLACED,
                window,
                index,
                lambda at, entry: (
                    f"ERROR compressed cluster {entry} with data file, "
                    f"entry=0x{int(entries[at]) & ~OFLAG_COPIED:x}"
                ),
            )
            return WindowFacts()
        if maps is not None and maps.any():
            wrong = maps != 0
            where, values = index[wrong], entries[wrong]
            self._note(
                K.COMPRESSED_MISPLACED,
                window,
                where,
                lambda at, entry: (
                    f"ERROR compressed cluster {entry} with non-zero subcluster allocation "
                    f"bitmap, entry=0x{int(values[at]) & ~OFLAG_COPIED:x}"
                ),
            )
            index, entries = index[~wrong], entries[~wrong]
            if not len(index):
                return WindowFacts()
        if window.active and self._collector is not None:
            self.allocated += len(index) * window.active
            self.compressed += len(index) * window.active
            self.fragmented += len(index) * window.active
        return self._compressed_references(window, index, entries)

    def _compressed_references(self, window: TableWindow, index: I64, entries: U64) -> WindowFacts:
        space = self._scope.space
        offsets, lengths = compressed_fields(entries, self._scope.geometry)
        outside = offsets + lengths - space.length >= self._size
        beyond = bool(outside.any())
        if beyond:
            there, size = offsets[outside], lengths[outside]
            self._note(
                K.COMPRESSED_OUTSIDE,
                window,
                index[outside],
                lambda at, _: _exceeding(int(there[at]), int(size[at])),
            )
            for clusters in _touched(there >> self._bits, (there + size - 1) >> self._bits):
                self._add_beyond(clusters, window.times)
            offsets, lengths = offsets[~outside], lengths[~outside]
            if not len(offsets):
                return WindowFacts(compressed=len(index), beyond=True)
        first, last = offsets >> self._bits, (offsets + lengths - 1) >> self._bits
        for clusters in _touched(first, last):
            self._adder.many(clusters, window.times)
            self._adder.packed(clusters)
            self._count_spill(clusters, window.times)
        return WindowFacts(int(first.min()), int(last.max()), compressed=len(index), beyond=beyond)

    # -- what is wrong with an entry --------------------------------------------------------------

    def _judge(self, window: TableWindow, index: I64, entries: U64, maps: U64 | None) -> None:
        """Reserved bits, the zero flag where there is none, contradicting bitmaps."""
        if self._collector is None:
            return
        geometry = self._scope.geometry
        bits = _or(entries)
        if bits & L2_RESERVED_MASK:
            wrong = (entries & _RESERVED) != 0
            values = entries[wrong]
            self._note(
                K.L2_RESERVED,
                window,
                index[wrong],
                lambda at, _: f"ERROR found l2 entry with reserved bits set: {int(values[at]):x}",
            )
        if bits & OFLAG_ZERO and (geometry.version < 3 or geometry.extended_l2):
            flagged = (entries & _ZERO) != 0
            zeros = entries[flagged]
            self._note(
                K.ZERO_FLAG,
                window,
                index[flagged],
                lambda at, _: f"zero flag in l2 entry: {int(zeros[at]):x}",
                counted=False,
            )
        if maps is None or not maps.any():
            return
        placed = (entries & OFFSETS) != 0
        if self._scope.data_file:
            placed |= entries >= _COPIED
        both = placed & ((maps >> _SHIFT32) & maps != 0)
        if both.any():
            offsets = entries[both] & OFFSETS
            self._note(
                K.SUBCLUSTERS,
                window,
                index[both],
                lambda at, _: (
                    f"ERROR offset={int(offsets[at]):x}: Allocated cluster has corrupted "
                    "subcluster allocation bitmap"
                ),
            )
        lost = ~placed & (maps & _LOW32 != 0)
        self._note(
            K.SUBCLUSTERS,
            window,
            index[lost],
            lambda at, _: "ERROR: Unallocated cluster has non-zero subcluster allocation map",
        )

    def _misaligned(
        self, window: TableWindow, index: I64, entries: U64, offsets: I64, maps: U64 | None
    ) -> None:
        wrong = (offsets & (self._size - 1)) != 0
        if maps is not None:
            data = maps & _LOW32 != 0
        else:
            data = (entries & _ZERO) == 0
        for kind, which, text in (
            (K.DATA_UNALIGNED, wrong & data, "Data cluster is not properly aligned"),
            (K.ZERO_UNALIGNED, wrong & ~data, "Preallocated cluster is not properly aligned"),
        ):
            self._note_misaligned(kind, window, index[which], offsets[which], text)

    def _note_misaligned(
        self, kind: FindingKind, window: TableWindow, index: I64, offsets: I64, text: str
    ) -> None:
        self._note(
            kind,
            window,
            index,
            lambda at, _: f"ERROR offset={int(offsets[at]):x}: {text}; L2 entry corrupted.",
        )

    def _copied_in_data_file(self, window: TableWindow, index: I64, entries: U64) -> None:
        """Clusters of a data file have no refcount; each has one owner and COPIED set."""
        if not window.active or window.offsets[0] == 0 or not len(index):
            return
        self._note(
            K.COPIED_MISSING,
            window,
            index,
            lambda at, _: (
                f"ERROR OFLAG_COPIED data cluster: l2_entry={int(entries[at]):x} refcount=1"
            ),
            times=window.active,
        )

    def _note(
        self,
        kind: FindingKind,
        window: TableWindow,
        index: I64,
        example: Example,
        *,
        counted: bool = True,
        times: int | None = None,
    ) -> None:
        """Record entries of a window; ``example(i, number in its table)`` describes the i-th."""
        collector = self._collector
        if collector is None or not len(index):
            return
        if counted:
            collector.totals(corruptions=len(index) * (window.times if times is None else times))
        else:
            collector.totals(extra_corruptions=len(index))
        if window.offsets[0] == 0:
            kind = K.L1_STRAY
        table = window.offsets[index >> self._table_bits]
        number = index & ((1 << self._table_bits) - 1)
        shown = zip(table[:MAX_EXAMPLES].tolist(), number[:MAX_EXAMPLES].tolist(), strict=True)
        size = self._scope.geometry.l2_entry_size
        collector.add(
            kind,
            len(index),
            entries=EntryRuns.of(table, number),
            examples=[
                (place + entry * size, example(at, entry))
                for at, (place, entry) in enumerate(shown)
            ],
        )


def _touched(first: I64, last: I64) -> list[I64]:
    """The clusters of ``[first, last]`` of all rows, one array for each step from the first."""
    return [(first + step)[first + step <= last] for step in range(int((last - first).max()) + 1)]


def _joined(one: WindowFacts, other: WindowFacts) -> WindowFacts:
    if one.low > one.high:
        return other._replace(compressed=one.compressed, beyond=one.beyond or other.beyond)
    return WindowFacts(
        min(one.low, other.low),
        max(one.high, other.high),
        other.allocated,
        other.copied,
        one.compressed,
        one.beyond or other.beyond,
    )


def _or(words: NDArray[np.uint64]) -> int:
    """All bits that are set anywhere (native or big-endian words)."""
    if words.dtype.isnative:
        return int(np.bitwise_or.reduce(words))
    joined = int(np.bitwise_or.reduce(words.view(np.uint64)))
    return int.from_bytes(joined.to_bytes(8, "little"), "big")


def _exceeding(offset: int, size: int) -> str:
    return (
        "ERROR: counting reference for region exceeding the end of the file by one cluster or "
        f"more: offset 0x{offset:x} size 0x{size:x}"
    )
