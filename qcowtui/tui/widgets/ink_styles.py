"""From map codes to characters and terminal styles, for any number of colours.

Styles are made once for each code (or pair of codes: two dots above each other) and looked up from
then on; that and unchanging strips are what makes a dense map cheap to paint.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.app import App

from ...views.palette import HATCH, RGB, Ink, MapTheme, ink_on, mix, nearest_256

HALF_BLOCK: Final = "▀"
LOWER_HALF_BLOCK: Final = "▄"


class Depth(Enum):
    """How many colours the terminal has."""

    TRUE = 1 << 24
    EIGHT_BIT = 256
    STANDARD = 16
    NONE = 0

    @classmethod
    def of(cls, app: App[Any]) -> Depth:
        """What this app's terminal has; NO_COLOR means none."""
        if app.no_color:
            return cls.NONE
        if app.native_ansi_color:
            return cls.STANDARD
        depths = {"standard": cls.STANDARD, "windows": cls.STANDARD, "256": cls.EIGHT_BIT}
        return depths.get(app.console.color_system or "", cls.TRUE)

    def color(self, ink: Ink) -> Color:
        """The terminal's colour nearest to an ink (with none, its default)."""
        if self is Depth.TRUE:
            return Color.from_rgb(*ink.rgb)
        if self is Depth.NONE:
            return Color.default()
        return Color.from_ansi(ink.ansi256 if self is Depth.EIGHT_BIT else ink.ansi16)

    def swatch(self, ink: Ink, width: int) -> tuple[str, Style]:
        """A sample of an ink, with its mark if it has one."""
        if ink.mark == HATCH:
            line = mix(ink.rgb, ink_on(ink.rgb), 0.4)
            color = self.color(Ink(line, nearest_256(line), 8, ""))
            return HATCH * width, Style(color=color, bgcolor=self.color(ink))
        if ink.mark:
            return ink.mark.center(width), self.damage(ink)
        return " " * width, Style(bgcolor=self.color(ink))

    def damage(self, ink: Ink) -> Style:
        """Readable text on an ink."""
        text = ink_on(ink.rgb)
        number = 0 if text == (0, 0, 0) else 15
        return Style(
            color=self.color(Ink(text, nearest_256(text), number, "")),
            bgcolor=self.color(ink),
            bold=True,
        )


