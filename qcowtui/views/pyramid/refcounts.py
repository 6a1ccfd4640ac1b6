"""The refcount heat map: the count on disk of each cluster, and whether it is the right one."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .sampling import sample
from .scheme import Query, Scheme
from .tree import ClusterTree

#: Larger counts are kept as this one.
SATURATION: Final = 32765

_UNREAD, _USED, _MISMATCH, _AGREE = range(4)  # tally fields; a cluster is in the first that fits
_FIELDS: Final = 4
#: Exact counts are kept by refcount up to this one; the last bucket has all larger.
LAST_BUCKET: Final = 16


def _scheme() -> Scheme:
    """A value is 0 (unread) or ``(refcount + 1) * 2 + mismatch``."""
    values = np.arange(1 << 16)
    peaks = (values >> 1).astype(np.uint32)
    group = np.where(values & 1, _MISMATCH, np.where(values < 4, _AGREE, _USED)).astype(np.int8)
    group[:2] = _UNREAD
    bucket = np.minimum((values >> 1) + 1, LAST_BUCKET + 2).astype(np.uint8)
    bucket[:2] = 0
    bucket[(values & 1).astype(bool)] = 1
    peaks[-1], group[-1], bucket[-1] = 0, -1, LAST_BUCKET + 3
    return Scheme(np.dtype(np.uint16), peaks, np.maximum, _FIELDS, group, bucket, LAST_BUCKET + 3)


_SCHEME: Final = _scheme()


class RefcountSample(NamedTuple):
    """Cells of a heat map, one array element each.

    ``refcount``: int32, the largest in the cell, -1 where nothing was read.  ``mismatch``: bool,
    whether any count differs from the references found.  ``unread``: float32, share not scanned.
    ``fill``: float32, share with a count above 0 or a mismatch.
    """

    refcount: NDArray[np.int32]
    mismatch: NDArray[np.bool_]
    unread: NDArray[np.float32]
    fill: NDArray[np.float32]


class RefcountPyramid:
    """Refcounts of ``total_clusters`` host clusters, not read at first."""

    def __init__(self, total_clusters: int) -> None:
        self._tree = ClusterTree(total_clusters, _SCHEME)

    @property
    def total(self) -> int:
        """Clusters of the map."""
        return self._tree.total

    @property
    def generation(self) -> int:
        """Grows with every update."""
        return self._tree.generation

    @property
    def unread_clusters(self) -> int:
        """Clusters not scanned yet."""
        return int(self._tree.counts[0])

    @property
    def mismatched_clusters(self) -> int:
        """Clusters whose count differs from the references found."""
        return int(self._tree.counts[1])

    @property
    def histogram(self) -> NDArray[np.int64]:
        """Clusters with refcount 0, 1, ... LAST_BUCKET - 1 and, last, any larger; mismatches are
        not among them."""
        return self._tree.counts[2:]

    def update(
        self,
        start_cluster: int,
        refcounts: NDArray[Any],
        mismatch: NDArray[np.bool_] | None = None,
    ) -> None:
        """Set the counts of consecutive clusters (any unsigned integer type).

        ``mismatch`` (same length) marks those that differ from the references found.
        """
        values = np.minimum(refcounts, SATURATION).astype(np.uint16)
        values += np.uint16(1)
        values <<= np.uint16(1)
        if mismatch is not None:
            values |= mismatch
        self._tree.write(start_cluster, values)

    def update_mismatch(self, start_cluster: int, mismatch: NDArray[np.bool_]) -> None:
        """Set the marks of consecutive clusters and keep their counts."""
        values = self._tree.values(start_cluster, start_cluster + len(mismatch))
        values &= np.uint16(0xFFFE)
        values |= mismatch & (values != 0)
        self._tree.write(start_cluster, values)

    def refcount_of(self, cluster: int) -> tuple[int, bool] | None:
        """The count of one cluster (at most SATURATION) and its mark; None where not read."""
        value = int(self._tree.values(cluster, cluster + 1)[0])
        return (value // 2 - 1, bool(value & 1)) if value else None

    def sample(self, first_cluster: int, clusters_per_cell: int, cells: int) -> RefcountSample:
        """At most ``cells`` cells from ``first_cluster``; fewer where the map ends."""
        peak, tally, clusters = sample(self._tree, first_cluster, clusters_per_cell, cells)
        size = clusters.astype(np.float32)
        used = tally[_USED] + tally[_MISMATCH]
        return RefcountSample(
            peak.astype(np.int32) - 1,
            tally[_MISMATCH] != 0,
            np.minimum(tally[_UNREAD] / size, 1).astype(np.float32),
            np.minimum(used / size, 1).astype(np.float32),
        )

    def find_mismatch(self, start: int, forward: bool = True) -> int | None:
        """The first cluster at or behind ``start`` whose count is wrong, or None."""
        return self._tree.find(start, Query(_WRONG, any_fields=(_MISMATCH,)), forward)

    def find_match(self, start: int, forward: bool = True) -> int | None:
        """The first cluster at or behind ``start`` whose count is not known to be wrong."""
        others = (_UNREAD, _USED, _AGREE)
        return self._tree.find(start, Query(~_WRONG, any_fields=others), forward)


_WRONG: Final = (np.arange(1 << 16) & 1).astype(np.bool_)
