"""Driving the app in a test: start it on an image, wait for its work, read what it shows."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from textual._compositor import LayoutUpdate
from textual.pilot import Pilot

from qcowtui.tui.app import QcowApp
from qcowtui.tui.panes.base import Pane
from qcowtui.tui.screens.change_panel import ChangePanel
from qcowtui.tui.screens.dashboard import Dashboard
from qcowtui.views.app_state import load_state, state_path
from qcowtui.views.session import Part, PartState, Session, open_with_grants

WIDE, NARROW = (160, 48), (80, 24)
_PATIENCE = 30.0


class Driven:
    """A running app on one image."""

    def __init__(self, app: QcowApp, pilot: Pilot[int], session: Session) -> None:
        self.app = app
        self.pilot = pilot
        self.session = session

    @property
    def dashboard(self) -> Dashboard:
        """The dashboard, also below a panel."""
        screen = next(s for s in self.app.screen_stack if isinstance(s, Dashboard))
        assert isinstance(screen, Dashboard)
        return screen

    async def press(self, *keys: str) -> None:
        """Press keys and wait until what they set off is done."""
        await self.pilot.press(*keys)
        await self.settle()

    async def settle(self) -> None:
        """Wait for jobs, for the selection to be looked up, and for the last paint."""
        await self.until(lambda: not self._at_work)
        await self.until(lambda: self.session.selection.complete or self.session.selection.empty)
        await self.pilot.pause()

    @property
    def _at_work(self) -> bool:
        panel = self.app.screen
        planning = isinstance(panel, ChangePanel) and panel.at_work
        return planning or self.dashboard.finding_out or self.dashboard.runner.busy

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until ``holds()``; AssertionError when it never does."""
        end = time.monotonic() + _PATIENCE
        while not holds():
            assert time.monotonic() < end, f"{holds} did not hold"
            await self.pilot.pause(0.02)

    @property
    def focused(self) -> str | None:
        """The id of the pane that has the focus."""
        pane = self.dashboard.focused_pane
        return None if pane is None else pane.id

    @property
    def visible(self) -> set[str]:
        """The ids of the panes on the screen."""
        return {
            str(pane.id)
            for pane in self.dashboard.query(Pane)
            if pane.size.area and pane.is_on_screen
        }

    def text(self) -> str:
        """Everything on the screen, line by line."""
        return shown(self.app)


def shown(app: QcowApp) -> str:
    """The characters on the screen of ``app`` and on those behind it, line by line."""
    # A picture of the screen has the same, and takes ten times as long to draw.
    compositor, behind = app.screen._compositor, app._background_screens
    update = compositor.render_update(full=True, screen_stack=behind)
    assert isinstance(update, LayoutUpdate)
    return "\n".join("".join(strip.text for strip in line) for line in update.strips)


@asynccontextmanager
async def driving(
    path: Path,
    size: tuple[int, int] = WIDE,
    *,
    notifications: bool = True,
    unlocked: bool = False,
) -> AsyncIterator[Driven]:
    """The app on ``path``, its opening work done; ``unlocked`` allows changes."""
    session = open_with_grants(str(path), load_state(state_path()))
    session.unlocked = unlocked
    app = QcowApp(session)
    async with app.run_test(size=size, notifications=notifications, tooltips=True) as pilot:
        driven = Driven(app, pilot, session)
        await driven.until(
            lambda: session.state_of(Part.HOST_MAP) not in (PartState.UNKNOWN, PartState.PARTIAL)
        )
        await driven.settle()
        yield driven
