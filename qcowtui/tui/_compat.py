"""The only place that touches what Textual does not publish."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from rich.text import Text
from textual import events
from textual._compositor import ChopsUpdate, Compositor
from textual.app import App
from textual.binding import BindingsMap
from textual.content import Content
from textual.dom import DOMNode
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from qcow.text import safe

Result = TypeVar("Result")


class CalmApp(App[Result]):
    """A defect ends the app with two sentences; the traceback goes to a file, not to the user."""

    #: Where tracebacks are kept; None keeps none.
    crash_log: Path | None = None
    #: Whether changes were carried out, or were about to be.
    has_written: bool = False

    def _handle_exception(self, error: Exception) -> None:
        kept = "" if self.crash_log is None else _keep(self.crash_log, error)
        images = (
            "An image that was being changed is the old or the new one, whole."
            if self.has_written
            else "No image was changed."
        )
        message = Text(
            f"qcowtui stopped on a defect of its own ({type(error).__name__}: "
            f"{safe(str(error), 200)}).\n{images}{kept}"
        )
        # Textual shows an error that knows how to show itself, else a traceback with all values.
        with contextlib.suppress(AttributeError):
            error.__rich__ = lambda: message  # type: ignore[attr-defined]
        super()._handle_exception(error)


class ThriftyCompositor(Compositor):
    """Renders of each widget only the lines that are to be painted anew and can be seen.

    Textual's own takes every widget inside the box around all changes, from top to bottom, and the
    containers behind them: after a move of the cursor that is the whole screen several times, for
    the sake of two lines of the map and one of the status line.
    """

    _changed: tuple[Region, ...] = ()

    def render_partial_update(self) -> ChopsUpdate | None:
        self._changed = tuple(self._dirty_regions)
        try:
            return super().render_partial_update()
        finally:
            self._changed = ()

    def _get_renders(
        self, crop: Region | None = None
    ) -> Iterable[tuple[Region, Region, list[Strip]]]:
        if not self._changed:
            yield from super()._get_renders(crop)
            return
        left = self._changed
        for widget, (region, clip) in self.visible_widgets.items():
            seen = region.intersection(clip)
            parts = [part for part in map(seen.intersection, left) if part]
            if parts:
                for first, last in _rows(parts):
                    lines = Region(seen.x, first, seen.width, last - first)
                    yield region, lines, widget.render_lines(lines.translate(-region.offset))
                # From front to back: what a widget covers is not seen of those behind it.
                left = tuple(part for part in left if not seen.contains_region(part))
                if not left:
                    return


def _rows(regions: Iterable[Region]) -> list[tuple[int, int]]:
    """The rows that ``regions`` are on, as few (first, end) as possible."""
    found: list[tuple[int, int]] = []
    for first, end in sorted((region.y, region.bottom) for region in regions):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((first, end))
    return found


def set_border_titles(widget: Widget, title: Text, subtitle: Text) -> None:
    """Exchange both titles of a border, and paint the border alone anew, not what is in it."""
    widget._border_title, widget._border_subtitle = (
        Content.from_rich_text(text).expand_tabs(4).split()[0] for text in (title, subtitle)
    )
    width, height = widget.outer_size
    left, top = widget.content_offset
    widget.refresh(Region(-left, -top, width, 1), Region(-left, height - 1 - top, width, 1))


class Keyless(Widget):
    """A widget that takes no key itself: what its keys do is bound on what it is in.

    A key goes straight to the screen; Textual would ask each widget around it in turn.
    """

    def _forward_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key):
            event._set_forwarded()
            self.screen.post_message(event)
        else:
            super()._forward_event(event)


class ThriftyScreen(Screen[Result]):
    """A screen that is painted by a :class:`ThriftyCompositor`.

    With a :class:`Keyless` widget in focus it remembers what is bound where.
    """

    def __init__(self) -> None:
        super().__init__()
        self._compositor = ThriftyCompositor()
        self._chain: tuple[object, list[tuple[DOMNode, BindingsMap]]] | None = None

    @property
    def _binding_chain(self) -> list[tuple[DOMNode, BindingsMap]]:
        focused = self.focused
        if not isinstance(focused, Keyless) or focused.loading:
            return super()._binding_chain
        # The keymap is another object when it changes; what the widget is in, never.
        if self._chain is None or self._chain[0] != (focused, id(self.app._keymap)):
            self._chain = (focused, id(self.app._keymap)), super()._binding_chain
        return self._chain[1]

    def _pop_result_callback(self) -> None:
        # Textual gives an app's first screen none, so switching from that one would fail.
        if self._result_callbacks:
            super()._pop_result_callback()


def _keep(path: Path, error: Exception) -> str:
    """Append the traceback to a file; a sentence that says where it is."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(time.strftime("%Y-%m-%d %H:%M:%S\n"))
            file.writelines(safe(line) + "\n" for line in lines)
    except OSError:
        return ""
    return f" Details are in {safe(str(path))}."
