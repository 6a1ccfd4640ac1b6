"""Where the image shall end, and which part of it is kept for what lies above the L2 tables.

The end follows from the number of clusters in use.  Everything of one cluster fits anywhere below
it.  L1 tables, the refcount table and the like need adjacent clusters, and every switch writes some
of them anew; so one window at the end takes them all, and the last switch fills it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...layout.tables import I64
from .survey import DATA, FIXED, FREE, PACKED, TABLE, Roles, Survey, has_role


class Runs(NamedTuple):
    """Runs of ``clusters`` adjacent clusters that go from ``old`` to ``new`` (int64[n] each)."""

    old: I64
    new: I64
    clusters: I64


class Layout(NamedTuple):
    """Host clusters.  ``end``: the image ends there; ``window``: where the roots and refcount
    blocks go, ``reserved`` clusters; ``runs``: what has to move in one piece."""

    end: int
    window: int
    reserved: int
    runs: Runs

    def is_low(self, clusters: int) -> NDArray[np.bool_]:
        """bool[clusters]: below the end and outside of the window."""
        low = np.zeros(clusters, dtype=np.bool_)
        low[: self.end] = True
        low[self.window : self.window + self.reserved] = False
        return low


def lay_out(found: Survey, counted_by_block: int) -> Layout:
    """The shortest layout found.  ``counted_by_block``: clusters one refcount block counts."""
    roles = found.roles.copy()
    while True:
        layout, stuck = _attempt(roles, found, counted_by_block)
        if not len(stuck):
            return layout
        for first, clusters in stuck.tolist():
            roles[first : first + clusters] = FIXED


def shortest(clusters: int, per: int, least: int = 1) -> int:
    """Where an image of ``clusters`` ends with its refcount blocks, not below ``least``.

    ``per``: clusters one refcount block counts.
    """
    blocks, end = 0, 0
    while not end or -(-end // per) > blocks:
        blocks = -(-end // per)
        end = max(clusters + blocks, least)
    return end


def _attempt(roles: Roles, found: Survey, per: int) -> tuple[Layout, I64]:
    """A layout, and the runs that have no place in it (rows of ``found.runs``)."""
    fixed = np.flatnonzero(roles == FIXED)
    last = int(fixed[-1]) + 1 if len(fixed) else 1
    singles = int(np.count_nonzero(has_role(roles, FIXED, DATA, PACKED, TABLE)))
    end = shortest(singles + found.roots, per, last)
    reserved = found.roots + -(-end // per)
    window = _window(fixed, end, reserved)
    if window is None:
        window, end = end, end + reserved
    runs = found.runs[roles[found.runs[:, 0]] == PACKED]
    layout = Layout(end, window, reserved, Runs(*np.zeros((3, 0), dtype=np.int64)))
    low = layout.is_low(max(len(roles), end))[: len(roles)]
    if not len(runs):
        return layout, runs
    # A run stays where all of it may.
    inside = np.concatenate(([0], np.cumsum(low)))
    stays = inside[runs[:, 0] + runs[:, 1]] - inside[runs[:, 0]] == runs[:, 1]
    moving = runs[~stays]
    order = np.argsort(-moving[:, 1], kind="stable")
    targets = _first_fit(low & (roles == FREE), moving[order, 1])
    placed = targets >= 0
    moving = moving[order]
    runs_moved = Runs(moving[placed, 0], targets[placed], moving[placed, 1])
    return layout._replace(runs=runs_moved), moving[~placed]


def _window(fixed: I64, end: int, clusters: int) -> int | None:
    """The highest stretch of ``clusters`` below ``end`` without a fixed one, by its first."""
    stops = np.append(fixed, end)
    starts = np.concatenate(([0], fixed + 1))
    fits = np.flatnonzero(stops - starts >= clusters)
    return int(stops[fits[-1]]) - clusters if len(fits) else None


def _first_fit(free: NDArray[np.bool_], lengths: I64) -> I64:
    """A place among the free clusters for each of ``lengths`` (descending), -1 for none."""
    edges = np.flatnonzero(np.diff(free, prepend=False, append=False)).reshape(-1, 2)
    starts, stops = edges[:, 0].copy(), edges[:, 1]
    found = np.full(len(lengths), -1, dtype=np.int64)
    for number, length in enumerate(lengths.tolist()):
        fits = np.flatnonzero(stops - starts >= length)
        if len(fits):
            found[number] = starts[fits[0]]
            starts[fits[0]] += length
    return found
