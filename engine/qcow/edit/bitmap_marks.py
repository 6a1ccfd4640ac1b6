"""Keeping persistent dirty bitmaps right while guest data changes (qcow2 spec, "Bitmaps").

A bitmap that is enabled records every change of guest data; the one that says less than that would
make the next incremental backup wrong.  Its data clusters and its table are written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..layout.bitmaps import BitmapEntry
from ..layout.constants import BITMAP_TABLE_ALL_ONES, BITMAP_TABLE_OFFSET_MASK
from ..layout.tables import U64, decode_u64, encode_u64

if TYPE_CHECKING:
    from .transaction import Transaction

_OFFSETS = np.uint64(BITMAP_TABLE_OFFSET_MASK)
_ALL_ONES = np.uint64(BITMAP_TABLE_ALL_ONES)


def mark_dirty(tx: Transaction, ranges: Sequence[tuple[int, int]]) -> None:
    """Set the bits of guest bytes ``ranges`` (start, end) in every enabled bitmap.

    A bitmap that is inconsistent or cannot be understood says nothing, and stays as it is.
    """
    if not tx.image.bitmaps_valid or not ranges:
        return
    for place, entry in enumerate(tx.bitmaps):
        if entry.auto and not entry.in_use and not _fault(tx, entry):
            tx.bitmaps[place] = _Table(tx, entry).marked(ranges)


def resize_bitmaps(tx: Transaction, size: int) -> None:
    """Make every bitmap fit a disk of ``size`` bytes; bits of an area that is new are clear."""
    if not tx.image.bitmaps_valid:
        return
    for place, entry in enumerate(tx.bitmaps):
        tx.bitmaps[place] = _Table(tx, entry).resized(tx.image.virtual_size, size)


def _fault(tx: Transaction, entry: BitmapEntry) -> str | None:
    return entry.fault(tx.geometry.cluster_size, tx.header.virtual_size)


class _Table:
    """One bitmap under change: its table (uint64 entries) and the clusters of bits it names."""

    def __init__(self, tx: Transaction, entry: BitmapEntry) -> None:
        self._tx = tx
        self._entry = entry
        self._size = tx.geometry.cluster_size
        raw = tx.image.storage.read(entry.table_offset, entry.table_size * 8)
        self._table: U64 = decode_u64(raw.ljust(entry.table_size * 8, b"\0"))
        self._before = self._table.copy()

    def marked(self, ranges: Sequence[tuple[int, int]]) -> BitmapEntry:
        """With the bits of ``ranges`` set."""
        per = self._size * 8
        bits = self._entry.granularity_bits
        changes: dict[int, list[tuple[int, int]]] = {}
        for start, end in ranges:
            first, stop = start >> bits, -(-end >> bits)
            for index in range(first // per, -(-stop // per)):
                low = max(first - index * per, 0)
                changes.setdefault(index, []).append((low, min(stop - index * per, per)))
        for index, pieces in changes.items():
            self._set(index, pieces)
        return self._placed()

    def resized(self, old: int, new: int) -> BitmapEntry:
        """For a disk that had ``old`` bytes and has ``new`` ones."""
        granularity = self._entry.granularity
        bits = -(-min(old, new) // granularity)
        bits_wanted = -(-new // granularity)
        bytes_wanted = -(-bits_wanted // 8)
        entries = -(-bytes_wanted // self._size)
        last, used = divmod(bits, self._size * 8)
        for index in range(entries, len(self._table)):
            self._drop(index)
        table: U64 = np.zeros(entries, dtype=np.uint64)
        kept = self._table[:entries]
        table[: len(kept)] = kept
        self._table = table
        # Bits behind the end of the smaller disk must not show up when it is the larger one.
        if used and last < len(kept) and int(self._table[last]):
            cells = self._bits(last)
            if cells[used:].any():
                cells[used:] = 0
                self._replace(last, np.packbits(cells, bitorder="little").data)
        if last + 1 < len(kept) or (not used and last < len(kept)):
            for index in range(last if not used else last + 1, len(kept)):
                self._drop(index)
        return self._placed()

    def _bits(self, index: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """The bits of one table entry: uint8 of 0 and 1, as many as a cluster holds."""
        word = int(self._table[index])
        offset = word & BITMAP_TABLE_OFFSET_MASK
        if not offset:
            value = np.uint8(word & BITMAP_TABLE_ALL_ONES)
            return np.full(self._size * 8, value, dtype=np.uint8)
        raw = self._tx.image.storage.read(offset, self._size).ljust(self._size, b"\0")
        return np.unpackbits(np.frombuffer(raw, dtype=np.uint8), bitorder="little")

    def _set(self, index: int, pieces: Sequence[tuple[int, int]]) -> None:
        cells = self._bits(index)
        if all(bool(cells[low:high].all()) for low, high in pieces):
            return
        for low, high in pieces:
            cells[low:high] = 1
        self._replace(index, np.packbits(cells, bitorder="little").data)

    def _replace(self, index: int, data: memoryview) -> None:
        self._drop(index)
        self._table[index] = np.uint64(self._tx.place(data))

    def _drop(self, index: int) -> None:
        offset = int(self._table[index]) & BITMAP_TABLE_OFFSET_MASK
        if offset:
            self._tx.release(offset, self._size)
        self._table[index] = 0

    def _placed(self) -> BitmapEntry:
        if np.array_equal(self._table, self._before):
            return self._entry
        if self._entry.table_size:
            self._tx.release(self._entry.table_offset, self._entry.table_size * 8)
        offset = self._tx.place(encode_u64(self._table).data)
        return replace(self._entry, table_offset=offset, table_size=len(self._table))
