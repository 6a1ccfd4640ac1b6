"""The line that says where the user is."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment

from ...views.summary import Place
from .one_line import OneLine, apart


class StatusLine(OneLine):
    """``host 0x… · guest 0x… · …`` and, at the right end, the number of the cluster."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"status-line--label", "status-line--value"}
    DEFAULT_CSS = """
    StatusLine {
        background: $surface;
        color: $foreground;
        .status-line--label { color: $text-muted; background: $surface; }
        .status-line--value { color: $foreground; background: $surface; text-style: bold; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._places: tuple[Place, ...] = ()
        self._cell = ""

    def show(self, places: tuple[Place, ...], cell: str) -> None:
        """Put another place on the line (safe to show)."""
        if (places, cell) != (self._places, self._cell):
            self._places, self._cell = places, cell
            self.refresh()

    def line(self, width: int) -> list[Segment]:
        label = self.look("status-line--label")
        value = self.look("status-line--value")
        left = [Segment(" ", label)]
        for number, place in enumerate(self._places):
            if number:
                left.append(Segment(" · ", label))
            if place.label:
                left.append(Segment(f"{place.label} ", label))
            left.append(Segment(place.value, value))
        right = [Segment(f" {self._cell} ", label)] if self._cell else []
        taken = sum(cell_len(text) for text, _, _ in (*left, *right))
        if taken > width:  # the number can be read off the map; the owner cannot
            right = []
        return apart(left, right, width, label)
