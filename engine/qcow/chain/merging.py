"""The map of a chain: the runs of a layer with those of the layers below filled into its gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..disk import ExtentBatch, ExtentKind
from ..image.mapping import merge_runs, select
from .intersect import clip, cut_at, end_of, union

if TYPE_CHECKING:
    from .layer import Layer

#: Gaps of an overlay this near each other (guest bytes) are filled by one walk through the layer
#: below; farther apart it is cheaper to start a new one than to read tables nobody asked for.
_NEAR = 64 << 20


def chain_runs(
    layers: Sequence[Layer], start: int, stop: int, level: int = 0
) -> Iterator[ExtentBatch]:
    """The runs of ``[start, stop)`` as seen from ``layers[level]`` down.

    ``depth`` is the index into ``layers`` of the layer that says what a run is.  UNALLOCATED is
    left where no layer holds anything: its depth is that of the layer with nothing below it there.
    Ranges that would need a layer without a disk come as UNALLOCATED with that layer's index.
    ``stop`` must not lie beyond the disk of ``layers[level]``.
    """
    disk = layers[level].disk
    assert disk is not None
    is_last = level + 1 == len(layers)
    for batch in disk.extents(start, stop - start):
        if level:
            depth = np.full(len(batch.start), level, dtype=np.uint16)
            batch = batch._replace(depth=depth)
        if is_last:
            yield batch
        else:
            yield from _filled(layers, level, batch)


def _filled(layers: Sequence[Layer], level: int, batch: ExtentBatch) -> Iterator[ExtentBatch]:
    gaps = np.flatnonzero(batch.kind == ExtentKind.UNALLOCATED)
    if not len(gaps):
        yield batch
        return
    below = layers[level + 1].disk
    if below is None:
        depth = batch.depth.copy()
        depth[gaps] = level + 1
        yield batch._replace(depth=depth)
        return
    size = below.virtual_size
    done = 0
    for first, last in _groups(batch, gaps):
        if first > done:
            yield select(batch, slice(done, first))
        group = select(batch, slice(first, last + 1))
        begin, end = int(group.start[0]), end_of(group)
        if begin < size:
            for under in chain_runs(layers, begin, min(end, size), level + 1):
                yield _overlaid(group, under)
        if end > size:
            yield clip(group, max(begin, size), end)  # nothing is below: the gap stays one
        done = last + 1
    if done < len(batch.start):
        yield select(batch, slice(done, None))


def _groups(batch: ExtentBatch, gaps: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """(first, last) run of each stretch that starts and ends with a gap and has near ones in it."""
    between = batch.start[gaps[1:]] - (batch.start[gaps[:-1]] + batch.length[gaps[:-1]])
    cuts = np.flatnonzero(between > _NEAR)
    firsts = gaps[np.concatenate(([0], cuts + 1))]
    lasts = gaps[np.concatenate((cuts, [len(gaps) - 1]))]
    yield from zip(firsts.tolist(), lasts.tolist(), strict=True)


def _overlaid(over: ExtentBatch, under: ExtentBatch) -> ExtentBatch:
    """``under`` where ``over`` has gaps, ``over`` elsewhere, in the range ``under`` covers."""
    begin, end = int(under.start[0]), end_of(under)
    over = clip(over, begin, end)
    gap = over.kind == ExtentKind.UNALLOCATED
    if not gap.any():
        return over
    if len(over.start) == 1:
        return under
    inside = gap[np.searchsorted(over.start, under.start, side="right") - 1]
    starts = union(over.start, under.start[inside])
    upper, lower = cut_at(over, starts, end), cut_at(under, starts, end)
    through = upper.kind == ExtentKind.UNALLOCATED
    return merge_runs(
        starts,
        upper.length,
        np.where(through, lower.kind, upper.kind),
        np.where(through, lower.host, upper.host),
        np.where(through, lower.depth, upper.depth),
    )
