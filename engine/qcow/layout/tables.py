"""L1, L2, refcount and bitmap tables as numpy arrays (big-endian on disk, native here)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .constants import OFFSET_MASK, OFLAG_COMPRESSED
from .geometry import Geometry

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
#: uint64 scalars: mixing Python ints above 2**63 into uint64 arithmetic is slow or refused.
OFFSETS: Final = np.uint64(OFFSET_MASK)


def decode_u64(data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> U64:
    """Whole big-endian 64-bit words of ``data`` as a new native uint64 array."""
    words = np.frombuffer(data, dtype=">u8", count=len(data) // 8)
    return words.astype(np.uint64)


def encode_u64(words: U64) -> NDArray[np.uint8]:
    """``words`` as big-endian bytes: a new uint8 array of 8 bytes for each."""
    return words.astype(">u8").view(np.uint8)


def decode_refcounts(
    block: bytes | bytearray | memoryview | NDArray[np.uint8], refcount_order: int
) -> NDArray[np.unsignedinteger]:
    """All refcounts of a block (or of several adjacent blocks), one per cluster, native order.

    The dtype is the narrowest that holds the width: uint8, uint16, uint32 or uint64.

    Entries below a byte fill each byte from its least significant bit (qcow2 spec, "Refcount
    blocks").
    """
    raw = np.frombuffer(block, dtype=np.uint8)
    if refcount_order >= 3:
        width = 1 << refcount_order >> 3
        return raw[: len(raw) // width * width].view(f">u{width}").astype(f"u{width}")
    if refcount_order == 0:
        return np.unpackbits(raw, bitorder="little")
    bits = 1 << refcount_order
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (raw[:, None] >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(-1)


def compressed_fields(entries: U64, geometry: Geometry) -> tuple[I64, I64]:
    """(byte offsets, byte budgets) of compressed L2 entries, int64."""
    shift = np.uint64(geometry.compressed_offset_bits)
    offset = entries & np.uint64((1 << geometry.compressed_offset_bits) - 1)
    sectors = ((entries & np.uint64((1 << 62) - 1)) >> shift) + np.uint64(1)
    length = sectors * np.uint64(512) - (offset & np.uint64(511))
    return offset.astype(np.int64), length.astype(np.int64)


def encode_refcounts(counts: NDArray[np.integer], refcount_order: int) -> NDArray[np.uint8]:
    """One or several whole refcount blocks: the inverse of :func:`decode_refcounts`.

    ``counts`` has one integer of any dtype for each cluster.  Raises ValueError when one is
    negative or wider than the refcounts are, or when they do not fill whole bytes.
    """
    bits = 1 << refcount_order
    if len(counts) * bits % 8:
        raise ValueError(f"{len(counts)} refcounts of {bits} bits do not fill whole bytes")
    if len(counts):
        least, most = int(counts.min()), int(counts.max())
        if least < 0 or most >> bits:
            wrong = least if least < 0 else most
            raise ValueError(f"a refcount of {wrong} does not fit into {bits} bits")
    if refcount_order >= 3:
        return counts.astype(f">u{bits // 8}").view(np.uint8)
    narrow = counts.astype(np.uint8)
    if refcount_order == 0:
        return np.packbits(narrow, bitorder="little")
    parts = narrow.reshape(-1, 8 // bits)
    packed = parts[:, 0].copy()
    for index in range(1, 8 // bits):
        packed |= parts[:, index] << np.uint8(index * bits)
    return packed


def compressed_entries(offsets: I64, lengths: I64, geometry: Geometry) -> U64:
    """L2 entries for compressed data of ``lengths`` bytes at byte ``offsets`` of the file.

    Raises ValueError when an entry cannot describe its place.
    """
    shift = geometry.compressed_offset_bits
    sectors = ((offsets + lengths - 1) >> 9) - (offsets >> 9)
    if len(offsets) and (
        int(offsets.min()) < 0
        or int(lengths.min()) < 1
        or int(offsets.max()) >> shift
        or int(sectors.max()) >> (62 - shift)
    ):
        raise ValueError("compressed data lies where an L2 entry cannot say")
    words = sectors.astype(np.uint64) << np.uint64(shift)
    return words | offsets.astype(np.uint64) | np.uint64(OFLAG_COMPRESSED)
