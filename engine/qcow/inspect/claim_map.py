"""Who claims each host cluster, and how often: the accumulator of the owner scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..layout.tables import I64
from .classes import ClusterClass
from .cluster_array import ClusterArray

Classes = NDArray[np.uint8]
#: Clusters (as a power of two) whose changes are noted, and published, together.
BLOCK_BITS = 15
_DATA_LIKE = (ClusterClass.ZERO_ALLOCATED, ClusterClass.DATA, ClusterClass.VM_STATE)


def _joined() -> Classes:
    """uint8[20, 20]: the class of a cluster of class ``row`` that is also claimed as ``column``."""
    size = len(ClusterClass)
    table = np.full((size, size), ClusterClass.OVERLAPPING, dtype=np.uint8)
    for one in range(size):
        table[0, one] = table[one, 0] = table[one, one] = one
    for first in _DATA_LIKE:
        for second in _DATA_LIKE:
            table[first, second] = max(first, second)
    return table


_JOINED = _joined()


class ClaimMap:
    """``classes`` and ``references`` (both uint8, the latter saturating) by host cluster.

    ``dirty``: numbers of the blocks of ``2**BLOCK_BITS`` clusters claimed since they were taken.
    """

    def __init__(self, cluster_bits: int, total: int) -> None:
        self.cluster_bits = cluster_bits
        self.total = total
        self.classes = ClusterArray(np.uint8)
        self.references = ClusterArray(np.uint8)
        self.dirty: set[int] = set()

    def run(self, offset: int, length: int, owner: ClusterClass) -> None:
        """Claim the host clusters that ``length`` bytes from ``offset`` touch."""
        if length <= 0:
            return
        first = offset >> self.cluster_bits
        stop = min(self.total, ((offset + length - 1) >> self.cluster_bits) + 1)
        if first < stop:
            self.span(first, stop, owner)

    def add(self, clusters: I64, owner: ClusterClass, times: int = 1) -> None:
        """Claim ``clusters`` (any order, repeats count), each ``times`` times."""
        if not len(clusters):
            return
        clusters = np.sort(clusters)
        clusters = clusters[: int(np.searchsorted(clusters, self.total))]
        if not len(clusters):
            return
        low, high = int(clusters[0]), int(clusters[-1])
        if high - low == len(clusters) - 1 and bool((np.diff(clusters) == 1).all()):
            self.span(low, high + 1, owner, times)
            return
        joined = _JOINED[owner]
        heads = np.concatenate(([True], clusters[1:] != clusters[:-1]))
        repeats = None
        if not heads.all():
            at = np.flatnonzero(heads)
            repeats = np.minimum(np.diff(np.append(at, len(clusters))) * times, 255)
            clusters = clusters[at]
        for chunk, index in self.classes.grouped_sorted(clusters):
            chunk[index] = joined[chunk[index]]
        done = 0
        for chunk, index in self.references.grouped_sorted(clusters):
            add = times if repeats is None else repeats[done : done + len(index)]
            done += len(index)
            chunk[index] = np.minimum(chunk[index].astype(np.int64) + add, 255)
        blocks = clusters >> BLOCK_BITS
        self.dirty.update(blocks[np.flatnonzero(np.diff(blocks, prepend=-1))].tolist())

    def span(self, first: int, stop: int, owner: ClusterClass, times: int = 1) -> None:
        """Claim the clusters ``[first, stop)``, each ``times`` times."""
        joined = _JOINED[owner]
        for _at, piece in self.classes.pieces(first, stop):
            if piece.any():
                piece[:] = joined[piece]
            else:
                piece[:] = owner
        for _at, counts in self.references.pieces(first, stop):
            _add(counts, times)
        self.dirty.update(range(first >> BLOCK_BITS, ((stop - 1) >> BLOCK_BITS) + 1))


def _add(counts: NDArray[np.uint8], times: int) -> None:
    """Saturating addition in place."""
    if int(counts.max(initial=0)) + times <= 255:
        counts += np.uint8(times)
    else:
        counts[:] = np.minimum(counts.astype(np.int64) + times, 255)
