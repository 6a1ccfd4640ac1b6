"""Nothing moves while nothing happens: no paints, no timers, no processor time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from qcowtui.tui.app import QcowApp
from qcowtui.views.selection import Selection

from .driving import NARROW, WIDE, driving


async def test_an_idle_app_paints_nothing_and_has_no_timers(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paints: list[Any] = []
    display = QcowApp._display

    def counted(self: QcowApp, screen: Any, renderable: Any) -> None:
        paints.append(renderable)
        display(self, screen, renderable)

    monkeypatch.setattr(QcowApp, "_display", counted)
    async with driving(demo / "files-corrupt.qcow2", WIDE) as app:
        await app.press("n", "4", "5", "2")
        assert paints
        await asyncio.sleep(0.5)  # what was set off is over
        paints.clear()
        before = time.thread_time()
        await asyncio.sleep(2)
        assert paints == []
        assert time.thread_time() - before < 0.05
        timers = [
            task.get_name()
            for task in asyncio.all_tasks()
            if task.get_name().startswith(("set_timer", "set_interval", "Timer"))
        ]
        assert timers == []


async def test_holding_a_key_down_does_not_look_every_place_up(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", NARROW) as app:
        asked: list[Selection] = []
        runner = app.dashboard.runner
        look_up = runner.look_up

        def counted(place: Selection) -> None:
            asked.append(place)
            look_up(place)

        runner.look_up = counted  # type: ignore[method-assign]
        for _ in range(12):
            app.dashboard.pane("map").action_move(1, 0)
        await app.until(lambda: bool(asked))
        await app.settle()
        assert app.session.selection.complete
        assert [place.host_cluster for place in asked] == [app.session.selection.host_cluster]
