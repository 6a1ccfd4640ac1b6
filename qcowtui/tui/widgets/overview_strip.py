"""The whole image in one or two lines: where the view is, where the cursor is, where damage is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip

from ...views.painters import Painter
from ...views.palette import mix
from ..theme import map_theme
from .ink_styles import Depth, InkStyles, ink_styles
from .own_colors import OwnColors

_TRACK = ("─", "━", "┿", "▲")  # elsewhere, in view, the cursor, damage
_ASCII_TRACK = ("-", "=", "+", "^")


class OverviewStrip(OwnColors):
    """Always the whole map of a painter, however far the map itself is zoomed in.

    The first line has the hue of each part of the image; the second (where the height is 2) marks
    the part in view, the cursor and damage.  In a height of 1 the marks replace the hues only where
    the view ends and the cursor is.
    """

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    OverviewStrip { width: 1fr; height: 2; }
    """

    class Picked(Message):
        """The user clicked on a part of the image; ``cluster`` is the first of it."""

        def __init__(self, strip: OverviewStrip, cluster: int) -> None:
            super().__init__()
            self.strip = strip
            self.cluster = cluster

        @property
        def control(self) -> OverviewStrip:
            return self.strip

    def __init__(
        self,
        painter: Painter,
        *,
        depth: Depth | None = None,
        glyphs: bool | None = None,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.painter = painter
        self._depth = depth
        self._glyphs = glyphs
        self._view = (0, painter.total)
        self._cursor = 0
        self._inks: InkStyles | None = None
        self._marks = (Style.null(), Style.null(), Style.null(), Style.null())
        self._sampled: tuple[int, int] | None = None  # generation and width of what follows
        self._codes = np.zeros(0, np.uint8)
        self._damage = np.zeros(0, np.bool_)

    def set_painter(self, painter: Painter) -> None:
        """Show something else."""
        self.painter = painter
        self._inks = None
        self._sampled = None
        self.refresh()

    def set_view(self, first: int, last: int, cursor: int) -> None:
        """Mark the clusters ``first`` ... ``last`` as in view and one as the cursor's."""
        if (first, last, cursor) == (*self._view, self._cursor):
            return
        before = self._columns_marked()
        self._view, self._cursor = (first, last), cursor
        after = self._columns_marked()
        if before == after:
            return
        if self.size.height < 2:
            self.refresh()
        elif before[:2] != after[:2]:
            self.refresh(Region(0, 1, self.size.width, 1))
        else:  # the cursor alone: two characters
            self.refresh(*(Region(column, 1, 1, 1) for column in {before[2], after[2]}))

    def data_changed(self) -> None:
        """The painter may have news: repaint if the strip looks different."""
        codes, damage = self._codes, self._damage
        if self.is_mounted and self.size and self._sample():
            same = np.array_equal(codes, self._codes) and np.array_equal(damage, self._damage)
            if not same:
                self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._inks = None

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return container.width

    # ---- places

    def cluster_at(self, x: int) -> int:
        """The first cluster that a column stands for."""
        width = max(1, self.size.width)
        return min(max(0, x), width - 1) * self.painter.total // width

    def column_of(self, cluster: int) -> int:
        """The (first) column that a cluster is in."""
        total, width = max(1, self.painter.total), max(1, self.size.width)
        if total < width:
            return min(width - 1, -(-cluster * width // total))
        return min(width - 1, ((cluster + 1) * width - 1) // total)

    def _columns_marked(self) -> tuple[int, int, int]:
        """First and last column in view, and the cursor's."""
        first, last = self._view
        total, width = max(1, self.painter.total), max(1, self.size.width)
        end = min(width, -(-last * width // total))
        begin = self.column_of(first)
        return begin, max(begin, end - 1), self.column_of(self._cursor)

    def on_click(self, event: events.Click) -> None:
        if self.painter.total:
            self.post_message(self.Picked(self, self.cluster_at(event.x)))

    # ---- painting

    def _sample(self) -> bool:
        """Look at the painter; whether there was something new to see."""
        width, total = self.size.width, self.painter.total
        wanted = (self.painter.generation, width)
        if wanted == self._sampled or not total or not width:
            return False
        per_cell = -(-total // width)
        codes = self.painter.codes(0, per_cell, width)
        damage = self.painter.problems(0, per_cell, width)
        # Cells do not end where columns end: a column shows the cell of its first cluster, and has
        # a damage mark if any cell that overlaps it is damaged.
        starts = np.arange(width, dtype=np.int64) * total // width
        ends = np.maximum(starts, np.append(starts[1:], total) - 1)
        self._codes = codes[starts // per_cell]
        self._damage = damage[starts // per_cell] | damage[ends // per_cell]
        self._sampled = wanted
        return True

    def _inks_now(self) -> InkStyles:
        if self._inks is None:
            theme = map_theme(self.app)
            depth = Depth.of(self.app) if self._depth is None else self._depth
            glyphs = depth is Depth.NONE if self._glyphs is None else self._glyphs
            background = self.background_colors[1]
            base, text = background.rgb, background.get_contrast_text(1.0).rgb
            found = self.painter.inks(theme)
            inks = self._inks = ink_styles(found, theme, depth, glyphs, base, text)
            bold = Style(bold=True)
            if depth is Depth.NONE:
                self._marks = Style(dim=True), Style(), bold, bold
            else:
                damage = next(ink for ink in found if ink.mark == "!")
                self._marks = (
                    inks.text(mix(base, text, 0.25), 8),
                    inks.text(mix(base, text, 0.75), 7),
                    inks.text(theme.cursor, None) + bold,
                    inks.text(damage.rgb, damage.ansi16) + bold,
                )
        return self._inks

    def render_line(self, y: int) -> Strip:
        inks = self._inks_now()
        self._sample()
        width = self.size.width
        if not self.painter.total or not width:
            return Strip.blank(width, self.rich_style)
        if y == 0:
            codes = self._codes.astype(np.uint16)
            row = codes if inks.glyphs else codes << np.uint16(8) | codes
            strip = Strip(inks.segments(row), width)
            return self._with_ends(strip) if self.size.height == 1 else strip
        if y == 1:
            return self._track(_ASCII_TRACK if inks.glyphs else _TRACK)
        return Strip.blank(width, self.rich_style)

    def _with_ends(self, strip: Strip) -> Strip:
        """Brackets around the part in view and the cursor, on the hues themselves."""
        first, last, cursor = self._columns_marked()
        marks = {first: "[", last: "]", cursor: "+"}
        parts, place = [], 0
        for column in sorted(marks):
            parts.append(strip.crop(place, column))
            parts.append(Strip([Segment(marks[column], Style(reverse=True, bold=True))], 1))
            place = column + 1
        return Strip.join([*parts, strip.crop(place)])

    def _track(self, characters: tuple[str, str, str, str]) -> Strip:
        first, last, cursor = self._columns_marked()
        kinds = np.zeros(self.size.width, np.uint16)
        kinds[first : last + 1] = 1
        kinds[self._damage] = 3
        if not self._damage[cursor]:
            kinds[cursor] = 2
        cuts = [0, *(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist(), len(kinds)]
        segments = [
            Segment(characters[kinds[begin]] * (end - begin), self._marks[kinds[begin]])
            for begin, end in pairwise(cuts)
        ]
        return Strip(segments, len(kinds))
