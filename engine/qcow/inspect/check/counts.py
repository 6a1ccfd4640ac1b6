"""How often each host cluster is referred to: dense where the file is, sparse where it is not.

Both kinds of memory have one *position* for each cluster they know.  After counting, the same
positions carry a code (see :mod:`.codes`) that says what the comparison with the disk found.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...layout.distinct import distinct, distinct_counts
from ...layout.tables import I64
from .collect import contained

#: Sparse references folded together at a time.
_FOLD = 1 << 21


class Adder(ABC):
    """Takes references; each thread has its own.  Clusters outside the range are left out."""

    @abstractmethod
    def run(self, first: int, stop: int, times: int) -> None:
        """``times`` references to each cluster of ``[first, stop)``."""

    @abstractmethod
    def many(self, clusters: I64, times: int) -> None:
        """``times`` references to each of ``clusters`` (any order, repeats count)."""

    @abstractmethod
    def packed(self, clusters: I64) -> None:
        """Remember that compressed data lies in ``clusters``."""

    @abstractmethod
    def finish(self) -> None:
        """Hand over what was added; called once, by the thread that added it."""


class Counts(ABC):
    """References to the clusters of ``[low, high)``.

    ``values``: unsigned, the references at each position.  ``codes``: uint8 at each position, there
    after :meth:`recode` and possibly in the same memory.
    """

    values: NDArray[Any]
    codes: NDArray[np.uint8]

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high
        self._packed: NDArray[np.bool_] | None = None

    @abstractmethod
    def adder(self) -> Adder:
        """A new :class:`Adder` to these counts."""

    @abstractmethod
    def settle(self) -> bool:
        """Close counting.  False when a count did not fit or threads collided: count again."""

    @abstractmethod
    def positions(self, first: int, stop: int) -> slice:
        """The positions of the known clusters of ``[first, stop)``."""

    @abstractmethod
    def _find(self, clusters: I64) -> tuple[I64, NDArray[np.bool_] | None]:
        """(position of each, whether it is known; None when all are)."""

    @abstractmethod
    def _clusters(self, where: slice, chosen: I64) -> I64:
        """The clusters at the positions ``chosen`` of the slice ``where``."""

    def recode(self) -> None:
        """Turn to codes.  A position's value may be gone once its code is written."""
        in_place = self.values.dtype == np.uint8
        self.codes = self.values if in_place else np.zeros(len(self.values), dtype=np.uint8)

    def at(self, clusters: I64) -> NDArray[np.uint64]:
        """The references to each of ``clusters`` (before :meth:`recode`); 0 outside."""
        return self._gather(self.values, clusters).astype(np.uint64)

    def codes_at(self, clusters: I64) -> NDArray[np.uint8]:
        """The code of each of ``clusters``; 0 outside."""
        return self._gather(self.codes, clusters)

    def mark(self, clusters: I64, cause: int, mask: int) -> None:
        """Put ``cause`` into the bits ``mask`` of the codes of those clusters that are known."""
        positions, known = self._find(clusters)
        where = positions if known is None else positions[known]
        self.codes[where] = self.codes[where] & np.uint8(~mask & 0xFF) | np.uint8(cause)

    def select(
        self, first: int, stop: int, wanted: Callable[[NDArray[np.uint8]], NDArray[np.bool_]]
    ) -> I64:
        """The known clusters of ``[first, stop)`` whose codes are wanted, ascending."""
        where = self.positions(first, stop)
        return self._clusters(where, np.flatnonzero(wanted(self.codes[where])))

    def packed_at(self, where: slice) -> NDArray[np.bool_] | None:
        """Whether compressed data lies at each position of ``where``; None when there is none."""
        return None if self._packed is None else self._packed[where]

    def _gather(self, source: NDArray[Any], clusters: I64) -> NDArray[Any]:
        positions, known = self._find(clusters)
        if known is None:
            return source[positions]
        found = np.zeros(len(clusters), dtype=source.dtype)
        found[known] = source[positions[known]]
        return found


class DenseCounts(Counts):
    """One number for every cluster of the range."""

    def __init__(self, low: int, high: int, dtype: type[np.unsignedinteger[Any]]) -> None:
        super().__init__(low, high)
        self.values = np.zeros(high - low, dtype=dtype)
        self.total = 0  # references added, as a sum that cannot overflow
        self.lock = threading.Lock()

    def adder(self) -> Adder:
        return _DenseAdder(self)

    def settle(self) -> bool:
        # As many used clusters as references: each has exactly one, and none was lost.
        if int(np.count_nonzero(self.values)) == self.total:
            return True
        # A wrap-around and an update lost between threads both make the sum smaller.
        return int(self.values.sum(dtype=np.uint64)) == self.total

    def positions(self, first: int, stop: int) -> slice:
        start = min(max(first, self.low), self.high) - self.low
        return slice(start, max(start, min(stop, self.high) - self.low))

    def _clusters(self, where: slice, chosen: I64) -> I64:
        clusters: I64 = chosen + (self.low + where.start)
        return clusters

    def packed_map(self) -> NDArray[np.bool_]:
        with self.lock:
            if self._packed is None:
                self._packed = np.zeros(len(self.values), dtype=bool)
            return self._packed

    def _find(self, clusters: I64) -> tuple[I64, NDArray[np.bool_] | None]:
        if not len(clusters):
            return clusters, None
        known = None
        if int(clusters.min()) < self.low or int(clusters.max()) >= self.high:
            known = (clusters >= self.low) & (clusters < self.high)
        return clusters - self.low if self.low else clusters, known


