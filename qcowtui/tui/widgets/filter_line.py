"""A line at the bottom of a pane to type a filter in."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input


class FilterLine(Input):
    """``enter`` keeps the filter and returns to the pane, ``escape`` drops it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "drop", "drop the filter", show=False),
        Binding("down", "keep", "to the list", show=False),
    ]
    DEFAULT_CSS = """
    FilterLine { dock: bottom; background: $panel; }
    FilterLine.-textual-compact { border-left: thick $accent !important; }
    """

    class Typed(Message):
        """Another text."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Done(Message):
        """Back to the pane; ``keep`` says whether the filter stays."""

        def __init__(self, line: FilterLine, keep: bool) -> None:
            super().__init__()
            self.line = line
            self.keep = keep

    def __init__(self) -> None:
        super().__init__(
            placeholder="filter: type a part of what to show", select_on_focus=False, compact=True
        )

    def on_mount(self) -> None:
        self.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Typed(event.value))

    async def action_submit(self) -> None:
        self.action_keep()

    def action_keep(self) -> None:
        """Keep the filter; an empty one is dropped."""
        self.post_message(self.Done(self, keep=bool(self.value)))

    def action_drop(self) -> None:
        """Show everything again."""
        self.post_message(self.Done(self, keep=False))
