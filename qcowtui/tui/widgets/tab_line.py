"""The panes as tabs, where only one of them is on the screen."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.message import Message

from .one_line import OneLine


class Tab(NamedTuple):
    """``pane`` is the id of what it shows, ``label`` what it says (our own words)."""

    pane: str
    number: str
    label: str


class TabLine(OneLine):
    """One word a pane; numbers alone for the others where it is too narrow for all words."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "tab-line--tab",
        "tab-line--number",
        "tab-line--front",
    }
    DEFAULT_CSS = """
    TabLine {
        background: $surface;
        .tab-line--tab { color: $text-muted; background: $surface; }
        .tab-line--number { color: $text-accent; background: $surface; }
        .tab-line--front { color: $text-accent; background: $accent-muted; text-style: bold; }
    }
    """

    class Picked(Message):
        """A tab was clicked."""

        def __init__(self, pane: str) -> None:
            super().__init__()
            self.pane = pane

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._tabs: tuple[Tab, ...] = ()
        self._front = ""
        self._spans: list[tuple[int, int, str]] = []

    def show(self, tabs: tuple[Tab, ...], front: str) -> None:
        """Other tabs, or another one in front."""
        if (tabs, front) != (self._tabs, self._front):
            self._tabs, self._front = tabs, front
            self.refresh()

    def line(self, width: int) -> list[Segment]:
        style = self.look
        plain, number, front = (style(f"tab-line--{part}") for part in ("tab", "number", "front"))
        full = sum(len(tab.number) + cell_len(tab.label) + 2 for tab in self._tabs) + 1
        segments: list[Segment] = []
        self._spans = []
        used = 0
        for tab in self._tabs:
            named = full <= width or tab.pane == self._front
            text = f" {tab.label}" if named else " "
            if tab.pane == self._front:
                text += " "
                segments.append(Segment(f" {tab.number}{text}", front))
            else:
                segments += [Segment(f" {tab.number}", number), Segment(text, plain)]
            length = 1 + len(tab.number) + cell_len(text)
            self._spans.append((used, used + length, tab.pane))
            used += length
        return segments

    def on_click(self, event: events.Click) -> None:
        for first, last, pane in self._spans:
            if first <= event.x < last:
                self.post_message(self.Picked(pane))
