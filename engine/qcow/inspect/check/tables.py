"""The distinct L2 tables of an image: each is read once, however many states share it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StorageError
from ...layout.geometry import Geometry
from ...layout.tables import I64, U64
from ...record import record
from ...storage.base import Storage
from ...storage.buffers import page_aligned

I32 = NDArray[np.int32]
#: Bytes of L2 tables that are looked at together (at least one table).
WINDOW_BYTES = 1 << 21


@record
class L2TableSet:
    """Arrays of one length, ascending by ``offset``.

    ``offset``: int64, host bytes.  ``times``: int64, how many L1 entries of all states refer to the
    table.  ``active``: int32, how many of them are in the active L1 table.
    """

    offset: I64
    times: I64
    active: I32

    def take(self, which: NDArray[np.bool_]) -> L2TableSet:
        return L2TableSet(self.offset[which], self.times[which], self.active[which])


@record
class TableWindow:
    """L2 tables that are looked at together: ``offsets`` in bytes, all with the same counts."""

    number: int
    offsets: I64
    times: int
    active: int


class TableTally:
    """Counts how often each L2 table is referred to, in memory bounded by distinct tables."""

    #: Entries gathered before they are folded together.
    FOLD = 1 << 21

    def __init__(self) -> None:
        self._columns: tuple[list[NDArray[Any]], ...] = ([], [], [])
        self._pending = 0

    def add(self, offsets: I64, times: I64, active: I32) -> None:
        """``times`` and ``active`` references to each of ``offsets`` (any order, repeats)."""
        if not len(offsets):
            return
        self._columns[0].append(offsets)
        self._columns[1].append(times)
        self._columns[2].append(active)
        self._pending += len(offsets)
        if self._pending > self.FOLD:
            self._fold()
            self._pending = len(self._columns[0][0]) // 2

    def result(self) -> L2TableSet:
        if not self._columns[0]:
            none = np.zeros(0, dtype=np.int64)
            return L2TableSet(none, none, none.astype(np.int32))
        self._fold()
        return L2TableSet(self._columns[0][0], self._columns[1][0], self._columns[2][0])

    def _fold(self) -> None:
        # Column by column, so that not all of them are there twice.
        offsets, times, active = self._columns
        joined = np.concatenate(offsets)
        offsets.clear()
        if bool((joined[1:] > joined[:-1]).all()):
            offsets.append(joined)
            for column in (times, active):
                column[:] = [np.concatenate(column)]
            return
        order = np.argsort(joined, kind="stable")
        joined = joined[order]
        heads = np.flatnonzero(np.diff(joined, prepend=joined[0] - 1))
        offsets.append(joined[heads])
        del joined
        for column in (times, active):
            whole = np.concatenate(column)
            column.clear()
            column.append(np.add.reduceat(whole[order], heads, dtype=whole.dtype))


def table_windows(tables: L2TableSet, geometry: Geometry) -> list[TableWindow]:
    """The tables in windows of :data:`WINDOW_BYTES`, equally often used ones together."""
    per_window = max(1, WINDOW_BYTES >> geometry.cluster_bits)
    found: list[TableWindow] = []
    if not len(tables.offset):
        return found
    order = np.lexsort((tables.offset, tables.active, tables.times))
    offsets, times, active = tables.offset[order], tables.times[order], tables.active[order]
    changes = np.flatnonzero(np.diff(times) | np.diff(active)) + 1
    starts = [0, *changes.tolist()]
    for start, stop in zip(starts, [*starts[1:], len(offsets)], strict=True):
        at = start
        while at < stop:
            # A "table" at offset 0 is the header: a damaged L1 entry, looked at on its own.
            end = at + 1 if offsets[at] == 0 else min(stop, at + per_window)
            part = offsets[at:end]
            found.append(TableWindow(len(found), part, int(times[start]), int(active[start])))
            at = end
    return found


class TableReader:
    """Reads windows of L2 tables into buffers that are used again and again; one per thread."""

    def __init__(self, storage: Storage, geometry: Geometry) -> None:
        self._storage = storage
        self._piece = geometry.cluster_size
        self._extended = geometry.extended_l2
        most = max(WINDOW_BYTES, self._piece)
        self._bytes = page_aligned(most)
        self._view = self._bytes.data
        self._words: U64 = np.empty(most // geometry.l2_entry_size, dtype=np.uint64)

    def load(self, offsets: I64) -> tuple[U64, NDArray[np.uint64] | None]:
        """(entries uint64[n] native, subcluster bitmaps uint64[n] *big-endian* or None).

        Valid until the next call.  Bytes beyond the end of the file are zero.  Raises
        StorageError.
        """
        length = len(offsets) * self._piece
        self._storage.read_pieces(offsets.tolist(), self._piece, self._view[:length])
        return self._decode(length)

    def load_each(self, offsets: I64) -> tuple[list[int], U64, NDArray[np.uint64] | None]:
        """As :meth:`load`, but unreadable tables count as empty; (their offsets, ...)."""
        failed: list[int] = []
        for number, offset in enumerate(offsets.tolist()):
            part = self._view[number * self._piece : (number + 1) * self._piece]
            try:
                self._storage.read_pieces([offset], self._piece, part)
            except StorageError:
                failed.append(offset)
                part[:] = bytes(self._piece)
        entries, bitmaps = self._decode(len(offsets) * self._piece)
        return failed, entries, bitmaps

    def _decode(self, length: int) -> tuple[U64, NDArray[np.uint64] | None]:
        words = self._bytes[:length].view(">u8")
        if self._extended:
            entries = self._words[: len(words) // 2]
            np.copyto(entries, words[0::2], casting="equiv")
            return entries, words[1::2]
        entries = self._words[: len(words)]
        np.copyto(entries, words, casting="equiv")
        return entries, None
