"""The list of images: what is in the folder, what was opened lately, and opening."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from qcowtui.tui.app import QcowApp
from qcowtui.tui.screens.dashboard import Dashboard
from qcowtui.tui.screens.error import ErrorScreen
from qcowtui.tui.screens.picker import PickerScreen
from qcowtui.tui.widgets.virtual_list import VirtualList
from qcowtui.views.app_state import load_state, state_path
from tests.support.images import small_builder
from tests.support.opens import opened_files

from .driving import NARROW, WIDE, shown


async def until(pilot: Pilot[int], text: str, times: int = 1) -> str:
    """Wait until ``text`` is on the screen so often; all that is on it."""
    for _ in range(600):
        found = shown(pilot.app)  # type: ignore[arg-type]
        if found.count(text) >= times:
            return found
        await pilot.pause(0.05)
    raise AssertionError(found)


async def test_lists_the_folder_with_health(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    with opened_files() as opened:
        async with QcowApp().run_test(size=WIDE) as pilot:
            text = await until(pilot, "● no errors found", times=6)
    rows = {line.split()[1]: line for line in text.splitlines() if ".qcow2 " in line}
    assert len(rows) == 10
    assert "qcow2 v3" in rows["web01.qcow2"]
    assert "8 GiB" in rows["web01.qcow2"]
    assert "28 MiB" in rows["web01.qcow2"]
    assert "● no errors found" in rows["web01.qcow2"]
    assert "✖ corrupt" in rows["files-corrupt.qcow2"]
    assert "▲ not cleanly shut down" in rows["laptop-unclean.qcow2"]
    assert "10 images in this folder" in text
    assert [path for path in opened.paths if path.endswith("shadow")] == []


async def test_opens_an_image_and_comes_back(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    app = QcowApp()
    async with app.run_test(size=NARROW) as pilot:
        await until(pilot, "images in this folder")
        listing = app.screen.query_one(VirtualList)
        await pilot.press("down", "down", "k")
        assert listing.index == 1
        await pilot.press("enter")
        await until(pilot, "db-fragmented.qcow2  qcow2 v3")
        assert isinstance(app.screen, Dashboard)
        session = app.screen.session
        await pilot.press("o")
        await until(pilot, "images in this folder")
        assert isinstance(app.screen, PickerScreen)
        assert len(app.screen_stack) == 1
        assert session.file.fileno() == -1  # it was closed
    assert load_state(state_path()).recent == [str(demo / "db-fragmented.qcow2")]


async def test_recent_images_are_there_from_anywhere(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    state = load_state(state_path())
    state.opened(str(tmp_path / "gone.qcow2"))
    state.opened(str(demo / "mail-leaks.qcow2"))
    monkeypatch.chdir(here)
    async with QcowApp().run_test(size=WIDE) as pilot:
        text = await until(pilot, "32 leaked clusters")
        assert "mail-leaks.qcow2" in text
        assert "not there any more" in text
        assert "0 images in this folder, 2 recent ones elsewhere" in text


async def test_what_cannot_be_opened_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old.vmdk").write_bytes(b"KDMV" + bytes(1020))
    monkeypatch.chdir(tmp_path)
    app = QcowApp()
    async with app.run_test(size=NARROW) as pilot:
        await until(pilot, "vmdk")
        await pilot.press("enter")
        await until(pilot, "What to do")
        assert isinstance(app.screen, ErrorScreen)
        text = shown(app)
        assert "is a vmdk image" in text
        assert "Nothing was changed." in text
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, PickerScreen)


async def test_a_path_can_be_typed(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small_builder().write(tmp_path / "one.qcow2")
    app = QcowApp()
    async with app.run_test(size=NARROW) as pilot:
        await until(pilot, "1 image in this folder")
        await pilot.press("g", *str(demo), "enter")
        await until(pilot, "10 images in this folder")
        await pilot.press("g", *"web02", "right", "enter")
        await until(pilot, "web02.qcow2  qcow2 v3")


async def test_an_empty_folder_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with QcowApp().run_test(size=NARROW) as pilot:
        text = await until(pilot, "0 images in this folder")
        assert "No disk image in this folder" in text
