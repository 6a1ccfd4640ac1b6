"""The tables of an image under construction, and how each is laid out on disk."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from qcow.layout.constants import (
    BITMAP_AUTO,
    BITMAP_IN_USE,
    OFFSET_MASK,
    OFLAG_COMPRESSED,
    OFLAG_COPIED,
)
from qcow.layout.geometry import Geometry

_SNAPSHOT = struct.Struct(">QIHHIIQII")
_SNAPSHOT_EXTRA = struct.Struct(">QQQ")
_BITMAP = struct.Struct(">QIIBBHI")
_BITMAP_TYPE_DIRTY = 1
_WHOLE_ENTRIES = {3: "B", 4: "H", 5: "I", 6: "Q"}


@dataclass(eq=False)
class L2Table:
    """One L2 table: entries without the COPIED flag, which only the refcounts can tell.

    ``bitmaps`` holds the second word of an entry (extended L2); an index without one has 0.
    Tables are compared by identity: snapshots share them.
    """

    cluster: int  # host cluster number
    entries: dict[int, int] = field(default_factory=dict)
    bitmaps: dict[int, int] = field(default_factory=dict)

    def copy_to(self, cluster: int) -> L2Table:
        """The private copy that a write to a shared table makes."""
        return L2Table(cluster, dict(self.entries), dict(self.bitmaps))

    def encode(self, geometry: Geometry, copied: Callable[[int], bool]) -> bytes:
        """The table's cluster; ``copied`` says for a host cluster whether it has one owner."""
        words = geometry.l2_entry_size // 8
        raw = [0] * (geometry.cluster_size // 8)
        for index, entry in self.entries.items():
            plain = entry & OFFSET_MASK and not entry & OFLAG_COMPRESSED
            if plain and copied((entry & OFFSET_MASK) >> geometry.cluster_bits):
                entry |= OFLAG_COPIED
            raw[index * words] = entry
        for index, bitmap in self.bitmaps.items():
            raw[index * words + 1] = bitmap
        return encode_table(raw)


@dataclass(eq=False)
class SnapshotState:
    """An internal snapshot: its own L1 table, and what the snapshot table says about it."""

    id: bytes
    name: bytes
    l1_cluster: int
    l1_size: int
    l1: dict[int, L2Table]
    #: L1 indices whose COPIED flag was set when the table was copied; it stays as it was.
    l1_copied: frozenset[int]
    disk_size: int
    date_sec: int
    date_nsec: int
    vm_clock_nsec: int
    vm_state_size: int
    icount: int
    more_extra: bytes

    def encode(self, geometry: Geometry) -> bytes:
        """The entry of the snapshot table, without the padding behind it."""
        extra = _SNAPSHOT_EXTRA.pack(self.vm_state_size, self.disk_size, self.icount)
        extra += self.more_extra
        small = self.vm_state_size if self.vm_state_size < 1 << 32 else 0
        fixed = _SNAPSHOT.pack(
            self.l1_cluster << geometry.cluster_bits,
            self.l1_size,
            len(self.id),
            len(self.name),
            self.date_sec,
            self.date_nsec,
            self.vm_clock_nsec,
            small,
            len(extra),
        )
        return fixed + extra + self.id + self.name


@dataclass(eq=False)
class BitmapState:
    """A persistent dirty bitmap; ``table`` holds its table entries as stored."""

    name: bytes
    granularity_bits: int
    table_cluster: int
    table: list[int]
    auto: bool
    in_use: bool

    def encode(self, geometry: Geometry) -> bytes:
        """The entry of the bitmap directory, without the padding behind it."""
        flags = (BITMAP_AUTO if self.auto else 0) | (BITMAP_IN_USE if self.in_use else 0)
        fixed = _BITMAP.pack(
            self.table_cluster << geometry.cluster_bits,
            len(self.table),
            flags,
            _BITMAP_TYPE_DIRTY,
            self.granularity_bits,
            len(self.name),
            0,
        )
        return fixed + self.name


def encode_table(words: Sequence[int]) -> bytes:
    """64-bit big-endian words."""
    return struct.pack(f">{len(words)}Q", *words)


def encode_directory(entries: Iterator[bytes]) -> bytes:
    """Variable-length entries, each padded to a multiple of 8 bytes."""
    return b"".join(entry + bytes(-len(entry) % 8) for entry in entries)


def encode_refcount_block(geometry: Geometry, counts: Mapping[int, int], first: int) -> bytes:
    """The refcount block for the clusters from ``first``; sub-byte counts start at the low bit."""
    span = geometry.refcount_block_entries
    if geometry.refcount_order >= 3:
        code = _WHOLE_ENTRIES[geometry.refcount_order]
        values = [counts.get(cluster, 0) for cluster in range(first, first + span)]
        return struct.pack(f">{span}{code}", *values)
    out = bytearray(geometry.cluster_size)
    for index in range(span):
        count = counts.get(first + index, 0)
        if count:
            bit = index << geometry.refcount_order
            out[bit >> 3] |= count << (bit & 7)
    return bytes(out)
