"""The findings pane: the verdict, the causes, and the way to their places."""

from __future__ import annotations

from pathlib import Path

from qcowtui.tui.panes.base import Pane
from qcowtui.views.findings_view import FindingsView
from qcowtui.views.selection import select_host
from qcowtui.views.session import Part
from qcowtui.views.work import CHECK

from ...views.opened import fill
from .one_pane import COLUMN, LARGE, LOW, one_pane


async def test_nothing_found(demo: Path) -> None:
    async with one_pane(demo / "backup-compressed.qcow2", "findings", COLUMN) as (app, pilot):
        assert "OK No metadata errors found; guest content not verified." in app.sentence()
        await pilot.press("down", "right", "enter")
        assert app.asked == []


async def test_causes_worst_first_and_their_details(demo: Path) -> None:
    async with one_pane(demo / "files-corrupt.qcow2", "findings", LARGE) as (app, pilot):
        text = app.text()
        assert "CORRUPT  22 corruptions and 2 leaked clusters" in text
        rows = [line for line in text.splitlines() if "CORRUPT  " in line or "LEAK  " in line]
        assert "LEAK" in rows[-1]
        for heading in ("what it is", "guest data hit", "what follows", "what to do"):
            assert heading in text
        assert "1 of 6" in text
        await pilot.press("down")
        assert "2 of 6 · place 1 of" in app.text()


async def test_enter_and_arrows_go_through_the_places(demo: Path) -> None:
    async with one_pane(demo / "files-corrupt.qcow2", "findings", LARGE) as (app, pilot):
        view = FindingsView(app.session)
        row = next(at for at in range(len(view)) if len(view.places(at)) > 1)
        places = view.places(row)
        await pilot.press(*["down"] * row, "enter", "right", "left", "left")
        jumps = [asked for asked in app.asked if isinstance(asked, Pane.Jump)]
        assert [jump.selection for jump in jumps] == [places[0], places[1], places[0], places[0]]
        assert [jump.show for jump in jumps] == [True, False, False, False]


async def test_findings_about_the_selected_cluster(demo: Path) -> None:
    async with one_pane(demo / "mail-leaks.qcow2", "findings", LARGE) as (app, pilot):
        place = FindingsView(app.session).places(0)[0]
        assert "◂" not in app.text()
        app.select(place)
        await pilot.pause()
        assert "leaked clusters ◂" in app.text()
        app.select(select_host(0))
        await pilot.pause()
        assert "◂" not in app.text()


async def test_it_fills_when_the_check_is_done(demo: Path) -> None:
    async with one_pane(demo / "mail-leaks.qcow2", "findings", LOW, jobs=()) as (app, pilot):
        assert "NOT CHECKED" in app.text()
        fill(app.session, CHECK)
        app.pane.part_changed(Part.CHECK)
        await pilot.pause()
        assert "LEAKS  32 leaked clusters" in app.text()


async def test_an_unclean_shutdown_is_no_alarm(demo: Path) -> None:
    async with one_pane(demo / "laptop-unclean.qcow2", "findings", LOW) as (app, _):
        assert "DIRTY  Not cleanly shut down" in app.text()
        assert "CORRUPT" not in app.text()


async def test_page_down_scrolls_a_long_explanation(demo: Path) -> None:
    async with one_pane(demo / "files-corrupt.qcow2", "findings", LOW) as (app, pilot):
        assert "QCOW-REFCOUNT-ZERO" not in app.text()
        for _ in range(12):
            await pilot.press("pagedown")
        await pilot.pause()
        assert "QCOW-REFCOUNT-ZERO" in app.text()
        assert "1 of 6" in app.text()


async def test_filter(demo: Path) -> None:
    async with one_pane(demo / "files-corrupt.qcow2", "findings", LARGE) as (app, pilot):
        app.pane.filter_changed("leaked")
        await pilot.pause()
        assert "1 of 1" in app.text()
