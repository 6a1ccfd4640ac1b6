"""What every pane of the dashboard is.

A pane is a bordered container.  It reads ``self.session`` and is told what changed
(:meth:`Pane.part_changed`, :meth:`Pane.selection_changed`); it never starts work and never speaks
to another pane.  What the user picks in it goes out as a message (:class:`Pane.Select`,
:class:`Pane.Jump`, :class:`Pane.Inspect`), which the dashboard turns into the one selection.

Text that may hold anything out of an image reaches a widget as ``textual.content.Content`` or
``rich.text.Text``, never as a string in which markup would be parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget

from ...views.selection import Selection
from ...views.session import Part, Session


class Pane(Vertical):
    """Base of the panes.

    Class variables: ``TITLE`` in the border, ``SCOPE`` the name of its commands' scope in the
    registry (``"map"``, ``"snapshots"``, ...), ``HELP`` a few plain sentences for the help screen:
    what is shown, what the words mean, what one can do here.
    """

    TITLE: ClassVar[str] = ""
    SCOPE: ClassVar[str] = ""
    HELP: ClassVar[str] = ""
    #: Parts that make :meth:`part_changed` worth calling; the image itself always counts.
    PARTS: ClassVar[frozenset[Part]] = frozenset()

    DEFAULT_CSS = """
    Pane { border: round $panel-lighten-2; border-title-color: $text-muted; padding: 0 1; }
    Pane:focus-within, Pane:focus { border: round $accent; border-title-color: $accent; }
    """

    @dataclass
    class Select(Message):
        """The user moved to another place; the other panes follow.  Cheap, may come often."""

        selection: Selection

    @dataclass
    class Jump(Message):
        """Go to a place that is not next to the last one: it enters the jump list, maps scroll."""

        selection: Selection

    @dataclass
    class Inspect(Message):
        """Open the inspector (owners, hex) on this place."""

        selection: Selection

    def __init__(
        self, session: Session, number: int | None = None, *, id: str | None = None
    ) -> None:
        """``number`` is the key that focuses the pane, None where it has none."""
        super().__init__(id=id)
        self.session = session
        self.number = number
        self.border_title = self.heading

    @property
    def heading(self) -> str:
        """The title in the border (own words only, no image text)."""
        return self.TITLE if self.number is None else f"{self.number} {self.TITLE}"

    @property
    def focus_target(self) -> Widget:
        """The widget that gets the focus when the pane is asked to take it."""
        for child in self.query("*"):
            if child.focusable:
                return child
        return self

    def part_changed(self, part: Part) -> None:
        """``part`` of the session holds more than before, or was forgotten: repaint it."""

    def selection_changed(self, selection: Selection) -> None:
        """The shared selection changed, in this pane or elsewhere, or more is known of it."""
