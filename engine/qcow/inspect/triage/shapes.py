"""What words on disk could be: entries of tables, refcounts, one value throughout."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...image.image import Image
from ...layout.constants import (
    L1_RESERVED_MASK,
    L2_RESERVED_MASK,
    MAX_L1_BYTES,
    MAX_NAME,
    MAX_SNAPSHOT_EXTRA,
    OFLAG_COMPRESSED,
    OFLAG_COPIED,
    OFLAG_ZERO,
)
from ...layout.tables import OFFSETS, U64

COMPRESSED = np.uint64(OFLAG_COMPRESSED)
COPIED = np.uint64(OFLAG_COPIED)
ZERO = np.uint64(OFLAG_ZERO)
_L1_RESERVED = np.uint64(L1_RESERVED_MASK)
_L2_RESERVED = np.uint64(L2_RESERVED_MASK)
_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)
#: A count above the number of states that share a cluster by so much is none.
_SLACK = 8
_LONGEST_ID = 64


class Shapes:
    """Judges words by the geometry of one image."""

    def __init__(self, image: Image) -> None:
        geometry = image.usable_geometry_for_tables()
        self.geometry = geometry
        self._odd = np.uint64(geometry.cluster_size - 1) & OFFSETS
        self._size = np.uint64(image.storage.size())
        self._data_file = image.header.has_data_file
        self._most = len(image.snapshots) + _SLACK
        self._packed_bits = np.uint64((1 << geometry.compressed_offset_bits) - 1)
        self._plain_zero = geometry.version >= 3 and not geometry.extended_l2

    def entries(self, words: U64) -> NDArray[np.bool_]:
        """Rows of ``words`` (uint64[k, n]) that could be (parts of) L2 tables (bool[k])."""
        values = words[:, 0::2] if self.geometry.extended_l2 else words
        good: NDArray[np.bool_] = self._good_entries(values)
        if self.geometry.extended_l2:
            bitmaps = words[:, 1::2]
            good = np.logical_and(good, ((bitmaps >> _SHIFT32) & bitmaps & _LOW32) == 0)
            good = np.logical_and(good, ((values & OFFSETS) != 0) | ((bitmaps & _LOW32) == 0))
        found: NDArray[np.bool_] = np.logical_and.reduce(good, axis=1)
        return found

    def _good_entries(self, values: U64) -> NDArray[np.bool_]:
        offsets = values & OFFSETS
        reserved = _L2_RESERVED if self._plain_zero else _L2_RESERVED | ZERO
        good: NDArray[np.bool_] = (values & (reserved | COMPRESSED)) == 0
        good &= (offsets & self._odd) == 0
        if not self._data_file:
            good &= offsets < self._size
            good &= (offsets != 0) | ((values & COPIED) == 0)
        packed = (values & (COMPRESSED | COPIED)) == COMPRESSED
        if packed.any() and not self._data_file:
            good = good | (packed & ((values & self._packed_bits) < self._size))
        return good

    def pointers(self, words: U64) -> NDArray[np.bool_]:
        """Rows that could be (parts of) L1 or refcount tables."""
        offsets = words & OFFSETS
        good: NDArray[np.bool_] = (words & _L1_RESERVED) == 0
        good &= ((offsets & self._odd) == 0) & (offsets < self._size)
        good &= (offsets != 0) | (words == 0)
        found: NDArray[np.bool_] = np.logical_and.reduce(good, axis=1)
        return found

    def counts(self, raw: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Rows of ``raw`` (uint8[k, n]) that could be (parts of) refcount blocks.

        Narrow counts look like anything, so that none is believed.
        """
        order = self.geometry.refcount_order
        if order < 3:
            return np.zeros(len(raw), dtype=bool)
        values = np.ascontiguousarray(raw).view(f">u{1 << order >> 3}")
        found: NDArray[np.bool_] = np.logical_and.reduce(values <= self._most, axis=1)
        return found

    def snapshots(self, raw: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Rows of ``raw`` (uint8[k, n], n >= 40) that begin like a snapshot table."""
        head = np.ascontiguousarray(raw[:, :40])
        words = head.view(">u8").astype(np.uint64)
        halves = head.view(">u2").astype(np.int64)
        l1_bytes = head.view(">u4").astype(np.int64)[:, 2] * 8
        extra = head.view(">u4").astype(np.int64)[:, 9]
        good: NDArray[np.bool_] = (words[:, 0] != 0) & (
            (words[:, 0] & np.uint64(self.geometry.cluster_size - 1)) == 0
        )
        good &= (words[:, 0] < self._size) & (l1_bytes > 0) & (l1_bytes <= MAX_L1_BYTES)
        good &= (halves[:, 6] > 0) & (halves[:, 6] <= _LONGEST_ID) & (halves[:, 7] <= MAX_NAME)
        found: NDArray[np.bool_] = good & (extra <= MAX_SNAPSHOT_EXTRA) & (extra % 8 == 0)
        return found


def uniform(raw: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Rows that hold one byte value throughout."""
    found: NDArray[np.bool_] = (raw == raw[:, :1]).all(axis=1)
    return found
