"""The order of cells on the screen: row by row, or along a Hilbert curve in tiled squares.

Everything is in cells; ``x`` runs right, ``y`` down, both from 0.  Functions take and give numpy
arrays (int64) of any one shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

#: The largest Hilbert square: a table of its cells takes a few MiB.
_MAX_SIDE: Final = 1024


@dataclass(frozen=True, slots=True)
class Window:
    """The cells that rows of the screen need: ``count`` cells from ``first``, and where they go.

    ``order`` (rows, columns) holds for each place the index within those cells; None means in
    order, row by row.
    """

    first: int
    count: int
    order: Integers | None


class Curve(Protocol):
    """An arrangement of cells in a given width."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def columns(self) -> int:
        """The columns in use."""

    @property
    def band(self) -> int:
        """Rows after which the order starts anew at the left."""

    def rows(self, cells: int) -> int:
        """The rows that ``cells`` cells take."""

    def place(self, cell: Integers) -> tuple[Integers, Integers]:
        """``x`` and ``y`` of cells."""

    def cell(self, x: Integers, y: Integers) -> Integers:
        """The cells at these places, -1 outside the columns in use."""

    def window(self, top: int, rows: int) -> Window:
        """What the rows ``top`` ... ``top + rows`` need."""


@dataclass(frozen=True)
class Linear:
    """Row by row: for reading."""

    columns: int
    name: str = "linear"
    band: int = 1

    def rows(self, cells: int) -> int:
        return -(-cells // self.columns)

    def place(self, cell: Integers) -> tuple[Integers, Integers]:
        return cell % self.columns, cell // self.columns

    def cell(self, x: Integers, y: Integers) -> Integers:
        inside = (x >= 0) & (x < self.columns) & (y >= 0)
        return np.where(inside, y * self.columns + x, -1)

    def window(self, top: int, rows: int) -> Window:
        return Window(top * self.columns, rows * self.columns, None)


@dataclass(frozen=True)
class Hilbert:
    """Squares of ``side`` cells (a power of two), ``across`` beside each other: for overview.

    Neighbours in the file are neighbours on the screen, so a region keeps its shape when zoomed.
    """

    side: int
    across: int
    name: str = "Hilbert"

    @classmethod
    def fitting(cls, columns: int, rows: int) -> Hilbert:
        """The largest squares that a view of this size can show whole."""
        side = 1 << (max(1, min(columns, rows, _MAX_SIDE)).bit_length() - 1)
        return cls(side, max(1, columns // side))

    @property
    def columns(self) -> int:
        return self.side * self.across

    @property
    def band(self) -> int:
        return self.side

    def rows(self, cells: int) -> int:
        squares = -(-cells // (self.side * self.side))
        return -(-squares // self.across) * self.side

    def place(self, cell: Integers) -> tuple[Integers, Integers]:
        square, within = np.divmod(cell, self.side * self.side)
        x, y = _places(self.side)
        return (
            x[within] + square % self.across * self.side,
            y[within] + square // self.across * self.side,
        )

    def cell(self, x: Integers, y: Integers) -> Integers:
        inside = (x >= 0) & (x < self.columns) & (y >= 0)
        x, y = np.where(inside, x, 0), np.where(inside, y, 0)
        square = y // self.side * self.across + x // self.side
        within = _table(self.side)[y % self.side, x % self.side]
        return np.where(inside, square * self.side * self.side + within, -1)

    def window(self, top: int, rows: int) -> Window:
        band = self.across * self.side * self.side
        first, last = top // self.side, -(-(top + rows) // self.side)
        x = np.arange(self.columns, dtype=np.int64)[None, :]
        y = np.arange(top, top + rows, dtype=np.int64)[:, None]
        order = self.cell(*np.broadcast_arrays(x, y)) - first * band
        return Window(first * band, (last - first) * band, order)


@lru_cache(maxsize=4)
def _places(side: int) -> tuple[Integers, Integers]:
    """``x`` and ``y`` of each step of the curve through one square."""
    step = np.arange(side * side, dtype=np.int64)
    x, y = np.zeros_like(step), np.zeros_like(step)
    span = 1
    while span < side:
        right, down = step >> 1 & 1, (step ^ step >> 1) & 1
        flip = (down == 0) & (right == 1)
        turned_x, turned_y = np.where(flip, span - 1 - x, x), np.where(flip, span - 1 - y, y)
        turn = down == 0
        x, y = np.where(turn, turned_y, turned_x), np.where(turn, turned_x, turned_y)
        x, y = x + span * right, y + span * down
        step = step >> 2
        span *= 2
    return x, y


@lru_cache(maxsize=4)
def _table(side: int) -> NDArray[Any]:
    """The step of the curve at each ``[y, x]`` of one square."""
    x, y = _places(side)
    table = np.empty((side, side), np.int64)
    table[y, x] = np.arange(side * side, dtype=np.int64)
    return table
