"""What holds for every pane: any image, any size, any theme, and names that mean harm."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from textual.css.query import NoMatches

from qcow.storage.gate import Gate
from qcowtui.samples.builder import ImageBuilder
from qcowtui.tui.panes.catalogue import PANES
from qcowtui.views.selection import select_guest, select_host
from qcowtui.views.session import Part
from qcowtui.views.tones import Tone
from qcowtui.views.work import CHAIN, DEPENDENTS, compare

from ...support.images import pattern, small_builder
from ...views.opened import EVERYTHING, fill
from .one_pane import COLUMN, LARGE, LOW, one_pane

#: The panes that show text; the maps have tests of their own.
TEXT_PANES = [one.id for one in PANES if one.id not in ("map", "refcounts")]
EVIL = (
    "\x1b[2J\x1b[31m\x1b]0;owned\x07[@click=app.quit]press[/] [bold red]x[/bold red] "
    "\u202egnp.4202\u202c \u200b\u2066"
)


def hostile(folder: Path) -> Path:
    """An image in which everything that can have a name has one that means harm."""
    base = ImageBuilder(virtual_size=1 << 20)
    base.data(0, b"base")
    base.write(folder / "[@click=app.quit]\x1b[31m\u202e.qcow2")
    builder = small_builder(snapshot=False)
    builder.backing("[@click=app.quit]\x1b[31m\u202e.qcow2")
    builder.bitmap(EVIL)
    builder.extension(0x6803F857, b"\1\x06" + EVIL.encode()[:46].ljust(46, b"\0"))
    builder.extension(0x31337, EVIL.encode())
    for _ in range(2):
        builder.snapshot(EVIL)
        builder.data(3, pattern(7, 65536))
    built = builder.build()
    built.set_header("compatible_features", 1 << 6)
    folder = folder / "[@click=app.bell]"
    folder.mkdir()
    return built.save(folder / "\x1b[31m[b]evil\u202e.qcow2")


@pytest.mark.parametrize("pane", TEXT_PANES)
@pytest.mark.parametrize("size", [COLUMN, LARGE], ids=["column", "large"])
async def test_hostile_names_are_harmless_text(
    tmp_path: Path, pane: str, size: tuple[int, int]
) -> None:
    path = hostile(tmp_path)
    async with one_pane(path, pane, size, jobs=(), gate=Gate.closed()) as (app, pilot):
        jobs = (*EVERYTHING[:3], CHAIN, DEPENDENTS)
        fill(app.session, *jobs, compare("snapshot:1", "active"))
        for part in Part:
            app.pane.part_changed(part)
        app.select(select_host(int(app.session.file.size() / 65536) - 1))
        for _ in range(12):
            await pilot.press("down")
            text = app.text()
            assert "\x1b" not in text
            assert "\u202e" not in text
            assert "\u200b" not in text
        for key in ("enter", "home", "enter", "end", "enter"):
            await pilot.press(key)
        await pilot.click(offset=(5, 3))
        await pilot.click(offset=(12, 6))
        await pilot.pause()
        assert app.is_running
        assert app.return_code is None or app.return_code == 0


async def test_hostile_names_are_seen_as_they_are(tmp_path: Path) -> None:
    path = hostile(tmp_path)
    seen = {
        "snapshots": r"\x1b[2J\x1b[31m\x1b]0;owned",
        "header": "[@click=app.quit]",
        "chain": "[@click=app.quit]",
    }
    for pane, words in seen.items():
        async with one_pane(path, pane, LARGE, jobs=()) as (app, pilot):
            app.pane.filter_changed("")
            await pilot.pause()
            assert words in app.text(), pane


@pytest.mark.parametrize("pane", TEXT_PANES)
@pytest.mark.parametrize("image", ["files-corrupt", "untrusted-upload"])
async def test_a_tour_changes_no_byte(demo: Path, pane: str, image: str) -> None:
    path = demo / f"{image}.qcow2"
    before = hashlib.sha256(path.read_bytes()).digest()
    async with one_pane(path, pane, LOW) as (app, pilot):
        app.select(select_guest(128 << 20))
        keys = ("down", "enter", "end", "up", "enter", "pageup", "pagedown", "home", "right")
        await pilot.press(*keys)
        for part in Part:
            app.pane.part_changed(part)
        await pilot.pause()
        assert app.is_running
    assert hashlib.sha256(path.read_bytes()).digest() == before


@pytest.mark.parametrize("pane", TEXT_PANES)
async def test_any_size_and_any_theme(demo: Path, pane: str) -> None:
    async with one_pane(demo / "files-corrupt.qcow2", pane, LARGE) as (app, pilot):
        for size in ((20, 5), (36, 8), (300, 60), (1, 1), LARGE):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        for theme in ("textual-light", "ansi-dark", "dracula", "textual-dark"):
            app.theme = theme
            await pilot.pause()
        assert app.pane.border_title
        assert app.is_running


@pytest.mark.parametrize("pane", TEXT_PANES)
async def test_an_image_without_a_usable_header(tmp_path: Path, pane: str) -> None:
    path = tmp_path / "a.qcow2"
    path.write_bytes(b"QFI\xfb\0\0\0\3" + b"\xff" * 200)
    async with one_pane(path, pane, LARGE, jobs=()) as (app, pilot):
        for part in Part:
            app.pane.part_changed(part)
        await pilot.press("down", "enter", "end", "enter")
        assert app.is_running


@pytest.mark.parametrize("pane", TEXT_PANES)
async def test_a_theme_colours_the_tones(demo: Path, pane: str) -> None:
    async with one_pane(demo / "web01.qcow2", pane, LARGE, jobs=()) as (app, pilot):
        looks = {tone: app.pane.ink(tone) for tone in Tone}  # type: ignore[attr-defined]
        assert len({str(looks[tone]) for tone in Tone}) == len(Tone)
        app.theme = "textual-light"
        await pilot.pause()
        other = {tone: app.pane.ink(tone) for tone in Tone}  # type: ignore[attr-defined]
        assert other[Tone.PLAIN] != looks[Tone.PLAIN]
        assert other[Tone.BAD] != looks[Tone.BAD]


def test_every_pane_explains_itself() -> None:
    from importlib import import_module

    for one in PANES:
        pane = getattr(import_module(f"qcowtui.tui.panes.{one.module}"), one.name)
        assert len(pane.HELP) > 150, one.id
        assert pane.TITLE
        assert "[" not in pane.TITLE


async def test_no_pane_reads_a_file_by_itself(demo: Path) -> None:
    """Only the inspector reads bytes, and only of the image."""
    opened: list[str] = []
    import sys

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and ".qcow2" in arguments[0]:
            opened.append(arguments[0])

    sys.addaudithook(hook)
    for pane in TEXT_PANES:
        async with one_pane(demo / "untrusted-upload.qcow2", pane, LOW, jobs=()) as (app, pilot):
            opened.clear()
            await pilot.press("down", "enter", "down", "enter")
            assert opened == [], pane
            with pytest.raises(NoMatches):
                app.query_one("#nothing")


@pytest.mark.parametrize("pane", [one for one in TEXT_PANES if one != "inspector"])
async def test_progress_without_news_repaints_nothing(demo: Path, pane: str) -> None:
    async with one_pane(demo / "files-corrupt.qcow2", pane, LARGE) as (app, pilot):
        for part in Part:
            app.pane.part_changed(part)
        await pilot.pause()
        painted: list[str] = []
        original = type(app.pane).repaint  # type: ignore[attr-defined]
        app.pane.repaint = lambda: (painted.append(pane), original(app.pane))  # type: ignore[attr-defined]
        for part in set(Part) - {Part.IMAGE}:
            for _ in range(5):
                app.pane.part_changed(part)
        assert painted == []
        fill(app.session, *EVERYTHING, compare("active", "snapshot:1"))
        for part in set(Part) - {Part.IMAGE}:
            app.pane.part_changed(part)
        assert painted
