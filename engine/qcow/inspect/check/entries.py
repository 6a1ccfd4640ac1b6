"""Walking the entries of L2 tables: what they refer to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...layout.constants import (
    L2_RESERVED_MASK,
    OFFSET_MASK,
    OFLAG_COMPRESSED,
    OFLAG_COPIED,
    OFLAG_ZERO,
)
from ...layout.tables import I64, OFFSETS, U64, compressed_fields
from ...record import record
from .counts import Adder
from .faults import EntryFaults, Rows, Scope, bits_of
from .tables import TableWindow

_COMPRESSED = np.uint64(OFLAG_COMPRESSED)
_COPIED = np.uint64(OFLAG_COPIED)
#: Runs are handled one by one when there is at most one for so many entries.
_ENTRIES_PER_RUN = 256

Bitmaps = NDArray[np.uint64]


@record
class Runs:
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

    What is wrong with the entries themselves goes to ``faults``, which is None when the tables are
    only walked to count again.  ``allocated``, ``fragmented`` and ``compressed`` are the
    active state's numbers as qemu-img counts them; ``spill`` the references to the cluster just
    behind the last one, which QEMU counts when less than a cluster of them is missing.
    """

    def __init__(self, scope: Scope, adder: Adder, faults: EntryFaults | None) -> None:
        self._scope = scope
        self._bits = scope.geometry.cluster_bits
        self._size = scope.geometry.cluster_size
        self._table_bits = scope.geometry.l2_entries.bit_length() - 1
        self._adder = adder
        self._faults = faults
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
            seen = bits_of(bitmaps)
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
        if bits_of(heads) & wrong:
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
        if window.active and self._faults is not None:
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
        number = np.flatnonzero(used)
        if not len(number):
            return WindowFacts()
        if len(number) < len(entries):
            entries = entries[number]
        maps = None if bitmaps is None else bitmaps[number].astype(np.uint64)
        rows = Rows(number, entries, maps)
        packed = WindowFacts()
        if bits_of(entries) & OFLAG_COMPRESSED:
            is_packed = (entries & _COMPRESSED) != 0
            packed = self._compressed(window, rows.take(is_packed))
            rows = rows.take(~is_packed)
            if not len(rows.number):
                return packed
        return _joined(packed, self._plain(window, rows))

    def _plain(self, window: TableWindow, rows: Rows) -> WindowFacts:
        if self._faults is not None:
            self._faults.plain(window, rows)
        offsets = (rows.entry & OFFSETS).astype(np.int64)
        placed = offsets != 0
        if self._scope.data_file:
            # In a data file offset 0 is a place like any other; COPIED tells it from no place.
            placed |= rows.entry >= _COPIED
        if not placed.all():
            rows, offsets = rows.take(placed), offsets[placed]
        if not len(offsets):
            return WindowFacts()
        if self._faults is not None:
            self._count_allocated(window, rows.number, offsets)
            self._faults.placed(window, rows, offsets)
        copied = int(np.count_nonzero(rows.entry >= _COPIED))
        facts = WindowFacts() if self._scope.data_file else self._references(window, offsets)
        return facts._replace(allocated=len(offsets), copied=copied)

    def _count_allocated(self, window: TableWindow, number: I64, offsets: I64) -> None:
        if not window.active:
            return
        table = number >> self._table_bits
        apart = (table[1:] == table[:-1]) & (offsets[1:] != offsets[:-1] + self._size)
        self.allocated += len(number) * window.active
        self.fragmented += int(np.count_nonzero(apart)) * window.active

    def _references(self, window: TableWindow, offsets: I64) -> WindowFacts:
        """Add the clusters at ``offsets``; (low, high, beyond) of the facts."""
        space = self._scope.space
        clusters = offsets >> self._bits
        facts = WindowFacts(int(clusters.min()), int(clusters.max()))
        if int(offsets.max()) >= space.length:
            inside = offsets < space.length
            self._add_beyond(clusters[~inside], window.times)
            facts = facts._replace(beyond=True)
            offsets, clusters = offsets[inside], clusters[inside]
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

    # -- compressed clusters ----------------------------------------------------------------------

    def _compressed(self, window: TableWindow, rows: Rows) -> WindowFacts:
        if self._faults is not None:
            self._faults.compressed(window, rows)
        if self._scope.data_file:
            return WindowFacts()
        if rows.maps is not None:
            rows = rows.take(rows.maps == 0)
        found = len(rows.number)
        if not found:
            return WindowFacts()
        if self._faults is not None:
            # QEMU counts every compressed cluster as fragmented.
            self.allocated += found * window.active
            self.compressed += found * window.active
            self.fragmented += found * window.active
        space = self._scope.space
        offsets, lengths = compressed_fields(rows.entry, self._scope.geometry)
        first, last = offsets >> self._bits, (offsets + lengths - 1) >> self._bits
        outside = offsets + lengths - space.length >= self._size
        beyond = bool(outside.any())
        if beyond:
            for clusters in _touched(first[outside], last[outside]):
                self._add_beyond(clusters, window.times)
            first, last = first[~outside], last[~outside]
            if not len(first):
                return WindowFacts(compressed=found, beyond=True)
        for clusters in _touched(first, last):
            self._adder.many(clusters, window.times)
            self._adder.packed(clusters)
            self._count_spill(clusters, window.times)
        return WindowFacts(int(first.min()), int(last.max()), compressed=found, beyond=beyond)


def _touched(first: I64, last: I64) -> list[I64]:
    """The clusters of ``[first, last]`` of all rows, one array for each step from the first."""
    return [(first + step)[first + step <= last] for step in range(int((last - first).max()) + 1)]


def _joined(packed: WindowFacts, plain: WindowFacts) -> WindowFacts:
    low, high = plain.low, plain.high
    if packed.low <= packed.high:
        low, high = packed.low, packed.high
        if plain.low <= plain.high:
            low, high = min(low, plain.low), max(high, plain.high)
    return WindowFacts(
        low,
        high,
        plain.allocated,
        plain.copied,
        packed.compressed,
        packed.beyond or plain.beyond,
    )
