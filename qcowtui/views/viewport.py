"""The state of one map view: scale, order, cursor and scroll position, without any screen.

Three sizes: a *cluster* of the image; a *cell*, which stands for 2**zoom clusters (half as many
again where that lets the whole image fit the view better); a *dot*, the smallest thing the screen
can colour (half a character).  Zoomed out, a cell is a dot.  Zoomed in beyond one cluster a dot
(negative zoom) a cell is one cluster and 2**-zoom dots, square or half a square.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from .curves import Curve, Hilbert, Linear

#: A cluster is drawn at most 2**6 dots large: eight characters wide.
MIN_ZOOM: Final = -6


class ProblemSource(Protocol):
    """What a search for the next problem asks (see :class:`qcowtui.views.painters.Painter`)."""

    def is_problem(self, cluster: int) -> bool: ...

    def find_problem(self, start: int, forward: bool = True) -> int | None: ...

    def run_end(self, cluster: int, forward: bool = True) -> int: ...


@dataclass
class Viewport:
    """A view of ``total`` clusters in ``width`` dots by ``height`` text lines.

    ``dots_per_line`` is 2 where a character shows two dots above each other, else 1.  Rows and
    columns below are text lines and characters.
    """

    total: int
    width: int = 1
    height: int = 1
    dots_per_line: int = 2
    zoom: int = 0
    cursor: int = 0
    top: int = 0
    hilbert: bool = False
    fitted: bool = True  # the zoom follows the size until the user chooses one
    half_step: bool = False  # a cell is half as large again: only while fitted
    _curve: Curve = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._settle()

    # ---- shape

    @property
    def clusters_per_cell(self) -> int:
        return _per_cell(self.zoom, self.half_step)

    @property
    def cells(self) -> int:
        """Cells of the whole image."""
        return -(-self.total // self.clusters_per_cell)

    @property
    def cell_width(self) -> int:
        """Characters that a cell is wide."""
        return self._cell_size_at(self.zoom)[0]

    @property
    def cell_height(self) -> int:
        """Dots that a cell is high."""
        return self._cell_size_at(self.zoom)[1]

    @property
    def curve(self) -> Curve:
        return self._curve

    @property
    def lines(self) -> int:
        """Text lines of the whole image."""
        return self._lines_at(self.zoom, self.half_step)

    def _lines_at(self, zoom: int, half_step: bool) -> int:
        cells = -(-self.total // _per_cell(zoom, half_step))
        dots = self._curve_at(zoom).rows(cells) * self._cell_size_at(zoom)[1]
        return -(-dots // self.dots_per_line)

    def _cell_size_at(self, zoom: int) -> tuple[int, int]:
        """Characters wide and dots high; a step of zoom doubles the side that looks shorter."""
        steps = max(0, -zoom)
        if self.dots_per_line == 2:  # a dot is a square
            return 1 << steps // 2, 1 << (steps + 1) // 2
        return 1 << (steps + 1) // 2, 1 << steps // 2

    def _curve_at(self, zoom: int) -> Curve:
        width, height = self._cell_size_at(zoom)
        columns = max(1, self.width // width)
        if not self.hilbert:
            return Linear(columns)
        rows = max(1, self.height * self.dots_per_line // height)
        return Hilbert.fitting(columns, rows)

    @property
    def fit_zoom(self) -> tuple[int, bool]:
        """The most detail (zoom, half step) at which the whole image is in view."""
        zoom, half_step = MIN_ZOOM, False
        while self._lines_at(zoom, half_step) > self.height:
            if _per_cell(zoom, half_step) >= self.total:
                break
            half_step = zoom > 0 and not half_step
            zoom += 0 if half_step else 1
        return zoom, half_step

    @property
    def max_zoom(self) -> int:
        """The power of two at which the whole image is in view."""
        zoom, half_step = self.fit_zoom
        return max(zoom + half_step, 0)

    # ---- changing it

    def resize(self, width: int, height: int, dots_per_line: int | None = None) -> None:
        """Another size of the view; a fitted view stays fitted, the cursor stays in view."""
        self.width, self.height = max(1, width), max(1, height)
        self.dots_per_line = dots_per_line or self.dots_per_line
        self._settle()

    def set_total(self, total: int) -> None:
        """The image grew or shrank."""
        self.total = total
        self._settle()

    def zoom_to(self, zoom: int) -> None:
        """Another scale; the cursor keeps its address and its line on the screen."""
        zoom = min(max(zoom, MIN_ZOOM), self.max_zoom)
        self._reshape(fitted=(zoom, False) == self.fit_zoom, zoom=zoom)

    def zoom_by(self, steps: int) -> None:
        """Positive steps see more of the image, negative ones more detail; each doubles."""
        if self.half_step and steps < 0:
            steps += 1  # the power of two below is less than a step away
        self.zoom_to(self.zoom + steps)

    def fit(self) -> None:
        """The whole image in view, also after the next resize."""
        self._reshape(fitted=True)

    def toggle_curve(self) -> None:
        """Linear or Hilbert."""
        self._reshape(fitted=self.fitted, hilbert=not self.hilbert)

    def scroll_to(self, top: int) -> None:
        """Another first line; the cursor stays where it is, in view or not."""
        self.top = min(max(0, top), max(0, self.lines - self.height))

    def _reshape(
        self, *, fitted: bool, zoom: int | None = None, hilbert: bool | None = None
    ) -> None:
        """Change scale or order; the cursor stays on its line where that can be."""
        line = self.cursor_line - self.top
        self.fitted = fitted
        self.half_step = False
        self.zoom = self.zoom if zoom is None else zoom
        self.hilbert = self.hilbert if hilbert is None else hilbert
        self._settle(line)

    def _settle(self, line: int | None = None) -> None:
        """Fit if that is wanted, and bring everything into range."""
        if self.fitted:
            self.zoom, self.half_step = self.fit_zoom
        self._curve = self._curve_at(self.zoom)
        self.cursor = min(max(0, self.cursor), max(0, self.total - 1))
        if line is not None:
            self.top = self.cursor_line - line
        self.reveal()

    def reveal(self, jump: bool = False) -> None:
        """Scroll as little as needed to have the cursor in view.

        After a ``jump`` out of the view, to where there is something to see on both sides.
        """
        first, last = self.cursor_lines
        top = self.top
        if jump and not top <= first <= last < top + self.height:
            top = first - self.height // 3
        if last - top >= self.height:
            top = last - self.height + 1
        self.scroll_to(min(top, first))

    # ---- places

    @property
    def cursor_cell(self) -> int:
        return self.cursor // self.clusters_per_cell

    @property
    def cursor_lines(self) -> tuple[int, int]:
        """First and last text line of the cursor's cell."""
        _, y, _, height = self.cell_box(self.cursor_cell)
        return y // self.dots_per_line, (y + height - 1) // self.dots_per_line

    @property
    def cursor_line(self) -> int:
        return self.cursor_lines[0]

    def cell_box(self, cell: int) -> tuple[int, int, int, int]:
        """Column, dot row, width in columns and height in dots of a cell."""
        x, y = self._curve.place(np.array(cell))
        width, height = self.cell_width, self.cell_height
        return int(x) * width, int(y) * height, width, height

    def cluster_at(self, column: int, dot: int) -> int | None:
        """The first cluster of the cell at a column and dot row, or None beside the image."""
        x, y = np.array(column // self.cell_width), np.array(dot // self.cell_height)
        cell = int(self._curve.cell(x, y))
        cluster = cell * self.clusters_per_cell
        return cluster if cell >= 0 and cluster < self.total else None

    def cell_range(self, cluster: int) -> tuple[int, int]:
        """First cluster and end of the cell that holds ``cluster``."""
        first = cluster // self.clusters_per_cell * self.clusters_per_cell
        return first, min(first + self.clusters_per_cell, self.total)

    def visible_ranges(self) -> tuple[int, int]:
        """First cluster and end of what the lines in view show (of whole squares with Hilbert)."""
        height = self.cell_height
        first_row = self.top * self.dots_per_line // height
        last_row = -(-(self.top + self.height) * self.dots_per_line // height)
        window = self._curve.window(first_row, max(1, last_row - first_row))
        first = window.first * self.clusters_per_cell
        last = first + window.count * self.clusters_per_cell
        return min(first, self.total), min(last, self.total)

    # ---- the cursor

    def go_to(self, cluster: int, jump: bool = False) -> None:
        """Put the cursor on a cluster and scroll it into view (see :meth:`reveal`)."""
        self.cursor = min(max(0, cluster), max(0, self.total - 1))
        self.reveal(jump)

    def move(self, right: int, down: int) -> None:
        """Move by cells on the screen; sideways wraps around in the order of the file."""
        step = self.clusters_per_cell
        if self.hilbert:
            x, y = self._curve.place(np.array(self.cursor_cell))
            target = int(self._curve.cell(x + right, y + down))
            if 0 <= target < self.cells:
                self._go_to_cell(target)
            return
        cell = self.cursor_cell + right
        if down:
            cell += down * self._curve.columns
            if not 0 <= cell * step < self.total:
                return
        self._go_to_cell(cell)

    def page(self, pages: int) -> None:
        """Move the view and the cursor by whole views."""
        rows = max(1, self.height * self.dots_per_line // self.cell_height)
        lines = rows * self.cell_height // self.dots_per_line
        column, dot, _, _ = self.cell_box(self.cursor_cell)
        dot += pages * lines * self.dots_per_line
        self.scroll_to(self.top + pages * lines)
        target = self.cluster_at(column, dot) if dot >= 0 else None
        if target is None:
            target = 0 if pages < 0 else self.total - 1
        self.go_to(target)

    def home(self) -> None:
        """To the first cluster."""
        self.go_to(0)

    def end(self) -> None:
        """To the last cluster."""
        self.go_to(self.total - 1)

    def _go_to_cell(self, cell: int) -> None:
        self.go_to(min(max(0, cell), self.cells - 1) * self.clusters_per_cell)

    def next_problem(self, source: ProblemSource, forward: bool = True) -> bool:
        """To the next problem that is not in the cursor's cell or run of like problems.

        Wraps around at the end.  False (and no move) where there is no other problem.
        """
        here, found = self.cursor, None
        if self.total == 0:
            return False
        if not source.is_problem(here):
            start = here
        elif forward:
            start = max(self.cell_range(here)[1], source.run_end(here))
        else:
            start = min(self.cell_range(here)[0], source.run_end(here, False) + 1) - 1
        if 0 <= start < self.total:
            found = source.find_problem(start, forward)
        if found is None:
            found = source.find_problem(0 if forward else self.total - 1, forward)
        if found is None:
            return False
        if not forward:  # the search met the end of a run: its start is the place to be
            found = source.run_end(found, False) + 1
        if found == here:
            return False
        self.go_to(found, jump=True)
        return True


def _per_cell(zoom: int, half_step: bool) -> int:
    """Clusters of a cell."""
    return 3 << (zoom - 1) if half_step else 1 << max(0, zoom)