class _DenseAdder(Adder):
    def __init__(self, counts: DenseCounts) -> None:
        self._counts = counts
        self._values = counts.values
        self._type = counts.values.dtype.type
        self._wrap = 1 << 8 * counts.values.dtype.itemsize
        self._total = 0

    def run(self, first: int, stop: int, times: int) -> None:
        low, high = self._counts.low, self._counts.high
        first, stop = max(first, low), min(stop, high)
        if first < stop:
            part = self._values[first - low : stop - low]
            np.add(part, self._type(times % self._wrap), out=part)
            self._total += (stop - first) * times

    def many(self, clusters: I64, times: int) -> None:
        clusters = self._inside(clusters)
        if not len(clusters):
            return
        self._total += len(clusters) * times
        least, span = int(clusters.min()), int(np.ptp(clusters)) + 1
        weight = self._type(times % self._wrap)
        if span <= 4 * len(clusters):
            found = np.bincount(clusters - least).astype(self._type)
            part = self._values[least : least + span]
            np.add(part, found if times == 1 else found * weight, out=part)
        else:
            np.add.at(self._values, clusters, weight)

    def packed(self, clusters: I64) -> None:
        self._counts.packed_map()[self._inside(clusters)] = True

    def finish(self) -> None:
        with self._counts.lock:
            self._counts.total += self._total

    def _inside(self, clusters: I64) -> I64:
        """The positions of those clusters that are in the range."""
        low, high = self._counts.low, self._counts.high
        if len(clusters) and (int(clusters.min()) < low or int(clusters.max()) >= high):
            clusters = clusters[(clusters >= low) & (clusters < high)]
        return clusters - low if low else clusters


class SparseCounts(Counts):
    """Only the clusters that are referred to, in ascending order (``clusters``, int64)."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__(low, high)
        self.clusters: I64 = np.zeros(0, dtype=np.int64)
        self.values = np.zeros(0, dtype=np.uint64)
        self.lock = threading.Lock()
        self.parts: list[tuple[I64, NDArray[np.uint64]]] = []
        self.packed_parts: list[I64] = []

    def adder(self) -> Adder:
        return _SparseAdder(self)

    def settle(self) -> bool:
        self.clusters, self.values = _folded(self.parts)
        self.parts = []
        if self.packed_parts:
            self._packed = contained(self.clusters, np.sort(np.concatenate(self.packed_parts)))
            self.packed_parts = []
        return True

    def positions(self, first: int, stop: int) -> slice:
        start, end = np.searchsorted(self.clusters, (first, max(first, stop)))
        return slice(int(start), int(end))

    def _find(self, clusters: I64) -> tuple[I64, NDArray[np.bool_] | None]:
        if not len(self.clusters):
            return clusters, np.zeros(len(clusters), dtype=bool)
        positions = np.searchsorted(self.clusters, clusters)
        np.minimum(positions, len(self.clusters) - 1, out=positions)
        return positions, self.clusters[positions] == clusters

    def _clusters(self, where: slice, chosen: I64) -> I64:
        return self.clusters[where][chosen]


class _SparseAdder(Adder):
    def __init__(self, counts: SparseCounts) -> None:
        self._counts = counts
        self._parts: list[tuple[I64, NDArray[np.uint64]]] = []
        self._pending = 0
        self._packed: list[I64] = []

    def run(self, first: int, stop: int, times: int) -> None:
        self.many(np.arange(first, stop, dtype=np.int64), times)

    def many(self, clusters: I64, times: int) -> None:
        clusters = self._inside(clusters)
        if not len(clusters):
            return
        found, repeats = distinct_counts(clusters)
        self._parts.append((found, repeats.astype(np.uint64) * np.uint64(times)))
        self._pending += len(found)
        if self._pending > _FOLD:
            self._parts = [_folded(self._parts)]
            self._pending = len(self._parts[0][0]) // 2

    def packed(self, clusters: I64) -> None:
        self._packed.append(distinct(self._inside(clusters)))

    def finish(self) -> None:
        with self._counts.lock:
            self._counts.parts += self._parts
            self._counts.packed_parts += self._packed

    def _inside(self, clusters: I64) -> I64:
        return clusters[(clusters >= self._counts.low) & (clusters < self._counts.high)]


def _folded(
    parts: list[tuple[I64, NDArray[np.uint64]]],
) -> tuple[I64, NDArray[np.uint64]]:
    if not parts:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint64)
    clusters = np.concatenate([part[0] for part in parts])
    values = np.concatenate([part[1] for part in parts])
    order = np.argsort(clusters, kind="stable")
    clusters = clusters[order]
    heads = np.flatnonzero(np.diff(clusters, prepend=clusters[0] - 1))
    return clusters[heads], np.add.reduceat(values[order], heads)
