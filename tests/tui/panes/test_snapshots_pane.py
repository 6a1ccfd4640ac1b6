"""The snapshot pane: the tree, marks, orders, and which states use the selected cluster."""

from __future__ import annotations

from pathlib import Path

from textual.containers import Vertical

from qcowtui.samples.builder import ImageBuilder
from qcowtui.tui.panes.base import Pane
from qcowtui.tui.panes.snapshots import SnapshotsPane
from qcowtui.views.selection import select_guest, select_host
from qcowtui.views.session import Part
from qcowtui.views.units import size
from qcowtui.views.work import HOST_MAP, SHARING

from ...support.images import pattern
from ...views.opened import fill
from .one_pane import COLUMN, LARGE, one_pane


def pane_of(pane: Vertical) -> SnapshotsPane:
    assert isinstance(pane, SnapshotsPane)
    return pane


async def test_the_tree(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "snapshots", COLUMN) as (app, _):
        lines = app.text().splitlines()
        tree = [line[2:20].rstrip() for line in lines[2:7]]
        assert tree == [
            "○ clean-install",
            "○ before-update",
            "├─○ after-update",
            "│ ◆ you are here",
            "└─○ test",
        ]
        assert "MiB" in lines[2]


async def test_wide_it_has_all_columns(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "snapshots", LARGE) as (app, _):
        head, first = app.text().splitlines()[1:3]
        for title in ("Snapshot", "ID", "Taken", "Frees", "VM state", "Differs"):
            assert title in head
        assert "2025-03-01" in first


async def test_marks_add_up(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "snapshots", LARGE) as (app, pilot):
        await pilot.press("space", "space")
        shares = app.session.sharing
        assert shares is not None
        together = shares.exclusive((1, 2))
        assert f"2 marked: free {size(together)} together" in app.text()
        assert app.text().count("✓") == 2
        assert pane_of(app.pane).states_to_compare == ("snapshot:1", "snapshot:2")
        assert app.pane.escape()
        await pilot.pause()
        assert "✓" not in app.text()
        assert not app.pane.escape()


async def test_the_present_state_cannot_be_marked(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "snapshots", LARGE) as (app, pilot):
        await pilot.press("down", "down", "down", "space")
        assert "marked" not in app.text()


async def test_orders_keep_the_row_under_the_cursor(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "snapshots", LARGE) as (app, pilot):
        await pilot.press("down")
        assert pane_of(app.pane).current == 2
        for words in ("newest first", "frees most first", "by name"):
            await pilot.press("s")
            await pilot.pause()
            assert words in app.text()
            assert pane_of(app.pane).current == 2
        await pilot.press("s")
        await pilot.pause()
        assert "├─○ after-update" in app.text()


async def test_enter_inspects_the_l1_table(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "snapshots", LARGE) as (app, pilot):
        await pilot.press("down", "enter")
        (asked,) = app.asked
        assert isinstance(asked, Pane.Inspect)
        assert app.session.qcow2 is not None
        at = app.session.qcow2.snapshots[1].l1_table_offset
        assert asked.selection.host_cluster == at // 8192
        assert pane_of(app.pane).states_to_compare == ("snapshot:2", "active")


async def test_states_that_use_the_selected_cluster_stand_out(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    shared, own = builder.data(0, b"shared"), builder.data(1, b"old")
    builder.snapshot("one")
    builder.data(1, b"new")
    builder.snapshot("two")
    path = builder.write(tmp_path / "a.qcow2")
    async with one_pane(path, "snapshots", LARGE) as (app, pilot):
        app.select(select_host(own))
        await pilot.pause()
        assert "one" in next(line for line in app.text().splitlines() if "◂" in line)
        assert app.text().count("◂") == 1
        app.select(select_host(shared))
        await pilot.pause()
        assert app.text().count("◂") == 3
        app.select(select_guest(0x90000))
        await pilot.pause()
        assert "◂" not in app.text()


async def test_before_the_comparison_sizes_are_unknown(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "snapshots", LARGE, jobs=()) as (app, pilot):
        assert "not compared yet" in app.text()
        assert "…" in app.text()
        fill(app.session, HOST_MAP, SHARING)
        app.pane.part_changed(Part.SHARING)
        await pilot.pause()
        assert "not compared yet" not in app.text()
        assert "├─○" in app.text()


async def test_without_snapshots(demo: Path) -> None:
    async with one_pane(demo / "web02.qcow2", "snapshots", COLUMN) as (app, pilot):
        assert "No snapshots." in app.text()
        await pilot.press("down", "space", "s", "enter")
        assert app.asked == []


async def test_hundreds_scroll(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=16 << 20, cluster_bits=12)
    for number in range(300):
        builder.data(number, pattern(number, 64))
        builder.snapshot(f"s{number:03}", date=number)
    path = builder.write(tmp_path / "a.qcow2")
    async with one_pane(path, "snapshots", COLUMN) as (app, pilot):
        assert "s000" in app.text()
        await pilot.press("end")
        await pilot.pause()
        assert "you are here" in app.text()
        assert "s000" not in app.text()
        app.pane.filter_changed("s1")
        await pilot.pause()
        await pilot.press("home")
        assert "s100" in app.text()
