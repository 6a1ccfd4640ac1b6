"""A box over the screen: for help, questions and what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

Result = TypeVar("Result")


class PanelScreen(ModalScreen[Result], Generic[Result]):
    """A titled box that scrolls; ``escape`` leaves it.  Texts are never read as markup."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave", show=False),
        Binding("q", "leave", "leave", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("pageup", "scroll(-15)", "page up", show=False),
        Binding("pagedown", "scroll(15)", "page down", show=False),
    ]
    DEFAULT_CSS = """
    PanelScreen { align: center middle; background: $background 50%; }
    PanelScreen > .panel {
        width: 90; max-width: 96%; height: auto; max-height: 92%; padding: 0 1;
        background: $surface; border: round $accent; border-title-color: $text-accent;
        border-subtitle-color: $text-muted;
    }
    PanelScreen > .panel > VerticalScroll {
        height: auto; max-height: 100%; scrollbar-size-vertical: 1;
    }
    PanelScreen .panel-text { width: 1fr; height: auto; margin: 0 0 1 0; }
    """
    TITLE_TEXT: ClassVar[str] = ""
    HINT: ClassVar[str] = "esc leave"

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel") as box:
            box.border_title = Text(self.title_text())
            box.border_subtitle = self.HINT
            with VerticalScroll(can_focus=False) as scroll:
                scroll.can_focus = False
                yield from self.contents()

    def title_text(self) -> str:
        """The title in the border (safe to show)."""
        return self.TITLE_TEXT

    def contents(self) -> list[Widget]:
        """What is in the box."""
        return []

    @staticmethod
    def paragraph(text: str | Content) -> Static:
        """A text that wraps."""
        content = text if isinstance(text, Content) else Content(text)
        return Static(content, classes="panel-text", markup=False)

    def why_stay(self) -> str:
        """Why the app cannot be left while this is open; empty when it can."""
        return ""

    def say(self, reason: str) -> None:
        """Show a reason (safe to show) where the user looks."""

    def cancel_then(self, then: Callable[[], None]) -> None:
        """End what makes the app stay, then do something."""
        then()

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_scroll(self, lines: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)
