"""The allocation map: a :class:`ClusterClass` for each cluster, at any zoom."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcow.inspect.classes import ClusterClass

from .sampling import sample
from .scheme import Query, Scheme
from .tree import ClusterTree

_COUNT: Final = len(ClusterClass)
#: One bit for each class, as in the masks of a sample.
ALL_CLASSES: Final = (1 << _COUNT) - 1
#: The bits of the classes that say that something is wrong.
PROBLEMS: Final = sum(1 << member for member in ClusterClass if member.is_problem)

#: Tally fields in the order in which they win a tie.  Metadata, VM state and problems are in the
#: last, where the mask says which.
_FIELD_OF: Final = {
    ClusterClass.UNREAD: 0,
    ClusterClass.ZERO_ALLOCATED: 1,
    ClusterClass.DATA: 2,
    ClusterClass.COMPRESSED: 3,
    ClusterClass.SHARED: 4,
    ClusterClass.VM_STATE: 5,
}
_UNUSED: Final = (ClusterClass.FREE, ClusterClass.BEYOND_END)
_REST_FIELD: Final = 6
_FIELDS: Final = 7
_CLASS_OF_FIELD: Final = np.array([*_FIELD_OF, ClusterClass.UNREAD], np.uint8)
_REST: Final = ALL_CLASSES & ~sum(1 << member for member in (*_FIELD_OF, *_UNUSED))
#: A table counts this much when a cell takes its hue: one L2 table shows among 15 data clusters,
#: and does not hide the 8192 it describes.
_METADATA_WEIGHT: Final = 16


def _scheme() -> Scheme:
    peaks = np.zeros(256, np.uint32)
    group = np.full(256, -1, np.int8)
    bucket = np.full(256, _COUNT, np.uint8)
    for member in ClusterClass:
        peaks[member] = 1 << member
        bucket[member] = member
        if member not in _UNUSED:
            group[member] = _FIELD_OF.get(member, _REST_FIELD)
    return Scheme(np.dtype(np.uint8), peaks, np.bitwise_or, _FIELDS, group, bucket, _COUNT)


_SCHEME: Final = _scheme()


class ClassSample(NamedTuple):
    """Cells of a map, one array element each.

    ``mask``: uint32, bit *c* set where class *c* is present.  ``hue``: uint8, the class to show:
    the worst problem present, else the most frequent class in use (tables weigh more), else unread
    before free.  ``fill``, ``unread``: float32, shares of the cell in use and not scanned yet.
    """

    mask: NDArray[np.uint32]
    hue: NDArray[np.uint8]
    fill: NDArray[np.float32]
    unread: NDArray[np.float32]


class ClassPyramid:
    """Classes of ``total_clusters`` clusters (of the host file or of a guest disk).

    All are UNREAD at first.  The owner of a scan writes from its thread (:meth:`update`,
    :meth:`update_runs`); the screen reads from its own.
    """

    def __init__(self, total_clusters: int) -> None:
        self._tree = ClusterTree(total_clusters, _SCHEME, ClusterClass.UNREAD)

    @property
    def total(self) -> int:
        """Clusters of the map."""
        return self._tree.total

    @property
    def generation(self) -> int:
        """Grows with every update."""
        return self._tree.generation

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many clusters each class has, exactly: int64, indexed by class."""
        return self._tree.counts

    def update(self, start_cluster: int, classes: NDArray[np.uint8]) -> None:
        """Set the classes of consecutive clusters; windows of a million or so are best."""
        if len(classes) and int(classes.max()) >= _COUNT:
            raise ValueError(f"{int(classes.max())} is not the number of a cluster class")
        self._tree.write(start_cluster, classes)

    def update_runs(self, start_cluster: int, lengths: NDArray[Any], classes: NDArray[Any]) -> None:
        """Set consecutive runs from ``start_cluster``: ``lengths`` in clusters, one class each.

        A run of any length costs no more than its edges, so a thin disk of 2**40 clusters can be
        told in a few runs.
        """
        if len(classes) and int(np.max(classes)) >= _COUNT:
            raise ValueError(f"{int(np.max(classes))} is not the number of a cluster class")
        ends = start_cluster + np.cumsum(lengths, dtype=np.int64)
        large = np.flatnonzero(np.asarray(lengths) >= _LARGE_RUN).tolist()
        done = 0
        for index in [*large, len(lengths)]:
            while done < index:  # the short runs before it, a bounded number of clusters at a time
                base = int(ends[done - 1]) if done else start_cluster
                stop = max(done + 1, int(np.searchsorted(ends, base + _LARGE_RUN, side="right")))
                stop = min(stop, index)
                piece = np.repeat(np.asarray(classes[done:stop], np.uint8), lengths[done:stop])
                self._tree.write(base, piece)
                done = stop
            if index < len(lengths):
                base = int(ends[index - 1]) if index else start_cluster
                self._tree.fill(base, int(ends[index]), int(classes[index]))
                done = index + 1

    def classes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """The classes of clusters ``start`` ... ``stop``: uint8."""
        return self._tree.values(start, stop)

    def class_of(self, cluster: int) -> ClusterClass:
        """The class of one cluster."""
        return ClusterClass(int(self._tree.values(cluster, cluster + 1)[0]))

    def sample(self, first_cluster: int, clusters_per_cell: int, cells: int) -> ClassSample:
        """At most ``cells`` cells from ``first_cluster``; fewer where the map ends.

        Exact for power-of-two scales on their own grid; for other scales see
        :func:`qcowtui.views.pyramid.sampling.sample`.  No class present is ever lost.
        """
        mask, tally, clusters = sample(self._tree, first_cluster, clusters_per_cell, cells)
        size = clusters.astype(np.float32)
        used = tally[1:].sum(axis=0)
        fill = np.minimum(used / size, 1).astype(np.float32)
        unread = np.minimum(tally[0] / size, 1).astype(np.float32)
        return ClassSample(mask, _hue(mask, tally), fill, unread)

    def find(self, start: int, mask: int, forward: bool = True) -> int | None:
        """The first cluster at or behind ``start`` (backward: at or before it) whose class is in
        ``mask`` (a bit for each class), or None."""
        values = np.zeros(256, np.bool_)
        for member in ClusterClass:
            values[member] = bool(mask >> member & 1)
        return self._tree.find(start, Query(values, any_peak=mask & ALL_CLASSES), forward)


_LARGE_RUN: Final = 1 << 20


def worst_class(mask: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The largest class in each mask (0 where the mask is empty)."""
    exponent = np.frexp(mask.astype(np.float64))[1]
    worst: NDArray[np.uint8] = np.maximum(exponent - 1, 0).astype(np.uint8)
    return worst


def _hue(mask: NDArray[np.uint32], tally: NDArray[np.uint64]) -> NDArray[np.uint8]:
    weighted = tally[1:].astype(np.int64)
    weighted[-1] *= _METADATA_WEIGHT
    reverse = weighted[::-1]  # argmax takes the first of equals: the later field
    field = _FIELDS - 1 - reverse.argmax(axis=0)
    hue: NDArray[np.uint8] = _CLASS_OF_FIELD[field]
    rest = field == _REST_FIELD
    hue[rest] = worst_class(mask[rest] & np.uint32(_REST))
    unused = reverse.max(axis=0) == 0
    idle = worst_class(mask)
    idle[(mask & np.uint32(1 << ClusterClass.UNREAD)) != 0] = ClusterClass.UNREAD
    hue[unused] = idle[unused]
    problem = mask & np.uint32(PROBLEMS)
    damaged = problem != 0
    hue[damaged] = worst_class(problem[damaged])
    return hue
