"""The prompt for a path."""

from __future__ import annotations

import os
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import Input

from qcow.text import safe


class _Paths(Suggester):
    """The first name in a folder that goes on from what is typed; the right arrow takes it."""

    def __init__(self, folder: str) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._folder = folder

    async def get_suggestion(self, value: str) -> str | None:
        if not value:
            return None
        typed = os.path.expanduser(value)
        folder, start = os.path.split(os.path.join(self._folder, typed))
        try:
            names = sorted(name for name in os.listdir(folder) if name.startswith(start))
        except OSError:
            return None
        if not names or safe(names[0]) != names[0]:
            return None
        rest = names[0][len(start) :]
        slash = os.sep if os.path.isdir(os.path.join(folder, names[0])) else ""
        return value + rest + slash


class PathScreen(ModalScreen[str | None]):
    """The result is an absolute path, or None when the user left."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave", show=False)]
    DEFAULT_CSS = """
    PathScreen { align: center top; background: $background 40%; }
    PathScreen > Vertical {
        width: 76; max-width: 100%; height: auto; margin: 3 2 0 2; padding: 0 1;
        background: $surface; border: round $accent; border-title-color: $text-accent;
        border-subtitle-color: $text-muted;
    }
    PathScreen Input { background: $boost; }
    """

    def __init__(self, folder: str, title: str = "Open an image or a folder") -> None:
        """``title`` is safe to show."""
        super().__init__()
        self._folder = folder
        self._heading = title

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = self._heading
            box.border_subtitle = "→ complete · enter open · esc leave"
            yield Input(placeholder="path", compact=True, suggester=_Paths(self._folder))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if event.value:
            self.dismiss(os.path.join(self._folder, os.path.expanduser(event.value)))

    def action_leave(self) -> None:
        self.dismiss(None)
