"""A file in host order, as runs of clusters that are alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcow.image.image import Image
from qcow.image.refcounts import refcount_windows
from qcow.inspect.classes import ClusterClass
from qcow.inspect.owners import OwnerMap

#: Clusters looked at together.
_STEP = 1 << 20


class ClusterRuns(NamedTuple):
    """Adjacent runs, one array element a run, all of shape (n,).

    ``first``, ``clusters``: int64, in clusters.  ``kind``: uint8 (:class:`ClusterClass`).
    ``refcount``: uint64, as on disk.  ``references``: uint8, as found, 255 for more.
    """

    first: NDArray[np.int64]
    clusters: NDArray[np.int64]
    kind: NDArray[np.uint8]
    refcount: NDArray[np.uint64]
    references: NDArray[np.uint8]


def cluster_runs(image: Image, owners: OwnerMap) -> Iterator[ClusterRuns]:
    """The whole file; runs are maximal, also across batches.  ``owners`` kept its references."""
    held: ClusterRuns | None = None
    for runs in _windows(image, owners):
        joined = runs if held is None else _join(held, runs)
        if len(joined.first) > 1:
            yield _part(joined, slice(None, -1))
        held = _part(joined, slice(-1, None))
    if held is not None:
        yield held


def _windows(image: Image, owners: OwnerMap) -> Iterator[ClusterRuns]:
    assert owners.references is not None
    for window in refcount_windows(image, 0, owners.total):
        stop = window.first + window.clusters
        at = window.first
        while at < stop:
            end = min(stop, at + _STEP)
            untouched = window.counts is None and not owners.classes.touched(at, end)
            if untouched:
                # A hole of a sparse file: nothing counts it and nothing refers to it.
                end = _untouched_end(owners, at, stop)
                yield from _unused(at, end, owners.image_end)
            else:
                yield _runs(
                    at,
                    owners.classes.read(at, end),
                    np.zeros(end - at, dtype=np.uint64)
                    if window.counts is None
                    else window.counts[at - window.first : end - window.first].astype(np.uint64),
                    owners.references.read(at, end),
                )
            at = end


def _untouched_end(owners: OwnerMap, start: int, stop: int) -> int:
    end = min(stop, start + _STEP)
    while end < stop and not owners.classes.touched(end, min(stop, end + _STEP)):
        end = min(stop, end + _STEP)
    return end


def _unused(start: int, stop: int, image_end: int) -> Iterator[ClusterRuns]:
    middle = min(max(start, image_end), stop)
    for first, end, kind in (
        (start, middle, ClusterClass.FREE),
        (middle, stop, ClusterClass.BEYOND_END),
    ):
        if end > first:
            yield ClusterRuns(
                np.array([first], dtype=np.int64),
                np.array([end - first], dtype=np.int64),
                np.array([kind], dtype=np.uint8),
                np.zeros(1, dtype=np.uint64),
                np.zeros(1, dtype=np.uint8),
            )


def _runs(
    first: int,
    kind: NDArray[np.uint8],
    refcount: NDArray[np.uint64],
    references: NDArray[np.uint8],
) -> ClusterRuns:
    breaks = (kind[1:] != kind[:-1]) | (refcount[1:] != refcount[:-1])
    breaks |= references[1:] != references[:-1]
    heads = np.flatnonzero(np.concatenate(([True], breaks)))
    return ClusterRuns(
        first + heads,
        np.diff(heads, append=len(kind)),
        kind[heads],
        refcount[heads],
        references[heads],
    )


def _join(held: ClusterRuns, runs: ClusterRuns) -> ClusterRuns:
    alike = (
        held.kind[0] == runs.kind[0]
        and held.refcount[0] == runs.refcount[0]
        and held.references[0] == runs.references[0]
    )
    if alike:
        first, clusters = runs.first.copy(), runs.clusters.copy()
        first[0] = held.first[0]
        clusters[0] += held.clusters[0]
        return runs._replace(first=first, clusters=clusters)
    return ClusterRuns(
        np.concatenate((held.first, runs.first)),
        np.concatenate((held.clusters, runs.clusters)),
        np.concatenate((held.kind, runs.kind)),
        np.concatenate((held.refcount, runs.refcount)),
        np.concatenate((held.references, runs.references)),
    )


def _part(runs: ClusterRuns, which: slice) -> ClusterRuns:
    return ClusterRuns(
        runs.first[which],
        runs.clusters[which],
        runs.kind[which],
        runs.refcount[which],
        runs.references[which],
    )
