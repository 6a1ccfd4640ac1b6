"""Cutting maps: to a range, and two maps at each other's borders."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..disk import ExtentBatch
from ..image.mapping import select

I64 = NDArray[np.int64]


def end_of(batch: ExtentBatch) -> int:
    """Where the last run of a batch ends."""
    return int(batch.start[-1] + batch.length[-1])


def advanced(host: I64, by: I64) -> I64:
    """Host offsets ``by`` bytes further into their runs; -1 stays -1."""
    return np.where(host >= 0, host + by, host)


def clip(batch: ExtentBatch, start: int, stop: int) -> ExtentBatch:
    """The runs within ``[start, stop)``, which must touch the batch; those at its ends are cut.

    Costs no more than the runs that are left.
    """
    first = max(0, int(np.searchsorted(batch.start, start, side="right")) - 1)
    last = int(np.searchsorted(batch.start, stop, side="left"))
    part = select(batch, slice(first, last))
    begin = np.maximum(part.start, start)
    length = np.minimum(part.start + part.length, stop) - begin
    return part._replace(start=begin, length=length, host=advanced(part.host, begin - part.start))


def cut_at(batch: ExtentBatch, starts: I64, end: int) -> ExtentBatch:
    """The batch as runs that start at ``starts`` (ascending, its own starts among them)."""
    owner = np.searchsorted(batch.start, starts, side="right") - 1
    return ExtentBatch(
        starts,
        np.diff(starts, append=end),
        batch.kind[owner],
        advanced(batch.host[owner], starts - batch.start[owner]),
        batch.depth[owner],
    )


def union(one: I64, other: I64) -> I64:
    """The ascending values of two ascending arrays, each once."""
    if len(one) == len(other) and bool((one == other).all()):
        return one
    both = np.concatenate((one, other))
    both.sort(kind="stable")  # two sorted halves: merging them is linear
    return both[np.concatenate(([True], both[1:] != both[:-1]))]


def aligned(
    one: Iterator[ExtentBatch], other: Iterator[ExtentBatch]
) -> Iterator[tuple[ExtentBatch, ExtentBatch]]:
    """Two maps of the same range, cut so that both batches of a pair have the same starts."""
    left, right = next(one, None), next(other, None)
    at = int(left.start[0]) if left is not None else 0
    while left is not None and right is not None:
        ends = end_of(left), end_of(right)
        stop = min(ends)
        first, second = clip(left, at, stop), clip(right, at, stop)
        starts = union(first.start, second.start)
        yield cut_at(first, starts, stop), cut_at(second, starts, stop)
        at = stop
        if ends[0] == stop:
            left = next(one, None)
        if ends[1] == stop:
            right = next(other, None)
