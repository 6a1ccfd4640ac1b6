"""The top line: the file, what it is, and its badges."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.content import Content

from ...views.badges import Badge
from ...views.tones import Tone
from .one_line import OneLine, apart, fitted

#: A name keeps at least this many characters before facts are left out.
_MIN_NAME = 12
#: Facts that stay, however narrow.
_LAST_FACTS = 1


class TitleBar(OneLine):
    """Name, facts and badges; a badge tells its meaning under the mouse."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "title-bar--name",
        "title-bar--fact",
        *(f"title-bar--{tone.value}" for tone in Tone),
    }
    DEFAULT_CSS = """
    TitleBar {
        background: $panel;
        color: $foreground;
        .title-bar--name { text-style: bold; color: $text-primary; background: $panel; }
        .title-bar--fact { color: $foreground 80%; background: $panel; }
        .title-bar--muted { color: $text-muted; background: $panel; }
        .title-bar--good { color: $text-success; background: $success-muted; }
        .title-bar--note { color: $text-accent; background: $accent-muted; }
        .title-bar--warning { color: $text-warning; background: $warning-muted; text-style: bold; }
        .title-bar--bad { color: $text-error; background: $error-muted; text-style: bold; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._title = ""
        self._facts: tuple[str, ...] = ()
        self._badges: tuple[Badge, ...] = ()
        self._spans: list[tuple[int, int, Badge]] = []

    def show(self, name: str, facts: tuple[str, ...], badges: tuple[Badge, ...] = ()) -> None:
        """Put other contents on the line (all safe to show)."""
        if (name, facts, badges) != (self._title, self._facts, self._badges):
            self._title, self._facts, self._badges = name, facts, badges
            self.refresh()

    def line(self, width: int) -> list[Segment]:
        right = self._badge_segments(width)
        room = width - sum(cell_len(text) for text, _, _ in right) - 2
        facts = list(self._facts)
        while len(facts) > _LAST_FACTS and room - _joined_length(facts) < max(
            _MIN_NAME, min(cell_len(self._title), 40)
        ):
            facts.pop()
        name = fitted(self._title, max(_MIN_NAME, room - _joined_length(facts)))
        faint = self._style("fact")
        left = [Segment(f" {name}", self._style("name"))]
        if facts:
            left.append(Segment("  " + " · ".join(facts), faint))
        return apart(left, right, width, faint)

    def _badge_segments(self, width: int) -> list[Segment]:
        segments: list[Segment] = []
        spans: list[tuple[int, int, Badge]] = []
        room = width - _MIN_NAME - 4
        used = 0
        for badge in self._badges:
            text = f" {badge.text} "
            if used + cell_len(text) + 1 > room:
                text = f" {fitted(badge.text, max(3, room - used - 3))} "
                if used + cell_len(text) + 1 > room:
                    break
            segments += [
                Segment(" ", self._style("fact")),
                Segment(text, self._style(badge.tone.value)),
            ]
            spans.append((used + 1, used + 1 + cell_len(text), badge))
            used += cell_len(text) + 1
        start = width - used
        self._spans = [(start + first, start + last, badge) for first, last, badge in spans]
        return segments

    def _style(self, part: str) -> Style:
        return self.look(f"title-bar--{part}")

    def on_mouse_move(self, event: events.MouseMove) -> None:
        for first, last, badge in self._spans:
            if first <= event.x < last:
                self.tooltip = Content(badge.meaning)
                return
        self.tooltip = None


def _joined_length(facts: list[str]) -> int:
    return cell_len(" · ".join(facts)) + 2 if facts else 0
