"""What every pane of the dashboard is.

A pane is a bordered container.  It reads ``self.session`` and is told what changed
(:meth:`Pane.part_changed`, :meth:`Pane.selection_changed`); it never starts work and never speaks
to another pane.  What the user picks in it goes out as a message (:class:`Pane.Select`,
:class:`Pane.Jump`, :class:`Pane.Inspect`, :class:`Pane.Show`), which the dashboard turns into the
one selection.

Keys come from the registry of commands.  Moving, paging, ``enter`` and ``/`` are the same in every
pane: they call ``action_move(right, down)``, ``action_page(pages)``, ``action_home()``,
``action_end()`` and ``action_activate()`` of the focused widget, or of ``focus_target``, or else
scroll the pane.  Commands of a scope of its own (``SCOPE``) call ``action_`` methods of the pane.

Text that may hold anything out of an image reaches a widget as ``textual.content.Content`` or
``rich.text.Text``, never as a string in which markup would be parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget

from ...commands.command import Scope
from ...views.selection import Selection
from ...views.session import Part, Session
from .._compat import set_border_titles
from ..bindings import bindings_for, why_not
from ..widgets.filter_line import FilterLine


class Pane(Vertical, can_focus=True):
    """Base of the panes.

    ``TITLE`` is in the border, ``TAB`` (shorter) in the line of tabs.  ``HELP`` are plain sentences
    for the help screen: what is shown, what the words mean, what one can do; the key of a
    command is written as ``{its.id}``.  ``SCOPE`` is the scope of commands the pane has beside the
    common ones.  A ``FILTERABLE`` pane is given what the
    user types after ``/`` (:meth:`filter_changed`).
    """

    TITLE: ClassVar[str] = ""
    TAB: ClassVar[str] = ""
    HELP: ClassVar[str] = ""
    SCOPE: ClassVar[Scope | None] = None
    FILTERABLE: ClassVar[bool] = False
    BINDINGS = bindings_for(Scope.PANE)

    DEFAULT_CSS = """
    Pane {
        border: round $foreground 30%;
        border-title-color: $foreground 70%;
        border-subtitle-color: $text-muted;
        padding: 0 1;
    }
    Pane:focus-within, Pane:focus {
        border: round $accent;
        border-title-color: $text-accent;
        border-title-style: bold;
    }
    """

    @dataclass
    class Select(Message):
        """The user moved to another place; the other panes follow.  Cheap, may come often."""

        selection: Selection

    @dataclass
    class Jump(Message):
        """Go to a place that is not next to the last one: it enters the jump list, maps scroll.

        With ``show`` the map is shown and focused as well.
        """

        selection: Selection
        show: bool = False

    @dataclass
    class Inspect(Message):
        """Open the inspector (owners, hex) on this place."""

        selection: Selection

    @dataclass
    class Show(Message):
        """Show another pane, by its id: ``"findings"``, ``"map"``, ..."""

        pane: str

    @dataclass
    class Compare(Message):
        """Draw the difference between two states: ``active``, ``snapshot:ID``, ``layer:N``."""

        one: str
        other: str

    @dataclass
    class Ask(Message):
        """Prepare a change: ``what`` is the name of a command, ``of`` what it is about.

        Those are state indexes of snapshots, or the depth of a layer.
        """

        what: str
        of: tuple[int, ...] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        if cls.SCOPE is not None and "BINDINGS" not in cls.__dict__:
            cls.BINDINGS = bindings_for(cls.SCOPE)
        super().__init_subclass__(**options)

    def __init__(self, session: Session, number: int | None = None, *, id: str) -> None:
        """``number`` is the key that focuses the pane, None where it has none."""
        super().__init__(id=id)
        self.session = session
        self.number = number
        self._titled: tuple[str, str] | None = None
        self.retitle()

    # ---- what a pane overrides

    def part_changed(self, part: Part) -> None:
        """``part`` of the session holds more than before, or was forgotten: repaint it.

        Only called while the pane is mounted; what it shows when mounted it reads in ``on_mount``.
        """

    def selection_changed(self, selection: Selection) -> None:
        """The shared selection changed, in this pane or elsewhere, or more is known of it."""

    def filter_changed(self, text: str) -> None:
        """Show only what matches ``text`` (everything when it is empty)."""

    @property
    def states_to_compare(self) -> tuple[str, str] | None:
        """What a comparison asked for in this pane proposes; None: anything."""
        return None

    @property
    def focus_target(self) -> Widget:
        """The widget that gets the focus when the pane is asked to take it."""
        for child in self.query("*"):
            if child.focusable and not isinstance(child, FilterLine):
                return child
        return self

    def on_focus(self) -> None:
        if (target := self.focus_target) is not self:
            target.focus()

    # ---- titles

    def retitle(self, addition: str = "", subtitle: str = "") -> None:
        """Put the title into the border, with something added (safe to show)."""
        if (addition, subtitle) == self._titled:
            return
        self._titled = (addition, subtitle)
        title = self.TITLE if self.number is None else f"{self.number} {self.TITLE}"
        # Text, not str: what is added must never be read as markup.
        set_border_titles(self, Text(f"{title}  {addition}" if addition else title), Text(subtitle))

    # ---- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "filter" and not self.FILTERABLE:
            return None
        return None if why_not(action, parameters, self.session) else True

    def _act(self, name: str, *arguments: int) -> bool:
        """Call an action of the focused widget or else of the main one; whether it has it."""
        for find in (self._focused, self._main):
            widget = find()  # the second only when the first did not do: it is a search
            method = getattr(widget, name, None)
            if widget is not None and widget is not self and method is not None:
                method(*arguments)
                return True
        return False

    def _focused(self) -> Widget | None:
        return self.screen.focused

    def _main(self) -> Widget | None:
        return self.focus_target

    def action_move(self, right: int, down: int) -> None:
        if not self._act("action_move", right, down):
            self.scroll_relative(x=right, y=down, animate=False)

    def action_page(self, pages: int) -> None:
        if not self._act("action_page", pages):
            self.scroll_relative(y=pages * max(1, self.size.height - 1), animate=False)

    def action_home(self) -> None:
        if not self._act("action_home"):
            self.scroll_home(animate=False)

    def action_end(self) -> None:
        if not self._act("action_end"):
            self.scroll_end(animate=False)

    def action_activate(self) -> None:
        """Look closer at what is under the cursor."""
        self._act("action_activate")

    def action_filter(self) -> None:
        """Open the line to type a filter in."""
        lines = self.query(FilterLine)
        if lines:
            lines.first().focus()
        else:
            self.mount(FilterLine())

    @on(FilterLine.Typed)
    def _filter_typed(self, event: FilterLine.Typed) -> None:
        event.stop()
        self.filter_changed(event.text)

    @on(FilterLine.Done)
    def _filter_done(self, event: FilterLine.Done) -> None:
        event.stop()
        if not event.keep:
            self.filter_changed("")
            event.line.remove()
        self.focus_target.focus()

    def escape(self) -> bool:
        """Leave what is transient in this pane (a filter); whether there was anything."""
        lines = self.query(FilterLine)
        if not lines:
            return False
        self.filter_changed("")
        lines.first().remove()
        self.focus_target.focus()
        return True
