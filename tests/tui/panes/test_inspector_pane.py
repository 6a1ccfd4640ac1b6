"""The inspector: owners, bytes read by a worker, fields decoded, pointers followed."""

from __future__ import annotations

from pathlib import Path

from textual.pilot import Pilot

from qcow.layout.constants import OFFSET_MASK
from qcowtui.samples.builder import ImageBuilder
from qcowtui.samples.damage import overlap_l1_table
from qcowtui.tui.panes.base import Pane
from qcowtui.tui.panes.inspector import InspectorPane
from qcowtui.views.selection import Selection, select_guest, select_host
from qcowtui.views.session import Part
from qcowtui.views.work import HOST_MAP

from ...support.images import patch, pattern, small_builder
from .one_pane import LARGE, OnePane, one_pane

SIZE = 65536


async def selected(app: OnePane, pilot: Pilot[None], place: Selection) -> InspectorPane:
    """Select a place and wait until its bytes are there."""
    app.select(place)
    await settled(app, pilot)
    assert isinstance(app.pane, InspectorPane)
    return app.pane


async def settled(app: OnePane, pilot: Pilot[None]) -> None:
    """Wait until nothing is being read any more."""
    for _ in range(3):
        await pilot.pause()
        await app.workers.wait_for_complete()
    await pilot.pause()


async def test_nothing_selected(tmp_path: Path) -> None:
    path = small_builder().write(tmp_path / "a.qcow2")
    async with one_pane(path, "inspector", LARGE, jobs=(HOST_MAP,)) as (app, pilot):
        await settled(app, pilot)
        assert "Nothing is selected" in app.text()
        assert "51 46 49 fb" in app.text()


async def test_the_header_field_by_field(tmp_path: Path) -> None:
    path = small_builder().write(tmp_path / "a.qcow2")
    async with one_pane(path, "inspector", LARGE, jobs=(HOST_MAP,)) as (app, pilot):
        pane = await selected(app, pilot, select_host(0))
        assert "Magic  QFI\\xfb" in app.text()
        await pilot.press("w")
        assert "0x4  Version  3 (compat 1.1)" in app.text()
        await pilot.press("right", "right", "b")
        assert "0x4  Version" in app.text()
        await pilot.press("b")
        assert "0x0  Magic" in app.text()
        await pilot.press("down", "down", "right", "right", "right", "right")
        assert pane.hex.cursor == 36
        assert "L1 entries" in app.text()


async def test_owners_and_the_pointer_back(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=64 << 20)
    host = builder.data(37, b"kept")
    table = builder.model.l1[0].cluster
    path = builder.write(tmp_path / "a.qcow2")
    async with one_pane(path, "inspector", LARGE, jobs=(HOST_MAP,)) as (app, pilot):
        pane = await selected(app, pilot, select_guest(37 * SIZE + 99))
        entry = table * SIZE + 37 * 8
        assert f"guest 0x250000 ← L2[37] at {entry:#x} ← L1[0] of active" in app.text()
        assert "refcount on disk 1, references found 1: they agree" in app.text()
        assert pane.hex.cursor == host * SIZE
        await pilot.press("p")
        (jump,) = app.asked
        assert isinstance(jump, Pane.Jump)
        assert jump.selection == select_host(table)
        await selected(app, pilot, jump.selection)
        assert pane.hex.cursor == entry
        text = app.text()
        assert f"{entry:#x}  L2[37]  data at {host * SIZE:#x}, COPIED  guest 0x250000" in text
        app.asked.clear()
        await pilot.press("enter")
        (jump,) = app.asked
        assert isinstance(jump, Pane.Jump)
        assert jump.selection == select_host(host)


async def test_leaving_the_cluster_selects_the_next_one(tmp_path: Path) -> None:
    path = small_builder().write(tmp_path / "a.qcow2")
    async with one_pane(path, "inspector", LARGE, jobs=(HOST_MAP,)) as (app, pilot):
        pane = await selected(app, pilot, select_host(1))
        await pilot.press("left")
        (asked,) = app.asked
        assert isinstance(asked, Pane.Select)
        assert asked.selection == select_host(0)
        assert pane.hex.cursor == SIZE - 1


async def test_an_overlapping_cluster_can_be_read_both_ways(tmp_path: Path) -> None:
    builder = small_builder()
    built = builder.build()
    overlap_l1_table(built, 3)
    path = built.save(tmp_path / "a.qcow2")
    async with one_pane(path, "inspector", LARGE, jobs=(HOST_MAP,)) as (app, pilot):
        await selected(app, pilot, select_host(builder.model.l1_cluster))
        assert "Overlapping: two owners" in app.text()
        assert "L1[0]  L2 table at" in app.text()
        assert "read as L1 table; t for another" in app.text()
        await pilot.press("t")
        assert "guest 0x30000  guest data" in app.text()
        await pilot.press("t")
        assert "L1[0]  L2 table at" in app.text()


async def test_reading_anew_shows_the_new_bytes(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    host = builder.data(0, pattern(1, SIZE))
    path = builder.write(tmp_path / "a.qcow2")
    async with one_pane(path, "inspector", LARGE, jobs=(HOST_MAP,)) as (app, pilot):
        await selected(app, pilot, select_host(host))
        assert "cluster 00000001" in app.sentence()
        patch(path, host * SIZE, b"other bytes here")
        app.session.revision += 1
        app.pane.part_changed(Part.IMAGE)
        await settled(app, pilot)
        assert "other bytes here" in app.text()


async def test_bytes_that_cannot_be_had_are_question_marks(tmp_path: Path) -> None:
    from unittest import mock

    from qcow.errors import StorageError
    from qcow.storage.local import LocalFile

    path = small_builder().write(tmp_path / "a.qcow2")
    async with one_pane(path, "inspector", LARGE, jobs=(HOST_MAP,)) as (app, pilot):
        with mock.patch.object(LocalFile, "read", side_effect=StorageError("gone")):
            app.pane.part_changed(Part.IMAGE)
            await settled(app, pilot)
        assert "??" in app.text()
        await pilot.press("down", "enter", "w")
        assert app.is_running


async def test_large_clusters(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 40, cluster_bits=21)
    builder.data(200_000, b"far")
    table = builder.model.l1[0].cluster
    path = builder.write(tmp_path / "a.qcow2")
    async with one_pane(path, "inspector", LARGE, jobs=(HOST_MAP,)) as (app, pilot):
        pane = await selected(app, pilot, select_host(table))
        pane.hex.go_to((table << 21) + 200_000 * 8)
        await pilot.press("right", "left")
        await settled(app, pilot)
        target = builder.model.l1[0].entries[200_000] & OFFSET_MASK
        assert f"L2[200000]  data at {target:#x}, COPIED" in app.text()


async def test_a_raw_image(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(b"raw bytes" + bytes(100_000))
    async with one_pane(path, "inspector", LARGE, jobs=(HOST_MAP,)) as (app, pilot):
        await selected(app, pilot, select_host(0))
        assert "raw bytes" in app.text()
        await pilot.press("enter", "p", "w", "b", "t")
        assert app.asked == []


async def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(b"")
    async with one_pane(path, "inspector", LARGE, jobs=()) as (app, pilot):
        await pilot.press("down", "end", "enter")
        assert "Nothing is selected" in app.text()
