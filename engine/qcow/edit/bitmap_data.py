"""The bits of persistent bitmaps: reading them, and changing them in a transaction.

A bitmap is a table of 8-byte entries, each for one cluster of bits (qcow2 spec, "Bitmap table"):
0 for all zeros, 1 for all ones, else the host offset of the cluster.  Bit ``i``, the least
significant of a byte first, stands for guest bytes from ``i << granularity_bits`` on.  Changed
clusters and tables go to free places; what nobody looks at any more is given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import EditRefused
from ..image.image import Image
from ..layout.bitmaps import DIRTY_BITMAP, BitmapEntry
from ..layout.constants import (
    BITMAP_TABLE_ALL_ONES,
    BITMAP_TABLE_OFFSET_MASK,
    MAX_BITMAP_BYTES,
    MAX_BITMAP_TABLE_ENTRIES,
)
from ..layout.geometry import Geometry
from ..layout.tables import I64, U64, decode_u64, encode_u64
from ..record import replace
from ..storage.base import Storage
from ..storage.buffers import page_aligned
from ..text import safe
from .rewriting import write_scattered

if TYPE_CHECKING:
    from .transaction import Transaction

#: Bytes of bits that are looked at together.
_WINDOW = 1 << 20
_ONES = np.uint64(BITMAP_TABLE_ALL_ONES)
_OFFSETS = np.uint64(BITMAP_TABLE_OFFSET_MASK)

Bytes = NDArray[np.uint8]


class Ranges(NamedTuple):
    """Guest bytes ``[start, end)``: int64[n] each, ascending, apart from each other."""

    start: I64
    end: I64

    @classmethod
    def joined(cls, start: I64, end: I64) -> Ranges:
        """Ranges in any order, which may overlap."""
        there = end > start
        start, end = start[there], end[there]
        order = np.argsort(start, kind="stable")
        start, end = start[order], np.maximum.accumulate(end[order])
        fresh = np.ones(len(start), dtype=np.bool_)
        fresh[1:] = start[1:] > end[:-1]
        heads = np.flatnonzero(fresh)
        return cls(start[heads], end[np.append(heads[1:], len(start)) - 1] if len(heads) else end)

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Ranges:
        """From (start, end) pairs in any order."""
        both = np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
        return cls.joined(both[:, 0], both[:, 1])


def table_entries(size: int, granularity: int, cluster_size: int) -> int:
    """Entries of the table of a bitmap for a disk of ``size`` bytes.

    Raises EditRefused, in QEMU's words, when it would be larger than any reader accepts.
    """
    bits = -(-size // granularity)
    data = -(-bits // 8)
    if data > min(MAX_BITMAP_BYTES, MAX_BITMAP_TABLE_ENTRIES * cluster_size):
        raise EditRefused("Too much space will be occupied by the bitmap. Use larger granularity")
    return -(-data // cluster_size)


def dirty_ranges(image: Image, bitmap: BitmapEntry) -> Iterator[Ranges]:
    """The guest ranges whose bits are set, ascending; about a window of bits at a time.

    Ranges of two windows may touch.  The last one ends with the disk.  Raises EditRefused for a
    bitmap that is inconsistent or damaged.
    """
    require_consistent(bitmap)
    geometry = image.usable_geometry_for_tables()
    fault = bitmap.fault(geometry.cluster_size, image.virtual_size)
    if fault is not None:
        raise EditRefused(f"Bitmap '{safe(bitmap.name)}' cannot be used: {fault}.")
    yield from _Bits(image.storage, geometry, bitmap).dirty(image.virtual_size)


def require_consistent(bitmap: BitmapEntry) -> None:
    """Raise EditRefused, in QEMU's words, for a bitmap that was not written back."""
    if bitmap.in_use:
        raise EditRefused(
            f"Bitmap '{safe(bitmap.name)}' is inconsistent and cannot be used\n"
            "Try 'bitmap --remove' to delete it."
        )


