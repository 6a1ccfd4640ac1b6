"""Some clusters of a map picked out, the rest dimmed: a diff, a finding, what a snapshot owns."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qcow.inspect.classes import ClusterClass

from .painters import Codes, Painter
from .palette import FADES, Ink, MapTheme, dimmed_ink, mix, nearest_256

_CLASSES: Final = len(ClusterClass)
_FIRST_DIMMED: Final = 1 + _CLASSES * FADES
#: Picked out, but nothing is in use there.
_EMPTY: Final = _FIRST_DIMMED + _CLASSES
_EMPTY_WEIGHT: Final = 0.35


class HighlightPainter:
    """The map of ``base`` with the clusters in some ranges picked out.

    ``starts``, ``lengths``: clusters, ascending, not overlapping.  The search for problems goes
    through the ranges instead.  ``word`` is what a picked cluster is ("differs").
    """

    def __init__(
        self, base: Painter, starts: NDArray[Any], lengths: NDArray[Any], word: str
    ) -> None:
        self.base = base
        self.word = word
        self._starts = np.asarray(starts, np.int64)
        self._stops = self._starts + np.asarray(lengths, np.int64)

    @property
    def total(self) -> int:
        return self.base.total

    @property
    def generation(self) -> int:
        return self.base.generation

    def inks(self, theme: MapTheme) -> tuple[Ink, ...]:
        inks = self.base.inks(theme)[:_FIRST_DIMMED]
        free = theme.colours[ClusterClass.FREE]
        rgb = mix(free, theme.cursor, _EMPTY_WEIGHT)
        empty = Ink(rgb, nearest_256(rgb), 7 if theme.dark else 8, "-")
        return (*inks, *(dimmed_ink(theme, member) for member in ClusterClass), empty)

    def codes(self, first: int, per_cell: int, cells: int) -> Codes:
        codes = self.base.codes(first, per_cell, cells)
        hue = (np.minimum(codes, _FIRST_DIMMED - 1) - 1) // np.uint8(FADES)
        picked = self._picked(first, per_cell, len(codes))
        bright = np.where(
            hue <= ClusterClass.BEYOND_END, np.uint8(_EMPTY), 1 + hue * FADES + FADES - 1
        )
        return np.where(picked, bright, _FIRST_DIMMED + hue).astype(np.uint8)

    def problems(self, first: int, per_cell: int, cells: int) -> NDArray[np.bool_]:
        left = max(0, -(-(self.total - first) // per_cell))
        return self._picked(first, per_cell, min(cells, left))

    def _picked(self, first: int, per_cell: int, cells: int) -> NDArray[np.bool_]:
        """Whether each cell overlaps a range."""
        begin = first + per_cell * np.arange(cells, dtype=np.int64)
        next_range = np.searchsorted(self._stops, begin, side="right")
        known = next_range < len(self._starts)
        found = np.zeros(cells, np.bool_)
        found[known] = self._starts[next_range[known]] < begin[known] + per_cell
        return found

    def is_problem(self, cluster: int) -> bool:
        return bool(self._picked(cluster, 1, 1)[0])

    def find_problem(self, start: int, forward: bool = True) -> int | None:
        if forward:
            index = int(np.searchsorted(self._stops, start, side="right"))
            if index == len(self._starts):
                return None
            return max(start, int(self._starts[index]))
        index = int(np.searchsorted(self._starts, start, side="right")) - 1
        return None if index < 0 else min(start, int(self._stops[index]) - 1)

    def run_end(self, cluster: int, forward: bool = True) -> int:
        if forward:
            index = int(np.searchsorted(self._stops, cluster, side="right"))
            return int(self._stops[index])
        index = int(np.searchsorted(self._starts, cluster, side="right")) - 1
        return int(self._starts[index]) - 1

    def describe(self, cluster: int) -> str:
        text = self.base.describe(cluster)
        return f"{text}, {self.word}" if self.is_problem(cluster) else text
