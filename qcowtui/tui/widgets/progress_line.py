"""The line that says what is being done, how far it is, and how to stop it."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment

from .one_line import OneLine, apart, fitted

_BAR = 20
_FULL, _HALF, _EMPTY = "━", "╸", "─"


class ProgressLine(OneLine):
    """A running job with its bar, or what the last one found."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "progress-line--bar",
        "progress-line--rest",
        "progress-line--text",
        "progress-line--hint",
        "progress-line--note",
    }
    DEFAULT_CSS = """
    ProgressLine {
        background: $surface;
        color: $text-muted;
        .progress-line--bar { color: $accent; background: $surface; }
        .progress-line--rest { color: $foreground 25%; background: $surface; }
        .progress-line--text { color: $foreground 80%; background: $surface; }
        .progress-line--hint { color: $text-muted; background: $surface; }
        .progress-line--note { color: $text-warning; background: $surface; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = ""
        self._hint = ""
        self._fraction: float | None = None
        self._note = ""

    @property
    def text(self) -> str:
        """What the line says, without the bar."""
        return self._note or self._text

    def show(self, text: str, fraction: float | None = None, hint: str = "") -> None:
        """``fraction`` 0.0 to 1.0 draws a bar; ``hint`` stands at the right end."""
        if (text, fraction, hint) != (self._text, self._fraction, self._hint):
            self._text, self._fraction, self._hint = text, fraction, hint
            self.refresh()

    def note(self, text: str) -> None:
        """Say something in place of all that, until it is taken back with an empty ``text``."""
        if text != self._note:
            self._note = text
            self.refresh()

    def line(self, width: int) -> list[Segment]:
        style = self.look
        text, rest = style("progress-line--text"), style("progress-line--rest")
        hint = style("progress-line--hint")
        if self._note:
            return [Segment(f" {fitted(self._note, width - 2)}", style("progress-line--note"))]
        left = [Segment(" ", text)]
        if self._fraction is not None:
            halves = round(self._fraction * _BAR * 2)
            bar = _FULL * (halves // 2) + _HALF * (halves % 2)
            left.append(Segment(bar, style("progress-line--bar")))
            left.append(Segment(_EMPTY * (_BAR - len(bar)) + " ", rest))
        left.append(Segment(self._text, text))
        right = [Segment(f" {fitted(self._hint, width // 2)} ", hint)] if self._hint else []
        return apart(left, right, width, text)
