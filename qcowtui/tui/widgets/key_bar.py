"""The footer: the few keys that matter here, clickable, dimmed where they cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.content import Content
from textual.message import Message

from .one_line import OneLine

#: More than these nobody reads.
MAX_KEYS = 8
_GAP = "  "


@dataclass(frozen=True, slots=True)
class KeyHint:
    """``id`` is the command that a click runs; ``reason`` says why it cannot, else None."""

    key: str
    label: str
    id: str
    doc: str
    reason: str | None = None


class KeyBar(OneLine):
    """Up to eight keys; the last one (help) always stays."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "key-bar--key",
        "key-bar--label",
        "key-bar--off",
    }
    DEFAULT_CSS = """
    KeyBar {
        background: $panel;
        color: $foreground;
        .key-bar--key { color: $text-accent; background: $panel; text-style: bold; }
        .key-bar--label { color: $foreground 85%; background: $panel; }
        .key-bar--off { color: $foreground 35%; background: $panel; }
    }
    """

    class Pressed(Message):
        """A key of the bar was clicked."""

        def __init__(self, hint: KeyHint) -> None:
            super().__init__()
            self.hint = hint

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._hints: tuple[KeyHint, ...] = ()
        self._spans: list[tuple[int, int, KeyHint]] = []

    @property
    def hints(self) -> tuple[KeyHint, ...]:
        """What is on the bar, as far as it fits."""
        return self._hints

    def show(self, hints: tuple[KeyHint, ...]) -> None:
        """Put other keys on the bar, most important first, help last."""
        if hints != self._hints:
            self._hints = hints
            self.refresh()

    def line(self, width: int) -> list[Segment]:
        style = self.look
        key, label, off = style("key-bar--key"), style("key-bar--label"), style("key-bar--off")
        segments = [Segment(" ", label)]
        self._spans = []
        used = 1
        for hint in self._fitting(width - 1):
            start = used
            segments.append(Segment(hint.key, off if hint.reason else key))
            segments.append(Segment(f" {hint.label}", off if hint.reason else label))
            segments.append(Segment(_GAP, label))
            used += _length(hint)
            self._spans.append((start, used - len(_GAP), hint))
        return segments

    def _fitting(self, width: int) -> list[KeyHint]:
        *others, last = self._hints[:MAX_KEYS] or [None]
        if last is None:
            return []
        kept: list[KeyHint] = []
        left = width - _length(last) + len(_GAP)
        for hint in others:
            if hint is not None and _length(hint) <= left:
                kept.append(hint)
                left -= _length(hint)
        return [*kept, last]

    def _hint_at(self, x: int) -> KeyHint | None:
        return next((hint for first, last, hint in self._spans if first <= x < last), None)

    def on_click(self, event: events.Click) -> None:
        hint = self._hint_at(event.x)
        if hint is not None:
            self.post_message(self.Pressed(hint))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        hint = self._hint_at(event.x)
        self.tooltip = None if hint is None else Content(hint.reason or hint.doc)


def _length(hint: KeyHint) -> int:
    return cell_len(f"{hint.key} {hint.label}{_GAP}")
