"""Telling tables from guest data, so that none of the latter gets into a bundle.

A pointer into a table region can be wrong, and a table can be overwritten: what is read as a table
then holds what a guest wrote.  A sector in which several words cannot be what a table of this image
holds is left out; where the cluster is mapped as guest data as well, one such word is enough.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..image.image import Image
from ..image.refcounts import refcount_table
from ..inspect.classes import ClusterClass
from ..inspect.owners import scan_owners
from ..jobs import CancelToken, ProgressCallback
from ..layout.constants import (
    L2_RESERVED_MASK,
    OFLAG_COMPRESSED,
    REFCOUNT_TABLE_OFFSET_MASK,
)
from ..layout.geometry import Geometry
from ..layout.tables import OFFSETS, U64, compressed_fields, decode_refcounts, decode_u64

_SECTOR = 512
#: Words of a sector that may be wrong for one damaged by a bit or a byte, not overwritten.
_STRAY = 2
Bools = NDArray[np.bool_]


class Sieve:
    """Judges what is read as tables of ``image``."""

    def __init__(
        self,
        image: Image,
        geometry: Geometry,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        """Raises GuestDataError, StorageError, Cancelled."""
        self._geometry = geometry
        self._owners = scan_owners(image, progress=progress, cancel=cancel)
        header = image.header
        size = geometry.clusters(image.storage.size()) << geometry.cluster_bits
        # In an image with a data file the entries of L2 tables are offsets in that one.
        self._limit = size if not header.has_data_file else 2 * header.virtual_size + (1 << 30)
        blocks = refcount_table(image) & np.uint64(REFCOUNT_TABLE_OFFSET_MASK)
        self._blocks = frozenset(blocks[blocks != 0].tolist())
        states = len(image.snapshots) + 1
        #: More references than this no cluster has, in good order.
        self._most = states * (geometry.cluster_size // _SECTOR + 1)
        #: Bytes left out so far, in whole sectors.
        self.withheld = 0

    def sifted(self, offset: int, data: bytes) -> bytes:
        """``data``, read as a table at ``offset``, with zeros for sectors that are no table."""
        size = len(data)
        padded = np.frombuffer(data + bytes(-size % _SECTOR), dtype=np.uint8)
        counted = offset in self._blocks
        wrong, used = self._refcounts(padded) if counted else self._pointers(padded)
        bad = (wrong > _STRAY) & (wrong * 4 > used)
        step = self._geometry.cluster_size
        mapped = [self._is_mapped(place) for place in range(offset, offset + size, step)]
        sectors = np.arange(len(bad), dtype=np.int64) * _SECTOR // step
        doubted = np.array(mapped, dtype=bool)[sectors]
        if doubted.any():
            # Two tables may lie on one another as well: it may be good as the one or the other.
            if self._geometry.refcount_bits >= 16:
                other = self._pointers(padded) if counted else self._refcounts(padded)
                wrong = np.minimum(wrong, other[0])
            elif counted:  # any byte can be such counts
                wrong = used
            bad = np.where(doubted, wrong > 0, bad)
        if not bad.any():
            return data
        self.withheld += int(bad.sum()) * _SECTOR
        kept = padded.reshape(-1, _SECTOR).copy()
        kept[bad] = 0
        return kept.tobytes()[:size]

    def refuses(self, offset: int, length: int) -> bool:
        """Whether a part of a small table lies where guest data is mapped; then it is left out."""
        first, last = (at >> self._geometry.cluster_bits for at in (offset, offset + length - 1))
        for cluster in range(first, last + 1):
            if self._is_mapped(cluster << self._geometry.cluster_bits):
                self.withheld += length
                return True
        return False

    def _is_mapped(self, offset: int) -> bool:
        found = self._owners.class_of(offset >> self._geometry.cluster_bits)
        return found in (ClusterClass.OVERLAPPING, ClusterClass.DATA, ClusterClass.SHARED)

    def _pointers(self, data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(words that cannot be pointers, words that are not zero) of each sector."""
        words = decode_u64(data)
        wrong = ~self._plausible(words)
        if self._geometry.extended_l2:
            # Every second word may be a subcluster bitmap, which no subcluster has both bits of.
            low, high = words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)
            wrong &= (low & high) != 0
        return _by_sector(wrong), _by_sector(words != 0)

    def _plausible(self, words: U64) -> Bools:
        size = np.uint64(self._geometry.cluster_size - 1)
        limit = np.uint64(self._limit)
        offsets = words & OFFSETS
        good: Bools = (words & np.uint64(L2_RESERVED_MASK)) == 0
        good &= ((offsets & size) == 0) & (offsets < limit)
        packed = (words & np.uint64(OFLAG_COMPRESSED)) != 0
        if packed.any():
            starts, lengths = compressed_fields(words[packed], self._geometry)
            good[packed] = (starts > 0) & (starts + lengths <= self._limit + _SECTOR)
        good |= words == 0
        return good

    def _refcounts(self, data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        counts = decode_refcounts(data, self._geometry.refcount_order)
        return (
            _by_sector(counts > np.uint64(self._most), self._geometry.refcount_bits),
            _by_sector(counts != 0, self._geometry.refcount_bits),
        )


def _by_sector(found: Bools, bits: int = 64) -> NDArray[np.int64]:
    sums: NDArray[np.int64] = found.reshape(-1, _SECTOR * 8 // bits).sum(axis=1, dtype=np.int64)
    return sums
