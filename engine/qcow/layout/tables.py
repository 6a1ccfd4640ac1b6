"""L1, L2, refcount and bitmap tables as numpy arrays (big-endian on disk, native here)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .constants import OFFSET_MASK
from .geometry import Geometry

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
#: uint64 scalars: mixing Python ints above 2**63 into uint64 arithmetic is slow or refused.
OFFSETS: Final = np.uint64(OFFSET_MASK)


def decode_u64(data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> U64:
    """Whole big-endian 64-bit words of ``data`` as a new native uint64 array."""
    words = np.frombuffer(data, dtype=">u8", count=len(data) // 8)
    return words.astype(np.uint64)


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
