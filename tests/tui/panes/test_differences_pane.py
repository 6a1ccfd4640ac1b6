"""The list of differences."""

from __future__ import annotations

from pathlib import Path

from qcowtui.tui.panes.base import Pane
from qcowtui.views.selection import select_guest
from qcowtui.views.session import Part
from qcowtui.views.work import compare

from ...views.opened import fill
from .one_pane import LARGE, one_pane


async def test_ranges_and_the_way_to_them(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "differences", LARGE, jobs=()) as (app, pilot):
        assert "No states are compared. Press d" in app.text()
        fill(app.session, compare("snapshot:2", "active"))
        app.pane.part_changed(Part.DIFF)
        await pilot.pause()
        difference = app.session.difference
        assert difference is not None
        text = app.text()
        assert "before-update ↔ active" in text
        assert difference.verdict in text
        await pilot.press("down", "enter")
        (jump,) = app.asked
        assert isinstance(jump, Pane.Jump)
        start, _ = difference.listed[1]
        assert (jump.selection, jump.show) == (select_guest(start), True)
        app.select(select_guest(start))
        await pilot.pause()
        marked = [line for line in app.text().splitlines() if "◂" in line]
        assert len(marked) == 1
        assert f"{start:#x}-" in marked[0]
