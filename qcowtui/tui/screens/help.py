"""Help for where the user is: what the focused pane means, and every key that works there."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from textual.content import Content
from textual.widget import Widget

from ...commands.command import Command
from ...commands.keymap import Keymap
from ...commands.keys import shown_keys
from .panel import PanelScreen

_KEYS_WIDTH = 14
_PANEL_WIDTH = 90


class HelpScreen(PanelScreen[None]):
    """Generated from the registry of commands; nothing in it is written twice."""

    TITLE_TEXT = "Help"
    HINT = "↑ ↓ scroll · esc leave"

    def __init__(
        self,
        texts: Sequence[tuple[str, str]],
        commands: Sequence[tuple[Command, str | None]],
        keymap: Keymap,
    ) -> None:
        """``commands``: nearest scope first, each with the reason why it cannot be used now."""
        super().__init__()
        self._texts = texts
        self._commands = commands
        self._keymap = keymap

    def contents(self) -> list[Widget]:
        found: list[Widget] = []
        for heading, text in self._texts:
            found.append(self.paragraph(_heading(heading)))
            found.append(self.paragraph(text))
        for scope, group in groupby(self._commands, key=lambda pair: pair[0].scope):
            found.append(self.paragraph(_heading(scope.value)))
            lines = [self._line(command, reason) for command, reason in group]
            found.append(self.paragraph(Content("\n").join(lines)))
        found.append(
            self.paragraph(
                "The mouse works everywhere: click selects, a second click looks closer, the wheel "
                "scrolls, ctrl and the wheel zoom. Hold shift to select text in the terminal's own "
                "way. Keys can be changed in keymap.toml; docs/keys.md says how."
            )
        )
        return found

    def _line(self, command: Command, reason: str | None) -> Content:
        keys = shown_keys(self._keymap.keys_of(command.id)) or "-"
        text = command.doc if reason is None else f"{command.doc} ({reason})"
        width = max(20, min(_PANEL_WIDTH, self.app.size.width * 96 // 100) - _KEYS_WIDTH - 6)
        doc = ("\n" + " " * _KEYS_WIDTH).join(textwrap.wrap(text, width))
        return Content.styled(f"{keys:<{_KEYS_WIDTH}}", "bold $text-accent") + Content.styled(
            doc, "" if reason is None else "dim"
        )


def _heading(text: str) -> Content:
    return Content.styled(text, "bold underline")
