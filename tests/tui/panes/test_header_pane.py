"""The header pane: sections that fold, fields that lead somewhere."""

from __future__ import annotations

from pathlib import Path

from qcowtui.tui.panes.base import Pane
from qcowtui.views.session import Part
from qcowtui.views.work import HOST_MAP, SHARING

from ...views.opened import fill
from .one_pane import COLUMN, LARGE, one_pane


async def test_narrow_it_has_the_sizes_and_the_space(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "header", (36, 24)) as (app, _):
        text = app.text()
        for words in ("▾ Sizes", "Virtual size", "8 GiB", "▾ Space", "reclaimable", "Shared"):
            assert words in text
        assert "what the guest sees" not in text


async def test_wide_it_has_glosses(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "header", LARGE) as (app, _):
        text = app.text()
        for gloss in ("what the guest sees", "what ls -l shows", "blocks used on this host"):
            assert gloss in text
        assert "not opened: press f" in text


async def test_enter_folds_and_unfolds(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "header", LARGE) as (app, pilot):
        await pilot.press("enter")
        assert "▸ Sizes  8 GiB virtual" in app.text()
        assert "File length" not in app.text()
        await pilot.press("enter")
        assert "File length" in app.text()


async def test_enter_on_a_structure_shows_its_place(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "header", LARGE) as (app, pilot):
        app.pane.filter_changed("l1 table")
        await pilot.press("home", "down", "enter")
        (jump,) = app.asked
        assert isinstance(jump, Pane.Jump)
        assert jump.show
        assert app.session.qcow2 is not None
        header = app.session.qcow2.header
        assert jump.selection.host_cluster == header.l1_table_offset // 8192


async def test_the_gloss_of_the_current_row_is_below(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "header", COLUMN) as (app, pilot):
        await pilot.press("down", "down", "down")
        assert "blocks used on this host" in app.sentence()


async def test_the_cursor_stays_on_its_row_when_more_is_known(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "header", LARGE, jobs=()) as (app, pilot):
        assert "▾ Space" not in app.text()
        await pilot.press(*["down"] * 7)
        before = [line for line in app.text().splitlines() if "Clusters" in line]
        assert before
        details = app.text().splitlines()[-5:]
        fill(app.session, HOST_MAP, SHARING)
        app.pane.part_changed(Part.SHARING)
        await pilot.pause()
        assert "▾ Space" in app.text()
        assert app.text().splitlines()[-5:] == details


async def test_filter(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "header", LARGE) as (app, pilot):
        await pilot.press("slash", *"backup")
        await pilot.pause()
        text = app.text()
        assert "backup-daily" in text
        assert "Virtual size" not in text
        await pilot.press("escape")
        await pilot.pause()
        assert "Virtual size" in app.text()


async def test_a_raw_image(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    async with one_pane(path, "header", COLUMN) as (app, _):
        assert "raw" in app.text()
