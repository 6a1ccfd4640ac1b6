"""The fragmentation pane: facts, the strip, options to copy, regions to jump to."""

from __future__ import annotations

from pathlib import Path

from qcowtui.tui.panes.base import Pane
from qcowtui.views.selection import select_guest
from qcowtui.views.session import Part
from qcowtui.views.work import FRAGMENTATION

from ...views.opened import fill
from .one_pane import COLUMN, LARGE, one_pane


async def test_facts_and_regions(demo: Path) -> None:
    async with one_pane(demo / "db-fragmented.qcow2", "fragmentation", LARGE) as (app, _):
        text = app.text()
        for words in ("Runs", "Mean run", "97.49 %", "Cache needed", "QEMU's default", "enough"):
            assert words in text
        assert "256 Mi - 288 Mi" in text
        assert "958 breaks" in text


async def test_narrow(demo: Path) -> None:
    async with one_pane(demo / "db-fragmented.qcow2", "fragmentation", COLUMN) as (app, _):
        assert "97.49 %" in app.text()
        assert "copy" in app.text()


async def test_enter_copies_an_option(demo: Path) -> None:
    async with one_pane(demo / "db-fragmented.qcow2", "fragmentation", LARGE) as (app, pilot):
        await pilot.press("down", "enter")
        assert app.clipboard.startswith("-drive ")
        assert app.clipboard.endswith("l2-cache-size=4194304")


async def test_enter_on_a_region_shows_it(demo: Path) -> None:
    async with one_pane(demo / "db-fragmented.qcow2", "fragmentation", LARGE) as (app, pilot):
        await pilot.press("down", "down", "down", "enter")
        (jump,) = app.asked
        assert isinstance(jump, Pane.Jump)
        assert (jump.selection, jump.show) == (select_guest(128 << 20), True)
        app.select(select_guest(130 << 20))
        await pilot.pause()
        assert "128 Mi" in next(line for line in app.text().splitlines() if "◂" in line)


async def test_it_fills_when_it_was_measured(demo: Path) -> None:
    async with one_pane(demo / "db-fragmented.qcow2", "fragmentation", jobs=()) as (app, pilot):
        assert "Not measured yet." in app.text()
        fill(app.session, FRAGMENTATION)
        app.pane.part_changed(Part.FRAGMENTATION)
        await pilot.pause()
        assert "97.49 %" in app.text()
