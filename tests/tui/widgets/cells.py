"""Cell goldens: a widget's lines as text, and as one letter for each style."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


def lines_of(widget: Widget) -> list[Strip]:
    """What the widget paints now."""
    return widget.render_lines(Region(0, 0, widget.size.width, widget.size.height))


def text_of(widget: Widget) -> list[str]:
    """The characters, without what is blank at the right."""
    return [strip.text.rstrip() for strip in lines_of(widget)]


def style_name(style: Style | None) -> str:
    """``#rrggbb on #rrggbb bold``, with palette numbers for colours that are not true colour."""
    if style is None:
        return ""
    parts = [
        style.color.name if style.color else "",
        f"on {style.bgcolor.name}" if style.bgcolor else "",
        "bold" if style.bold else "",
        "reverse" if style.reverse else "",
    ]
    return " ".join(part for part in parts if part)


def styles_of(strips: Sequence[Strip], skip: int = 0) -> tuple[list[str], dict[str, str]]:
    """A letter for each cell, and what the letters mean, in order of appearance."""
    letters: dict[str, str] = {}
    rows = []
    for strip in strips:
        row = ""
        for text, style, _ in strip:
            name = style_name(style)
            letter = letters.setdefault(name, chr(ord("a") + len(letters)))
            row += letter * len(text)
        rows.append(row[skip:])
    return rows, {letter: name for name, letter in letters.items()}


def style_at(widget: Widget, x: int, y: int) -> str:
    """The style of one cell."""
    for _, style, _ in lines_of(widget)[y].crop(x, x + 1):
        return style_name(style)
    raise AssertionError(f"nothing at {x},{y}")
