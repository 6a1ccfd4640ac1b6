"""A small app around one pane and a real session; what the pane asks for is kept, not done."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from textual import on
from textual.app import App, ComposeResult
from textual.message import Message
from textual.pilot import Pilot

from qcow.storage.gate import Gate
from qcowtui.tui.panes.base import Pane
from qcowtui.tui.panes.catalogue import entry
from qcowtui.tui.theme import map_variables
from qcowtui.views.selection import Selection
from qcowtui.views.session import Session
from qcowtui.views.work import Job

from ...views.opened import EVERYTHING, looked_up, opened
from ..driving import shown

#: Sizes the dashboard gives to its panes: a column, a low one, the whole screen.
COLUMN, LOW, LARGE = (36, 20), (64, 14), (110, 32)


class OnePane(App[None]):
    """Shows the pane called ``pane`` and collects its messages."""

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, session: Session, pane: str) -> None:
        super().__init__()
        self.session = session
        self.pane: Pane = entry(pane).make(session)
        self.asked: list[Message] = []
        self.followed = 0

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return map_variables(self.current_theme.dark)

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.focus_target.focus()

    @on(Pane.Select)
    @on(Pane.Jump)
    @on(Pane.Inspect)
    @on(Pane.Compare)
    def keep(self, message: Message) -> None:
        self.asked.append(message)

    def text(self) -> str:
        """What is on the screen, line by line."""
        return shown(self)  # type: ignore[arg-type]

    def sentence(self) -> str:
        """What is on the screen as one line, without borders: for words that were wrapped."""
        return " ".join(re.sub("[│─╭╮╰╯]", " ", self.text()).split())

    def select(self, place: Selection) -> None:
        """What the dashboard does with a selection, once everything is known of it."""
        self.pane.selection_changed(looked_up(self.session, place))


@asynccontextmanager
async def one_pane(
    path: Path,
    pane: str,
    size: tuple[int, int] = LARGE,
    *,
    jobs: tuple[Job, ...] = EVERYTHING,
    gate: Gate | None = None,
) -> AsyncIterator[tuple[OnePane, Pilot[None]]]:
    """The pane on the image at ``path``, after ``jobs``."""
    with opened(path, *jobs, gate=gate) as session:
        app = OnePane(session, pane)
        async with app.run_test(size=size, tooltips=True, notifications=True) as pilot:
            await pilot.pause()
            yield app, pilot
