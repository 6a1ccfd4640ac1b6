"""How far an L1 table reaches that is known by one of its clusters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...layout.constants import MAX_L1_BYTES, REFCOUNT_TABLE_OFFSET_MASK
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, decode_refcounts, decode_u64
from ...storage.base import Storage
from .sectors import Sectors

#: Clusters looked at in one go.
_STEP = 64
_BITS = np.uint64((1 << 62) | 1)


class Runs:
    """L1 tables by the refcount table at ``table`` (host offset, ``clusters`` long).

    A cluster belongs to a table beside it when it is counted, is nothing else that is known, and
    holds only zeros and offsets of tables.
    """

    def __init__(
        self, storage: Storage, geometry: Geometry, sectors: Sectors, table: int, clusters: int
    ) -> None:
        self._storage = storage
        self._geometry = geometry
        self._sectors = sectors
        bits = geometry.cluster_bits
        entries = decode_u64(storage.read(table, clusters << bits))
        self._blocks: I64 = (entries & np.uint64(REFCOUNT_TABLE_OFFSET_MASK)).astype(np.int64)
        first = table >> bits
        own = self._blocks[self._blocks != 0] >> bits
        self._known: I64 = np.unique(np.concatenate([np.arange(first, first + clusters), own]))
        self._total = geometry.clusters(sectors.size)

    def around(self, offset: int) -> tuple[int, int]:
        """(host offset, bytes) of the whole table of which the cluster at ``offset`` is a part."""
        bits = self._geometry.cluster_bits
        start = offset >> bits
        most = MAX_L1_BYTES >> bits or 1
        known = np.union1d(self._known, self._targets(start, 1))
        stop = start + 1
        while stop < self._total and stop - start < most:
            count = min(_STEP, self._total - stop)
            known = np.union1d(known, self._targets(stop, count))
            good = self._belongs(stop, count, known)
            wrong = np.flatnonzero(~good)
            stop += int(wrong[0]) if len(wrong) else count
            if len(wrong):
                break
        while start > 1 and stop - start < most:
            count = min(_STEP, start - 1)
            good = self._belongs(start - count, count, known)
            wrong = np.flatnonzero(~good)
            start -= count - 1 - int(wrong[-1]) if len(wrong) else count
            if len(wrong):
                break
        return start << bits, (stop - start) << bits

    def _words(self, first: int, count: int) -> NDArray[np.uint64]:
        bits = self._geometry.cluster_bits
        data = self._storage.read(first << bits, count << bits).ljust(count << bits, b"\0")
        return decode_u64(data).reshape(count, -1)

    def _targets(self, first: int, count: int) -> I64:
        """The clusters that words name which can be L1 entries."""
        words = self._words(first, count)
        offsets = (words[self._like(words)] & OFFSETS).astype(np.int64).reshape(-1)
        return np.unique(offsets[offsets != 0]) >> self._geometry.cluster_bits

    def _like(self, words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which rows hold nothing but zeros and offsets of tables."""
        offsets = (words & OFFSETS).astype(np.int64)
        good = (words == 0) | (self._sectors.holds(offsets) & ((words & _BITS) == 0))
        rows: NDArray[np.bool_] = good.all(axis=1)
        return rows

    def _belongs(self, first: int, count: int, known: I64) -> NDArray[np.bool_]:
        numbers = np.arange(first, first + count)
        belongs: NDArray[np.bool_] = self._like(self._words(first, count))
        belongs &= ~np.isin(numbers, known)
        belongs &= self._counts(first, count) != 0
        return belongs

    def _counts(self, first: int, count: int) -> I64:
        """1 for each of adjacent clusters that is counted, else 0."""
        geometry = self._geometry
        per_block = geometry.refcount_block_entries
        found = np.zeros(count, dtype=np.int64)
        for index in range(first // per_block, (first + count - 1) // per_block + 1):
            if index >= len(self._blocks) or self._blocks[index] == 0:
                continue
            data = self._storage.read(int(self._blocks[index]), geometry.cluster_size)
            counts = decode_refcounts(data, geometry.refcount_order)
            low = max(first, index * per_block)
            high = min(first + count, index * per_block + len(counts))
            if low < high:
                part = counts[low - index * per_block : high - index * per_block]
                found[low - first : high - first] = part != 0
        return found