def empty_bitmap(tx: Transaction, name: bytes, granularity: int, flags: int) -> BitmapEntry:
    """An entry for ``tx.bitmaps``, whose table is placed and all of whose bits are clear.

    Raises EditRefused as :func:`table_entries`.
    """
    entries = table_entries(tx.header.virtual_size, granularity, tx.geometry.cluster_size)
    return BitmapEntry(
        index=len(tx.bitmaps),
        table_offset=tx.place(bytes(entries * 8)),
        table_size=entries,
        flags=flags,
        type=DIRTY_BITMAP,
        granularity_bits=granularity.bit_length() - 1,
        extra_size=0,
        name=name,
    )


def set_ranges(tx: Transaction, bitmap: BitmapEntry, ranges: Ranges) -> None:
    """Set the bits of guest ranges of one of ``tx.bitmaps``.

    Ranges beyond the disk as it is in ``tx.header`` are cut.  Raises EditRefused for an
    inconsistent bitmap.
    """
    edit = BitmapEdit(tx, bitmap)
    edit.set(ranges)
    edit.finish()


def clear(tx: Transaction, bitmap: BitmapEntry) -> None:
    """Clear all bits of one of ``tx.bitmaps``.  Raises EditRefused for an inconsistent one."""
    edit = BitmapEdit(tx, bitmap)
    edit.clear()
    edit.finish()


def resize(tx: Transaction, bitmap: BitmapEntry, new_size: int) -> None:
    """Make one of ``tx.bitmaps`` fit a disk of ``new_size`` bytes; new bits are clear.

    The old size is that of ``tx.image``, so each bitmap is resized once in a transaction, before
    its bits are changed.  Raises EditRefused for an inconsistent bitmap and for one that would
    become too large.
    """
    edit = BitmapEdit(tx, bitmap, tx.image.virtual_size)
    edit.resize(new_size)
    edit.finish()


def release(tx: Transaction, bitmap: BitmapEntry) -> None:
    """Give up table and bits of a bitmap that leaves ``tx.bitmaps``."""
    bits = _Bits(tx.image.storage, tx.geometry, bitmap)
    offsets = bits.table & _OFFSETS
    tx.ledger.add(_clusters(offsets[offsets != 0], tx.geometry), -1)
    tx.release(bitmap.table_offset, bitmap.table_size * 8)


def _clusters(offsets: U64, geometry: Geometry) -> I64:
    clusters: I64 = (offsets >> np.uint64(geometry.cluster_bits)).astype(np.int64)
    return clusters


