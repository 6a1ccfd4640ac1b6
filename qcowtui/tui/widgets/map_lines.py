"""The text lines of a cluster map: from a painter's codes to strips that are kept."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from ...views import units
from ...views.painters import OUTSIDE, Painter
from ...views.viewport import Viewport
from .ink_styles import InkStyles

#: Columns of the offsets on the left, with a space behind them.
LABEL_WIDTH: Final = 11
_MAX_KEPT: Final = 2000


class MapLook(NamedTuple):
    """All that painting needs to know about colours: of codes, of labels, of the cursor's label."""

    inks: InkStyles
    label: Style
    cursor_label: Style


class _Line(NamedTuple):
    codes: NDArray[np.uint16]  # as InkStyles.segments takes them
    strip: Strip  # without the cursor


class MapLines:
    """Strips of the lines of ``viewport``, counted from the first line of the whole map."""

    def __init__(self, viewport: Viewport, cluster_size: int) -> None:
        self.viewport = viewport
        self.cluster_size = cluster_size
        self.label_width = 0
        self._kept: dict[int, _Line] = {}
        self._generation = -1

    @property
    def width(self) -> int:
        """Columns of a line, labels included."""
        return self.label_width + self.viewport.width

    def forget(self) -> None:
        """Shape, colours or painter changed: make all lines anew when they are asked for."""
        self._kept.clear()
        self._generation = -1

    def strips(
        self, first: int, last: int, painter: Painter, look: MapLook, focused: bool
    ) -> list[Strip]:
        """Lines ``first`` ... ``last`` with the cursor; the same objects while unchanged."""
        complete = all(line in self._kept for line in range(first, last))
        if not complete or painter.generation != self._generation:
            self._make(first, last, painter, look)
        strips = [self._kept[line].strip for line in range(first, last)]
        begin, end = self.viewport.cursor_lines
        if self.viewport.total:
            for line in range(max(first, begin), min(last, end + 1)):
                strips[line - first] = self._with_cursor(line, look, focused)
        return strips

    def news(self, first: int, last: int, painter: Painter, look: MapLook) -> list[int]:
        """Make the lines ``first`` ... ``last`` anew if the painter changed; those that differ."""
        if painter.generation == self._generation:
            return []
        before = {line: self._kept[line] for line in range(first, last) if line in self._kept}
        self._make(first, last, painter, look)
        changed = []
        for line in range(first, last):
            old = before.get(line)
            if old is not None and np.array_equal(old.codes, self._kept[line].codes):
                self._kept[line] = old  # the strip that the terminal's bytes are cached with
            else:
                changed.append(line)
        return changed

    def _make(self, first: int, last: int, painter: Painter, look: MapLook) -> None:
        generation = painter.generation
        if generation != self._generation or len(self._kept) > _MAX_KEPT:
            self._kept.clear()
            self._generation = generation
        wanted = [line for line in range(first, last) if line not in self._kept]
        if not wanted:
            return
        first, last = wanted[0], wanted[-1] + 1
        grid = self._codes(first, last, painter)
        for line in wanted:
            codes = grid[line - first]
            segments = look.inks.segments(codes)
            if self.label_width:
                segments.insert(0, Segment(self._label(line), look.label))
            self._kept[line] = _Line(codes, Strip(segments, self.width))

    def _codes(self, first: int, last: int, painter: Painter) -> NDArray[np.uint16]:
        """What these lines show: (lines, columns), one code in each place or a pair."""
        view = self.viewport
        dots, height, width = view.dots_per_line, view.cell_height, view.cell_width
        top, bottom = first * dots // height, -(-last * dots // height)
        grid = self._cell_codes(top, bottom, painter)
        if width > 1 or height > 1:
            grid = np.repeat(np.repeat(grid, height, axis=0), width, axis=1)
        skip = first * dots - top * height
        grid = grid[skip : skip + (last - first) * dots]
        full = np.full((len(grid), view.width), OUTSIDE, np.uint16)
        full[:, : grid.shape[1]] = grid[:, : view.width]
        return full if dots == 1 else (full[0::2] << np.uint16(8)) | full[1::2]

    def _cell_codes(self, top: int, bottom: int, painter: Painter) -> NDArray[np.uint8]:
        """Codes of rows of cells: (rows, columns)."""
        view = self.viewport
        window = view.curve.window(top, bottom - top)
        per_cell = view.clusters_per_cell
        codes = np.full(window.count, OUTSIDE, np.uint8)
        first = window.first * per_cell
        if first < view.total:
            held = painter.codes(first, per_cell, window.count)
            codes[: len(held)] = held
        return codes.reshape(bottom - top, -1) if window.order is None else codes[window.order]

    def _label(self, line: int) -> str:
        """The offset that a line begins with; with squares only the first line of each row."""
        view = self.viewport
        curve, dot = view.curve, line * view.dots_per_line
        row = -(-dot // view.cell_height)  # the first row of cells that begins on this line
        band = -(-row // curve.band) * curve.band
        text = ""
        if band * view.cell_height < dot + view.dots_per_line:
            per_row = curve.columns * view.clusters_per_cell
            rows = max(curve.band, view.dots_per_line // view.cell_height)
            cluster = band * per_row
            if cluster < view.total:
                step = per_row * rows * self.cluster_size
                text = units.axis_label(cluster * self.cluster_size, step, LABEL_WIDTH - 1)
        return f"{text:>{LABEL_WIDTH - 1}} "

    def _with_cursor(self, line: int, look: MapLook, focused: bool) -> Strip:
        """The strip of a line that the cursor's cell is on."""
        view = self.viewport
        codes, strip = self._kept[line]
        x, y, width, height = view.cell_box(view.cursor_cell)
        first, last = view.cursor_lines
        if width == 1 and height < max(2, view.dots_per_line):
            upper = y % view.dots_per_line == 0
            drawn = [Segment(*look.inks.cursor(int(codes[x]), upper, focused))]
        else:
            style = look.inks.frame(int(codes[x]), focused)
            drawn = [Segment(_frame_row(line - first, last - first + 1, width), style)]
        place = x + self.label_width
        label = strip.crop(0, self.label_width)
        if self.label_width and line == first:
            label = Strip([Segment(self._label(line), look.cursor_label)], self.label_width)
        return Strip.join(
            [
                label,
                strip.crop(self.label_width, place),
                Strip(drawn, width),
                strip.crop(place + width),
            ]
        )


def _frame_row(row: int, rows: int, width: int) -> str:
    """One text line of a frame around a large cell."""
    if width == 1:
        return "◆"
    if rows == 1:
        return "[" + " " * (width - 2) + "]"
    if row == 0:
        return "┌" + "─" * (width - 2) + "┐"
    if row == rows - 1:
        return "└" + "─" * (width - 2) + "┘"
    return "│" + " " * (width - 2) + "│"
