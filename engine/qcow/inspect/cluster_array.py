"""One number for each host cluster, in memory only where it was touched.

A hostile image can claim clusters up to 2**55; memory must follow the tables that are really there.
The array is cut into chunks that come into being when they are written to; an untouched cluster
reads as zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..layout.distinct import distinct

#: Clusters in one chunk.  Untouched pages of a chunk cost no memory either (zeroed lazily).
CHUNK_BITS = 22
CHUNK = 1 << CHUNK_BITS


class ClusterArray:
    """A sparse vector of ``dtype``, indexed by host cluster."""

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self._chunks: dict[int, NDArray[Any]] = {}

    def chunks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """(first cluster, array) of every chunk that was touched, ascending."""
        for number in sorted(self._chunks):
            yield number << CHUNK_BITS, self._chunks[number]

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """(first cluster, writable view) covering ``[start, stop)``, touching every chunk."""
        at = start
        while at < stop:
            number = at >> CHUNK_BITS
            base = number << CHUNK_BITS
            end = min(stop, base + CHUNK)
            yield at, self._chunk(number)[at - base : end - base]
            at = end

    def touched(self, start: int, stop: int) -> bool:
        """Whether any chunk of ``[start, stop)`` exists."""
        first, last = start >> CHUNK_BITS, (stop - 1) >> CHUNK_BITS
        if last - first < len(self._chunks):
            return any(number in self._chunks for number in range(first, last + 1))
        return any(first <= number <= last for number in self._chunks)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """A copy of ``[start, stop)`` that creates no chunk."""
        out = np.zeros(stop - start, dtype=self.dtype)
        at = start
        while at < stop:
            number = at >> CHUNK_BITS
            base = number << CHUNK_BITS
            end = min(stop, base + CHUNK)
            chunk = self._chunks.get(number)
            if chunk is not None:
                out[at - start : end - start] = chunk[at - base : end - base]
            at = end
        return out

    def grouped(self, clusters: NDArray[np.int64]) -> Iterator[tuple[NDArray[Any], Any, Any]]:
        """Split arbitrary ``clusters`` by chunk: (chunk, indices into it, where in ``clusters``).

        The last is a slice or an index array; nothing is copied in the usual case of one chunk.
        """
        if not len(clusters):
            return
        low, high = int(clusters.min()) >> CHUNK_BITS, int(clusters.max()) >> CHUNK_BITS
        if low == high:
            yield self._chunk(low), clusters - (low << CHUNK_BITS), slice(None)
            return
        numbers = clusters >> CHUNK_BITS
        for number in distinct(numbers).tolist():
            where = np.flatnonzero(numbers == number)
            yield self._chunk(number), clusters[where] - (number << CHUNK_BITS), where

    def grouped_sorted(
        self, clusters: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
        """Split ascending ``clusters`` by chunk: (chunk, indices into it)."""
        at = 0
        while at < len(clusters):
            number = int(clusters[at]) >> CHUNK_BITS
            base = number << CHUNK_BITS
            end = at + int(np.searchsorted(clusters[at:], base + CHUNK))
            yield self._chunk(number), clusters[at:end] - base
            at = end

    def _chunk(self, number: int) -> NDArray[Any]:
        chunk = self._chunks.get(number)
        if chunk is None:
            chunk = self._chunks[number] = np.zeros(CHUNK, dtype=self.dtype)
        return chunk
