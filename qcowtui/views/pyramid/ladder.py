"""Summaries of ever larger spans: what lets a cell of the map answer for millions of clusters.

A *peak* is a uint32 that joins by OR or by maximum; a *tally* is a few counts that add up.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: How many spans of one level make one of the next.
FACTOR: Final = 8

#: More levels than any ladder needs.
_NO_LIMIT: Final = 99

Peaks = NDArray[np.uint32]
#: Shape (fields, spans).
Tallies = NDArray[Any]


class Summary(NamedTuple):
    """``peak``: uint32 (n,).  ``tally``: an unsigned integer (fields, n)."""

    peak: Peaks
    tally: Tallies


class Ladder:
    """A lowest level of ``spans`` summaries, each of ``unit`` clusters, and the levels above it.

    Level *i* has spans of ``unit * FACTOR**i`` clusters; ``height`` levels at most, fewer when one
    span already covers everything.  Readers in other threads see numbers of before or after a
    write, never an array of another shape.
    """

    __slots__ = ("join", "levels", "unit")

    def __init__(
        self, spans: int, unit: int, fields: int, join: np.ufunc, height: int = _NO_LIMIT
    ) -> None:
        self.unit = unit
        self.join = join
        self.levels: list[Summary] = []
        while True:
            largest = unit * FACTOR ** len(self.levels)
            width = (
                np.uint16 if largest < 1 << 16 else np.uint32 if largest < 1 << 32 else np.uint64
            )
            self.levels.append(
                Summary(np.zeros(spans, np.uint32), np.zeros((fields, spans), width))
            )
            if spans <= 1 or len(self.levels) == height:
                return
            spans = -(-spans // FACTOR)

    def write(self, start: int, summary: Summary) -> None:
        """Set the lowest level from ``start`` on and bring the levels above up to date."""
        peak, tally = self.levels[0]
        stop = start + len(summary.peak)
        peak[start:stop] = summary.peak
        tally[:, start:stop] = summary.tally
        for upper in self.levels[1:]:
            start, stop = start // FACTOR, -(-stop // FACTOR)
            edges = np.arange(start * FACTOR, min(stop * FACTOR, len(peak)), FACTOR)
            last = min(stop * FACTOR, len(peak))
            upper.peak[start:stop] = self.join.reduceat(peak[:last], edges)
            upper.tally[:, start:stop] = np.add.reduceat(
                tally[:, :last], edges, axis=1, dtype=upper.tally.dtype
            )
            peak, tally = upper

    def whole(self) -> Summary:
        """One summary of everything: peak (1,), tally (fields, 1) of uint64."""
        peak, tally = self.levels[-1]
        return Summary(
            np.atleast_1d(self.join.reduce(peak)).astype(np.uint32),
            tally.sum(axis=1, dtype=np.uint64)[:, None],
        )
