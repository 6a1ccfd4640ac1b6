"""Changing an image in the app: unlock, plan, queue, apply, undo; and not before that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import OptionList, Static

from qcowtui.tui.screens.apply_panel import ApplyScreen
from qcowtui.tui.screens.plan_panel import PlanScreen
from qcowtui.tui.screens.question import QuestionScreen
from qcowtui.tui.widgets.progress_line import ProgressLine
from tests.support.images import qemu_check, sha256
from tests.support.qemu import qemu_img, qemu_io

from .driving import NARROW, WIDE, Driven, driving

pytestmark = pytest.mark.oracle


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """64 MiB; clean-install holds 2 MiB alone, before-update 1 MiB, and 1 MiB came since."""
    path = tmp_path / "vm.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    qemu_io(path, "write -P 1 0 4M")
    qemu_img("snapshot", "-c", "clean-install", path)
    qemu_io(path, "write -P 2 0 2M")
    qemu_img("snapshot", "-c", "before-update", path)
    qemu_io(path, "write -P 3 1M 1M")
    yield path
    assert qemu_check(path).code == 0


def names(path: Path) -> list[str]:
    """The snapshots QEMU sees."""
    lines = qemu_img("snapshot", "-l", path).stdout.decode().splitlines()[2:]
    return [line.split()[1] for line in lines]


def content(path: Path, tmp_path: Path, *options: str) -> str:
    """A digest of the disk, or of a snapshot of it."""
    raw = tmp_path / "content.raw"
    qemu_img("convert", *options, "-O", "raw", path, raw)
    return sha256(raw)


def reason(app: Driven) -> str:
    return app.dashboard.query_one(ProgressLine).text


def said(app: Driven) -> str:
    """What the panel says, without line ends."""
    texts = (str(one.content) for one in app.app.screen.query(Static))
    return " ".join(" ".join(texts).split())


def title(app: Driven) -> str:
    return app.text().splitlines()[0]


async def plan(app: Driven, *keys: str) -> PlanScreen:
    """Press keys that lead to the plan of a change."""
    await app.press(*keys)
    screen = app.app.screen
    assert isinstance(screen, PlanScreen), app.text()
    return screen


async def test_nothing_can_be_changed_before_it_is_unlocked(image: Path) -> None:
    before = sha256(image)
    async with driving(image, WIDE) as app:
        assert title(app).rstrip().endswith("RO")
        for pane, keys in (("2", "DSVKRauUx"), ("4", "Dbm")):
            await app.press(pane)
            for key in keys:
                await app.press(key)
                assert reason(app) in (
                    "Press W to allow changes.",
                    "No change is planned.",
                ), key
                assert app.app.screen is app.dashboard
        await app.press("e")
        assert isinstance(app.app.screen, QuestionScreen)
        assert "snapshots: delete" in app.text()
        assert "Press W to allow changes." in app.text()
        await app.press("escape", "W")
        assert title(app).rstrip().endswith("RW")
        assert "Changes are allowed now." in reason(app)
        await app.press("W")
        assert title(app).rstrip().endswith("RO")
    assert sha256(image) == before


async def test_a_snapshot_is_planned_queued_applied_undone_and_redone(
    image: Path, tmp_path: Path
) -> None:
    before, disk = sha256(image), content(image, tmp_path)
    async with driving(image, WIDE, unlocked=True) as app:
        await app.press("S")
        await app.press("enter")  # without a name
        assert "A snapshot needs a name." in app.text()
        await plan(app, *"new", "enter")
        text = app.text()
        assert 'Takes snapshot "new" of the disk as it is now.' in text
        assert "qcowtui snapshot -c new" in text
        assert "+ written" in text
        await app.press("enter")
        assert app.app.screen is app.dashboard
        assert "PLANNED 1" in title(app)
        assert "Planned: a apply · x drop the last · P what it changes" in reason(app)
        assert "1 change: write " in reason(app)
        assert "new" in app.text()
        assert sha256(image) == before
        assert app.session.qcow2 is not None
        assert len(app.session.qcow2.snapshots) == 3
        await app.press("q")
        assert "1 planned change would be dropped." in app.text()
        await app.press("enter")

        await app.press("a")
        assert isinstance(app.app.screen, ApplyScreen)
        assert sha256(image) == before
        await app.press("enter")
        await app.until(lambda: app.app.screen is app.dashboard)
        await app.settle()
        assert "PLANNED" not in title(app)
        assert names(image) == ["clean-install", "before-update", "new"]
        assert "u undo" in title(app)

        await plan(app, "u")
        assert "Takes back: qcowtui snapshot -c new" in app.text()
        await app.press("enter")
        await app.until(lambda: app.app.screen is app.dashboard)
        await app.settle()
        assert names(image) == ["clean-install", "before-update"]
        await plan(app, "U")
        await app.press("enter")
        await app.until(lambda: app.app.screen is app.dashboard)
        await app.settle()
        assert names(image) == ["clean-install", "before-update", "new"]
        await app.press("T")
        assert "the image is here" in app.text()
        assert "← u undo" in app.text()
        await app.press("escape", "U")
        assert "There is nothing to redo" in reason(app)
    assert content(image, tmp_path) == disk


async def test_marked_snapshots_are_deleted_and_the_space_reclaimed(
    image: Path, tmp_path: Path
) -> None:
    disk, used = content(image, tmp_path), image.stat().st_blocks * 512
    async with driving(image, WIDE, unlocked=True) as app:
        await app.press("4", "home", "space", "space")
        assert "2 marked: free " in app.text()
        await plan(app, "D")
        text = app.text()
        assert 'Deletes snapshots "clean-install", "before-update"; keeps 0 others.' in text
        assert "frees " in text
        assert "loses " in text
        freed = app.app.screen._staged.plan.freed  # type: ignore[attr-defined]
        assert freed >= 3 << 20
        await app.press("a")
        panel = app.app.screen
        assert isinstance(panel, ApplyScreen)
        await app.press("enter")  # what is highlighted is not to do it
        assert "PLANNED 1" in title(app)
        assert names(image) == ["clean-install", "before-update"]

        await plan(app, "R")
        assert "Cannot be undone: what is reclaimed is gone." in app.text()
        await app.press("enter", "a")
        assert 'Type "reclaim" to go ahead.' in app.text()
        await app.press(*"yes", "enter")
        assert "That is not the word." in app.text()
        assert names(image) == ["clean-install", "before-update"]
        for key in ("home", *["delete"] * 3, *"reclaim", "enter"):
            await app.pilot.press(key)
        await app.until(lambda: app.app.screen is app.dashboard)
        await app.settle()
        assert names(image) == []
        assert image.stat().st_blocks * 512 <= used - freed + (1 << 19)
        await app.press("u")
        assert "There is nothing to undo" in reason(app)
        await app.press("T")
        assert "No longer possible" in app.text()
    assert content(image, tmp_path) == disk


async def test_going_back_keeps_the_present_state(image: Path, tmp_path: Path) -> None:
    disk = content(image, tmp_path)
    then = content(image, tmp_path, "-l", "clean-install")
    async with driving(image, NARROW, unlocked=True) as app:
        await app.press("4", "end", "b")
        assert reason(app).startswith("Go to a snapshot first")
        await app.press("home", "b")
        assert "The present state differs from it in 2 MiB." in said(app)
        await plan(app, "enter")
        assert "2 MiB of the disk read differently afterwards" in app.text()
        await app.press("a")
        await app.until(lambda: app.app.screen is app.dashboard)
        await app.settle()
    kept = names(image)[-1]
    assert kept.startswith("before-clean-install-")
    assert content(image, tmp_path) == then
    assert content(image, tmp_path, "-l", kept) == disk


async def test_the_map_shows_the_plan_and_the_last_change_can_be_dropped(
    image: Path, tmp_path: Path
) -> None:
    async with driving(image, WIDE, unlocked=True) as app:
        await app.press("4", "home")
        await plan(app, "D")
        await app.press("enter")
        drawn = app.session.plan_map
        assert drawn is not None
        assert drawn.freed >= 32  # 2 MiB in clusters of 64 KiB, and tables
        assert f"1 planned change: {drawn.freed} clusters freed" in app.text()
        assert "freed by the plan" in app.text()
        await app.press("r")
        assert "Changes are planned: a applies them, x drops the last one." in reason(app)

        await app.press("V", *"+64M", "enter")
        await app.press("enter")
        assert "PLANNED 2" in title(app)
        assert "128 MiB virtual" in title(app)
        await app.press("P")
        assert "planned changes:" not in app.text()
        assert "host file order" in app.text()
        await app.press("P")
        assert "2 planned changes:" in app.text()

        await app.press("x")
        assert "PLANNED 1" in title(app)
        assert "64 MiB virtual" in title(app)
        assert names(image) == ["clean-install", "before-update"]
        await app.press("a", "y")
        await app.until(lambda: app.app.screen is app.dashboard)
        await app.settle()
        assert "PLANNED" not in title(app)
    assert names(image) == ["before-update"]


async def test_every_change_from_the_palette_works_without_its_pane(image: Path) -> None:
    async with driving(image, WIDE, unlocked=True) as app:
        await app.press("1", "e")
        menu = app.app.screen.query_one(OptionList)
        entries = [str(option.prompt) for option in menu.options]
        assert "take a snapshot" in entries[0]  # the safest first
        menu.highlighted = next(n for n, text in enumerate(entries) if "s: delete" in text)
        await app.press("enter")  # of the snapshot under that pane's cursor
        assert isinstance(app.app.screen, PlanScreen)
        assert 'Deletes snapshot "clean-install"' in app.text()
        await app.press("escape")
        assert app.app.screen is app.dashboard
        assert not app.session.staged


async def test_renaming_and_discarding(image: Path) -> None:
    async with driving(image, WIDE, unlocked=True) as app:
        await app.press("4", "home", "m")
        await app.press("enter")
        assert "That is its name." in app.text()
        for _ in "clean-install":
            await app.pilot.press("backspace")
        await plan(app, *"fresh", "enter")
        await app.press("enter")
        await app.press("2", "g", *"guest 1M", "enter", "D")
        assert "Guest bytes 0x100000 to 0x110000: 64 KiB." in app.text()
        await plan(app, "enter")
        assert "64 KiB of the disk" in app.text()
        await app.press("a")
        await app.press("y")
        await app.until(lambda: app.app.screen is app.dashboard)
        await app.settle()
    assert names(image) == ["fresh", "before-update"]
    qemu_io(image, "read -P 0 1M 64k")
    qemu_io(image, "read -P 3 1088k 64k")


async def test_an_unsafe_shrink_is_refused_and_can_be_forced(image: Path) -> None:
    async with driving(image, WIDE, unlocked=True) as app:
        await app.press("V", *"2M", "enter")
        assert "It is not done." in app.text()
        assert "There is data at 0x200000, behind the new end." in said(app)
        await app.press("f")
        assert "A protection is off: data behind the new end is cut off" in app.text()
        await app.press("escape")
        assert not app.session.staged