class _Bits:
    """Table and bits of one bitmap as they are in a file."""

    def __init__(self, storage: Storage, geometry: Geometry, bitmap: BitmapEntry) -> None:
        self._storage = storage
        self.geometry = geometry
        self.bitmap = bitmap
        length = bitmap.table_size * 8
        self.table: U64 = decode_u64(storage.read(bitmap.table_offset, length))
        if len(self.table) < bitmap.table_size:
            raise EditRefused(
                f"The table of bitmap '{safe(bitmap.name)}' is cut off by the end of the file."
            )
        #: Entries looked at together.
        self.step = max(1, _WINDOW // geometry.cluster_size)

    def load(self, first: int, entries: int) -> Bytes:
        """The bits of some table entries: uint8[entries, cluster size]."""
        size = self.geometry.cluster_size
        part = self.table[first : first + entries]
        bits = np.zeros((len(part), size), dtype=np.uint8)
        offsets = (part & _OFFSETS).astype(np.int64)
        bits[(offsets == 0) & (part & _ONES != 0)] = 0xFF
        there = np.flatnonzero(offsets)
        if len(there) == len(part):
            self._storage.read_pieces(offsets.tolist(), size, bits.reshape(-1).data)
        elif len(there):
            found = page_aligned(len(there) * size).reshape(-1, size)
            self._storage.read_pieces(offsets[there].tolist(), size, found.reshape(-1).data)
            bits[there] = found
        return bits

    def dirty(self, disk_size: int) -> Iterator[Ranges]:
        granularity = self.bitmap.granularity_bits
        total = -(-disk_size // self.bitmap.granularity)
        per = self.geometry.cluster_size * 8
        for first in range(0, len(self.table), self.step):
            part = self.table[first : first + self.step]
            if not part.any():
                continue
            below = first * per
            count = min(total - below, len(part) * per)
            if count <= 0:
                return
            if bool(((part & _OFFSETS == 0) & (part & _ONES != 0)).all()):
                edges = np.array([0, count], dtype=np.int64)
            else:
                edges = _edges(self.load(first, self.step).reshape(-1), count)
            if len(edges):
                start = (edges[0::2] + below) << granularity
                end = np.minimum((edges[1::2] + below) << granularity, disk_size)
                yield Ranges(start, end)


def _edges(bits: Bytes, count: int) -> I64:
    """Where the first ``count`` bits change, from an imagined 0 to an imagined 0 behind."""
    # Most of a bitmap is bytes of eight equal bits; only around the others are bits looked at.
    used = np.flatnonzero(bits)
    if not len(used):
        return np.zeros(0, dtype=np.int64)
    low = int(used[0]) * 8
    high = min(count, int(used[-1]) * 8 + 8)
    if high <= low:
        return np.zeros(0, dtype=np.int64)
    flat = np.unpackbits(bits[low // 8 : -(-high // 8)], bitorder="little", count=high - low)
    edges: I64 = np.flatnonzero(np.diff(flat, prepend=0, append=0)) + low
    return edges


class BitmapEdit:
    """One of ``tx.bitmaps`` under change: its bits, then :meth:`finish`.

    Bits go to free clusters at once, the table with :meth:`finish`, which puts the changed entry
    into ``tx.bitmaps``.
    """

    def __init__(self, tx: Transaction, bitmap: BitmapEntry, disk_size: int | None = None) -> None:
        """``disk_size``: bytes the bitmap covers; None for the disk as ``tx.header`` has it."""
        require_consistent(bitmap)
        self._tx = tx
        self._bitmap = bitmap
        self._size = tx.header.virtual_size if disk_size is None else disk_size
        self._bits = _Bits(tx.image.storage, tx.geometry, bitmap)
        self._before = self._bits.table.copy()
        self._per = tx.geometry.cluster_size * 8  # bits of one table entry

    def set(self, ranges: Ranges) -> None:
        """Set the bits of guest ranges; of a part of what a bit stands for, the whole bit."""
        shift = self._bitmap.granularity_bits
        total = self._total()
        first = ranges.start >> shift
        stop = np.minimum(((ranges.end - 1) >> shift) + 1, total)
        bits = Ranges.joined(first, stop)
        if not len(bits.start):
            return
        step = self._bits.step * self._per
        # Which windows hold anything: a range may span many, and many ranges may lie in one.
        change = np.zeros(-(-total // step) + 1, dtype=np.int64)
        np.add.at(change, bits.start // step, 1)
        np.add.at(change, (bits.end - 1) // step + 1, -1)
        for window in np.flatnonzero(np.cumsum(change)).tolist():
            self._set_window(bits, window * step, min(total, (window + 1) * step))

    def clear(self) -> None:
        """Clear all bits."""
        self._replace(np.arange(len(self._bits.table)), np.zeros_like(self._bits.table))

    def resize(self, new_size: int) -> None:
        """Make it fit a disk of ``new_size`` bytes."""
        size = self._tx.geometry.cluster_size
        entries = table_entries(new_size, self._bitmap.granularity, size)
        if new_size > self._size:
            self._cut_stray_bits()
        table = self._bits.table
        if entries < len(table):
            gone = np.arange(entries, len(table))
            self._replace(gone, np.zeros(len(gone), dtype=np.uint64))
        self._bits.table = np.zeros(entries, dtype=np.uint64)
        kept = table[:entries]
        self._bits.table[: len(kept)] = kept
        self._size = new_size

    def finish(self) -> BitmapEntry:
        """Place the table where it changed; the entry as it is now in ``tx.bitmaps``."""
        tx, old = self._tx, self._bitmap
        table = self._bits.table
        if np.array_equal(table, self._before):
            return old
        if not len(table):
            raise EditRefused(
                f"Bitmap '{safe(old.name)}' cannot stay on a disk of 0 bytes: remove it first."
            )
        tx.release(old.table_offset, old.table_size * 8)
        new = replace(old, table_offset=tx.place(encode_u64(table).data), table_size=len(table))
        tx.bitmaps[tx.bitmaps.index(old)] = new
        self._bitmap, self._before = new, table.copy()
        return new

    # ---- the inside

    def _total(self) -> int:
        """Bits that stand for something."""
        return -(-self._size // self._bitmap.granularity)

    def _set_window(self, bits: Ranges, low: int, high: int) -> None:
        """Set bits, as numbers of bits, as far as they lie in ``[low, high)``, a window."""
        left = int(np.searchsorted(bits.end, low, side="right"))
        right = int(np.searchsorted(bits.start, high, side="left"))
        start = np.maximum(bits.start[left:right], low)
        end = np.minimum(bits.end[left:right], high)
        if not len(start):
            return
        per = self._per
        first, stop = int(start[0]) // per, -(-int(end[-1]) // per)
        start, end = start - first * per, end - first * per
        change = np.zeros((stop - first) * per + 1, dtype=np.int8)
        change[start] = 1
        change[end] = -1
        mask = np.packbits(np.cumsum(change[:-1], dtype=np.int8), bitorder="little")
        self._store(first, self._bits.load(first, stop - first), mask.reshape(stop - first, -1))

    def _store(self, first: int, old: Bytes, mask: Bytes) -> None:
        new = old | mask
        differs = (new != old).any(axis=1)
        if differs.any():
            self._write(first + np.flatnonzero(differs), new[differs])

    def _write(self, entries: I64, bits: Bytes) -> None:
        """Give table ``entries`` (ascending) other bits: uint8[n, cluster size]."""
        full = self._full(entries, bits)
        words = np.where(full, _ONES, np.uint64(0))
        stored = ~full & bits.any(axis=1)
        words[stored] = self._put(entries[stored], bits[stored])
        self._replace(entries, words)

    def _put(self, entries: I64, bits: Bytes) -> U64:
        """Write bits for table ``entries`` to places of this transaction; their offsets."""
        tx, geometry = self._tx, self._tx.geometry
        if not len(entries):
            return np.zeros(0, dtype=np.uint64)
        clusters = _clusters(self._bits.table[entries] & _OFFSETS, geometry)
        own = (tx.ledger.marks_of(clusters) & tx.MINE) != 0
        clusters[~own] = tx.ledger.allocate(int(np.count_nonzero(~own)))
        tx.ledger.add(clusters, 1)
        order = np.argsort(clusters)
        write_scattered(tx, clusters[order], bits[order].reshape(-1).data)
        return clusters.astype(np.uint64) << np.uint64(geometry.cluster_bits)

    def _full(self, entries: I64, bits: Bytes) -> NDArray[np.bool_]:
        """Which rows have every bit set that stands for something."""
        full: NDArray[np.bool_] = (bits == 0xFF).all(axis=1)
        last, rest = divmod(self._total(), self._per)
        if rest and int(entries[-1]) == last:
            row = np.unpackbits(bits[-1], bitorder="little", count=rest)
            full[-1] = bool(row.all())
        return full

    def _replace(self, entries: I64, words: U64) -> None:
        """Put ``words`` into the table and give up the clusters they replace."""
        old = self._bits.table[entries] & _OFFSETS
        self._tx.ledger.add(_clusters(old[old != 0], self._tx.geometry), -1)
        self._bits.table[entries] = words

    def _cut_stray_bits(self) -> None:
        """Clear what the last cluster holds behind the end of the disk.

        Those bits mean nothing until the disk grows: then they would be new ones.
        """
        entry, rest = divmod(self._total(), self._per)
        if not rest:
            return
        old = self._bits.load(entry, 1)
        new = old.copy()
        new[0, -(-rest // 8) :] = 0
        if rest % 8:
            new[0, rest // 8] &= (1 << rest % 8) - 1
        if (new != old).any():
            where = np.array([entry], dtype=np.int64)
            words = self._put(where, new) if new.any() else np.zeros(1, dtype=np.uint64)
            self._replace(where, words)
