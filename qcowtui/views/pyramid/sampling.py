"""A row of equal cells over a :class:`ClusterTree`: what a screenful of map is painted from."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .block import FINE
from .ladder import Peaks
from .scheme import PACKED_LIMIT, PackedTallies, tally_fields
from .tree import ClusterTree

#: The most spans looked at for exact edges, and otherwise: a few milliseconds of work.
_EXACT_SPANS: Final = 1_000_000
_SPANS: Final = 300_000


class Cells(NamedTuple):
    """``peak``: uint32 (n,).  ``tally``: (fields, n).  ``clusters``: int64 (n,), at least 1."""

    peak: Peaks
    tally: NDArray[np.uint64]
    clusters: NDArray[np.int64]


def sample(tree: ClusterTree, first: int, per_cell: int, cells: int) -> Cells:
    """At most ``cells`` cells of ``per_cell`` clusters from cluster ``first``; fewer at the end.

    Exact where ``first`` and ``per_cell`` are multiples of a power of two near ``per_cell``, and
    for any numbers while the work stays small.  Otherwise a span of summary that lies across an
    edge shows its peak in both cells and its tally in the later one: nothing is ever lost.
    """
    if per_cell < 1 or first < 0:
        raise ValueError("a cell has at least one cluster")
    cells = min(cells, max(0, -(-(tree.total - first) // per_cell)))
    if cells <= 0:
        empty = np.zeros(0, np.uint32)
        return Cells(empty, np.zeros((tree.scheme.fields, 0), np.uint64), np.zeros(0, np.int64))
    unit = _choose_unit(tree, first, per_cell, cells)
    edges = first + per_cell * np.arange(cells + 1, dtype=np.int64)
    edges[-1] = min(int(edges[-1]), tree.total)
    begin, end = first // unit, -(-int(edges[-1]) // unit)
    starts = edges[:-1] // unit - begin
    peak: Peaks
    if unit <= FINE:
        if unit == 1:
            values = tree.values(begin, end)
            peak = np.take(tree.scheme.peaks, values)
            packed = np.take(tree.scheme.packed_tallies, values)
        else:
            peak, packed = tree.fines(begin, end)
        tally = _sum_packed(tree, packed, starts, per_cell + unit)
    else:
        peak, counts = tree.summaries(unit, begin, end)
        tally = _sum_wide(counts, starts, per_cell + 2 * unit)
    return Cells(
        _join(tree, peak, starts, edges, unit, begin), tally, _sizes(edges, unit, tree.total)
    )


def _choose_unit(tree: ClusterTree, first: int, per_cell: int, cells: int) -> int:
    units = [1, *(unit for unit in tree.units() if unit <= per_cell)]
    for unit in reversed(units):
        if per_cell % unit == 0 and first % unit == 0:
            if cells * (per_cell // unit) <= _EXACT_SPANS:
                return unit
            break
    for unit in units:
        if cells * (per_cell // unit) <= _SPANS:
            return unit
    return units[-1]


def _sizes(edges: NDArray[np.int64], unit: int, total: int) -> NDArray[np.int64]:
    """The clusters whose tallies each cell has: those of the spans that start in it."""
    owned = edges // unit * unit
    owned[-1] = min(total, -(-int(edges[-1]) // unit) * unit)
    return np.maximum(np.diff(owned), 1)


def _join(
    tree: ClusterTree,
    peak: Peaks,
    starts: NDArray[np.int64],
    edges: NDArray[np.int64],
    unit: int,
    begin: int,
) -> Peaks:
    join = tree.scheme.join
    joined = peak if len(peak) == len(starts) else join.reduceat(peak, starts)
    across = np.flatnonzero(edges[1:] % unit)
    if len(across):
        straddling = np.minimum(edges[1:][across] // unit - begin, len(peak) - 1)
        joined = joined.copy()
        joined[across] = join(joined[across], peak[straddling])
    return joined


def _sum_packed(
    tree: ClusterTree, packed: PackedTallies, starts: NDArray[np.int64], most: int
) -> NDArray[np.uint64]:
    fields = tree.scheme.fields
    if len(packed) == len(starts):
        return tally_fields(packed, fields)
    if most <= PACKED_LIMIT:
        return tally_fields(np.add.reduceat(packed, starts), fields)
    return np.add.reduceat(tally_fields(packed, fields), starts, axis=1)


def _sum_wide(tally: NDArray[Any], starts: NDArray[np.int64], most: int) -> NDArray[np.uint64]:
    """Sums between ``starts``, each of at most ``most`` clusters."""
    if tally.shape[1] == len(starts):
        return tally.astype(np.uint64)
    width = np.uint32 if most < 1 << 32 else np.uint64
    ratio = int(starts[1]) if len(starts) > 1 else tally.shape[1]
    missing = ratio * len(starts) - tally.shape[1]
    # Starts are evenly spaced exactly when the last one is where even spacing would put it.
    if missing < 0 or ratio & (ratio - 1) or int(starts[-1]) != ratio * (len(starts) - 1):
        return np.add.reduceat(tally, starts, axis=1, dtype=width).astype(np.uint64)
    if missing:
        tally = np.concatenate([tally, np.zeros((len(tally), missing), tally.dtype)], axis=1)
    tally = tally.astype(width, copy=False)
    while ratio > 1:
        tally = tally[:, 0::2] + tally[:, 1::2]
        ratio //= 2
    return tally.astype(np.uint64)
