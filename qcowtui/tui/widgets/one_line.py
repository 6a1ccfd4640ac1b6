"""A line of text that fits itself into the width there is."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget


class OneLine(Widget):
    """One line, painted by :meth:`line`; subclasses say what is on it."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    OneLine { height: 1; width: 1fr; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._looks: dict[str, Style] = {}

    def look(self, part: str = "") -> Style:
        """The style of a component class, or of the line; kept, as Textual forgets with a paint."""
        found = self._looks.get(part)
        if found is None:
            found = self.get_component_rich_style(part) if part else self.rich_style
            self._looks[part] = found
        return found

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._looks.clear()

    def line(self, width: int) -> list[Segment]:
        """The segments of the line; what is missing is filled, what is too much is cut."""
        return []

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return 1

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        base = self.look()
        if y:
            return Strip.blank(width, base)
        segments = [
            Segment(text, base + style if style else base) for text, style, _ in self.line(width)
        ]
        return Strip(segments).adjust_cell_length(width, base)


def fitted(text: str, width: int) -> str:
    """``text`` cut to ``width`` cells, the last one an ellipsis where something is missing."""
    if cell_len(text) <= width:
        return text
    if width <= 0:
        return ""
    kept = text[: width - 1]
    while cell_len(kept) > width - 1:
        kept = kept[:-1]
    return kept + "…"


def apart(left: list[Segment], right: list[Segment], width: int, style: Style) -> list[Segment]:
    """``left`` and ``right`` at the two ends of ``width`` cells; ``left`` is cut where needed."""
    room = width - sum(cell_len(segment.text) for segment in right)
    kept: list[Segment] = []
    for text, look, _ in left:
        piece = fitted(text, room)
        kept.append(Segment(piece, look))
        room -= cell_len(piece)
        if piece != text:
            break
    return [*kept, Segment(" " * max(0, room), style), *right]