class InkStyles:
    """The look of every code of one painter in one theme; get them with :func:`ink_styles`.

    ``glyphs`` draws one character for each code, else two codes share a character as upper and
    lower half.  ``background`` and ``foreground`` are those of the widget.
    """

    def __init__(
        self,
        inks: tuple[Ink, ...],
        theme: MapTheme,
        depth: Depth,
        glyphs: bool,
        background: RGB,
        foreground: RGB,
    ) -> None:
        self.depth = depth
        self.glyphs = glyphs
        self._inks = inks
        self._theme = theme
        self._background = background
        self._foreground = foreground
        self._looks: dict[int, tuple[str, Style]] = {}
        self._singles: dict[int, Segment] = {}

    def segments(self, row: NDArray[np.uint16]) -> list[Segment]:
        """One text line of codes: with ``glyphs`` a code, else ``upper << 8 | lower``."""
        cuts = np.flatnonzero(row[1:] != row[:-1]) + 1
        starts = [0, *cuts.tolist()]
        lengths = np.diff(np.array([*starts, len(row)])).tolist()
        singles, looks, segments = self._singles, self._looks, []
        for value, length in zip(row[starts].tolist(), lengths, strict=True):
            if length == 1:
                segment = singles.get(value)
                if segment is None:
                    segment = singles[value] = Segment(*self.look(value))
            else:
                look = looks.get(value)
                character, style = self.look(value) if look is None else look
                segment = Segment(character * length, style)
            segments.append(segment)
        return segments

    def look(self, value: int) -> tuple[str, Style]:
        """Character and style of a code or pair of codes."""
        look = self._looks.get(value)
        if look is None:
            if self.glyphs:
                look = self._glyph(value)
            else:
                look = self._pair(value >> 8, value & 255)
            self._looks[value] = look
        return look

    def cursor(self, value: int, upper: bool, focused: bool) -> tuple[str, Style]:
        """The cursor on one character: a dot of its own colour; a mark or glyph reversed."""
        character, style = self.look(value)
        if self.glyphs:
            bare = character if character.strip() else "_"
            return bare, style + Style(reverse=True, bold=focused)
        weight = 1.0 if focused else 0.55
        rgb = mix(self._background, self._theme.cursor, weight)
        number = (15 if focused else 7) if self._theme.dark else (0 if focused else 8)
        dot = self.depth.color(Ink(rgb, nearest_256(rgb), number, ""))
        if character not in (" ", HALF_BLOCK, LOWER_HALF_BLOCK, HATCH):
            return character, Style(color=style.bgcolor, bgcolor=dot, bold=True)
        own, rest = (value >> 8, value & 255) if upper else (value & 255, value >> 8)
        under, other = self._inks[own], self.depth.color(self._inks[rest])
        if _near(under.rgb, rgb) or (self.depth is Depth.STANDARD and under.ansi16 == number):
            return under.glyph, Style(color=other, bgcolor=dot, bold=True)
        return HALF_BLOCK if upper else LOWER_HALF_BLOCK, Style(color=dot, bgcolor=other)

    def frame(self, value: int, focused: bool) -> Style:
        """The style of a frame drawn over a large cell."""
        _, style = self.look(value)
        if self.depth is Depth.NONE:
            return Style(reverse=True)
        ink = self._inks[value & 255]
        line = ink_on(ink.rgb) if focused else mix(ink.rgb, ink_on(ink.rgb), 0.6)
        number = 0 if line == (0, 0, 0) else 15
        color = self.depth.color(Ink(line, nearest_256(line), number, ""))
        return Style(color=color, bgcolor=style.bgcolor, bold=focused)

    def text(self, rgb: RGB, number: int | None) -> Style:
        """Text on the widget's background; ``number`` is its colour of 16, None the default."""
        if self.depth is Depth.STANDARD:
            return Style() if number is None else Style(color=Color.from_ansi(number))
        color = self.depth.color(Ink(rgb, nearest_256(rgb), 0, ""))
        return Style(color=color, bgcolor=self._plain_background())

    def _glyph(self, code: int) -> tuple[str, Style]:
        ink = self._inks[code]
        damage = bool(ink.mark) and ink.mark != HATCH
        if self.depth is Depth.NONE:
            return ink.glyph, Style(bold=damage or None)
        if damage:
            return ink.glyph, self.depth.damage(ink)
        rgb = ink.rgb
        if code == 0:
            return " ", Style(bgcolor=self._plain_background())
        if ink.glyph in ".~?":  # empty cells are near the background: lift their glyph off it
            rgb = mix(self._background, self._foreground, 0.35)
            ink = Ink(rgb, nearest_256(rgb), 8, ink.glyph)
        return ink.glyph, Style(color=self.depth.color(ink), bgcolor=self._plain_background())

    def _plain_background(self) -> Color | None:
        if self.depth is Depth.STANDARD:
            return None
        rgb = self._background
        return self.depth.color(Ink(rgb, nearest_256(rgb), 0, ""))

    def _pair(self, upper: int, lower: int) -> tuple[str, Style]:
        inks = [self._inks[code] for code in (max(upper, lower), min(upper, lower))]
        for ink in inks:  # of two damaged dots the one with the larger code is the worse
            if ink.mark and ink.mark != HATCH:
                return ink.mark, self.depth.damage(ink)
        above, below = self._inks[upper], self._inks[lower]
        if above.mark == below.mark == HATCH:
            line = mix(above.rgb, self._foreground, 0.22)
            color = self.depth.color(Ink(line, nearest_256(line), 8, ""))
            return HATCH, Style(color=color, bgcolor=self.depth.color(above))
        back = self._plain_background()
        first = back if upper == 0 else self.depth.color(above)
        second = back if lower == 0 else self.depth.color(below)
        if first == second:
            return " ", Style(bgcolor=first)
        if first is None:  # "no colour" is a background only
            return LOWER_HALF_BLOCK, Style(color=second, bgcolor=None)
        return HALF_BLOCK, Style(color=first, bgcolor=second)


@lru_cache(maxsize=8)
def ink_styles(
    inks: tuple[Ink, ...],
    theme: MapTheme,
    depth: Depth,
    glyphs: bool,
    background: RGB,
    foreground: RGB,
) -> InkStyles:
    """One table of looks for all widgets and painters with the same inks: making it takes time."""
    return InkStyles(inks, theme, depth, glyphs, background, foreground)


def _near(one: RGB, other: RGB) -> bool:
    """Whether a dot of one colour does not show on the other."""
    return sum(abs(first - second) for first, second in zip(one, other, strict=True)) < 120
