"""What must not happen: a change beside a virtual machine, half a change, a silent refusal."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.screen import ModalScreen
from textual.widgets import Static

from qcow.actions.snapshot import SnapshotCreate
from qcow.edit.apply import plan
from qcow.edit.journal import Journal, encode, identity_of, journal_patch
from qcow.edit.journal_place import SUFFIX
from qcow.edit.patch import Patch
from qcow.errors import Cancelled
from qcow.image.image import Image
from qcow.opening import open as open_image
from qcow.storage.memory import MemoryStorage
from qcowtui.tui.screens.apply_panel import ApplyScreen
from qcowtui.tui.screens.error import ErrorScreen
from qcowtui.tui.screens.plan_panel import PlanScreen
from qcowtui.tui.widgets.progress_line import ProgressLine
from qcowtui.views.changes.applying import Report
from qcowtui.views.changes.staging import Request, Staged
from tests.support.images import qemu_check, sha256, small_builder, small_image
from tests.support.live import io_session, nbd_server
from tests.support.qemu import qemu_img

from .driving import NARROW, WIDE, Driven, driving


def reason(app: Driven) -> str:
    return app.dashboard.query_one(ProgressLine).text


def said(app: Driven) -> str:
    """What the panel says, without line ends."""
    texts = (str(one.content) for one in app.app.screen.query(Static))
    return " ".join(" ".join(texts).split())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "vm.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "16M")
    return path


async def queue_a_snapshot(app: Driven) -> None:
    await app.press("S", *"new", "enter")
    await app.press("enter")
    assert len(app.session.staged) == 1


@pytest.mark.oracle
async def test_what_is_planned_is_not_applied_beside_a_virtual_machine(image: Path) -> None:
    before = sha256(image)
    async with driving(image, WIDE, unlocked=True) as app:
        await queue_a_snapshot(app)
        with nbd_server(image, "-r"):
            await app.press("a", "enter")
            await app.until(lambda: isinstance(app.app.screen, ErrorScreen))
            assert "lock" in said(app)
            assert "Nothing was changed: the image is as it was." in said(app)
            assert "then apply again" in said(app)
            await app.press("escape")
            assert len(app.session.staged) == 1
            assert sha256(image) == before
        await app.press("a", "enter")
        await app.until(lambda: app.app.screen is app.dashboard)
        await app.settle()
    assert b"new" in qemu_img("snapshot", "-l", image).stdout


@pytest.mark.oracle
async def test_an_image_in_use_says_so_until_it_is_released(image: Path) -> None:
    with io_session(image) as session:
        async with driving(image, WIDE, unlocked=True) as app:
            await app.until(lambda: "IN USE qemu-io" in app.text())
            for key in "SVRu":
                await app.press(key)
                assert reason(app).startswith(f"In use by qemu-io {session.pid}:"), key
            session.kill()
            session.wait()
            await app.until(lambda: not app.session.live)
            await app.settle()
            await queue_a_snapshot(app)


@pytest.mark.oracle
async def test_an_image_changed_meanwhile_is_planned_anew(image: Path, tmp_path: Path) -> None:
    async with driving(image, WIDE, unlocked=True) as app:
        await queue_a_snapshot(app)
        other = tmp_path / "other.qcow2"
        shutil.copy(image, other)
        qemu_img("snapshot", "-c", "theirs", other)
        image.write_bytes(other.read_bytes())  # somebody who knows no locks
        await app.press("a", "enter")
        await app.until(lambda: isinstance(app.app.screen, ErrorScreen))
        assert "no longer the image the plan was made on" in said(app)
        assert "was dropped" in said(app)
        await app.press("escape")
        assert not app.session.staged
        assert app.session.qcow2 is not None
        assert [one.name for one in app.session.qcow2.snapshots] == [b"theirs"]


async def test_damaged_and_raw_images_say_why_they_cannot_be_changed(
    demo: Path, tmp_path: Path
) -> None:
    cases = {
        "files-corrupt.qcow2": "repairs it first.",
        "laptop-unclean.qcow2": "repairs it first.",
        "plain.img": "Only qcow2 images can be changed",
    }
    (tmp_path / "plain.img").write_bytes(bytes(1 << 20))
    for name, text in cases.items():
        path = tmp_path / name
        if not path.exists():
            shutil.copy(demo / name, path)
        async with driving(path, NARROW) as app:
            await app.press("W", "S")
            assert text in reason(app), name
            assert not isinstance(app.app.screen, ModalScreen)


def staged_on(path: Path) -> Staged:
    """A plan for a screen that is shown by itself."""
    with open_image(str(path)) as opened:
        assert isinstance(opened, Image)
        action = SnapshotCreate("new")
        preview: Any = None
        return Staged(action, plan(action, opened), preview)


async def test_nothing_ends_the_app_while_something_is_written(tmp_path: Path) -> None:
    path = small_image(tmp_path)
    answers: list[Report | None] = []
    working = threading.Event()

    def work(begin: Any, progress: Any, cancel: Any) -> Report:
        begin(0)
        working.set()
        while not cancel.cancelled:
            cancel._event.wait(0.01)
        return Report((), 1, Cancelled("Cancelled: nothing was changed."))

    async with driving(path, WIDE, unlocked=True) as app:
        screen = ApplyScreen([staged_on(path)], work, reviewed=True)
        app.app.push_screen(screen, answers.append)
        await app.until(working.is_set)
        for key in ("q", "ctrl+q", "escape"):
            await app.pilot.press(key)
            await app.pilot.pause()
            assert app.app.screen is screen, key
            assert "A change is being written, so this cannot be left now." in said(app), key
            assert app.app.is_running
            screen.say("")
        assert 'Takes snapshot "new" of the disk as it is now.' in said(app)
        await app.pilot.press("c")
        await app.until(lambda: bool(answers))
        assert answers[0] is not None
        assert isinstance(answers[0].error, Cancelled)


async def test_a_signal_ends_the_app_at_a_safe_point(tmp_path: Path) -> None:
    path = small_image(tmp_path)
    working, ended = threading.Event(), threading.Event()

    def work(begin: Any, progress: Any, cancel: Any) -> Report:
        working.set()
        while not cancel.cancelled:
            cancel._event.wait(0.01)
        ended.set()
        return Report((), 1, Cancelled("Cancelled: nothing was changed."))

    async with driving(path, WIDE, unlocked=True) as app:
        app.app.push_screen(ApplyScreen([staged_on(path)], work, reviewed=True))
        await app.until(working.is_set)
        app.app.leave(143)
        await app.until(ended.is_set)
        await app.until(lambda: app.app.return_value is not None)
        assert app.app.return_value == 143


async def test_planning_can_be_cancelled(tmp_path: Path) -> None:
    path = small_image(tmp_path)
    before = sha256(path)

    def never(_action: Any, progress: Any, cancel: Any) -> Staged:
        while True:
            cancel.check()
            cancel._event.wait(0.01)

    async with driving(path, WIDE, unlocked=True) as app:
        screen = PlanScreen(Request("Take a snapshot", SnapshotCreate("x")), never)
        app.app.push_screen(screen)
        await app.until(lambda: screen.at_work)
        assert "Nothing is written." in said(app)
        await app.pilot.press("escape")
        await app.until(lambda: app.app.screen is app.dashboard)
        assert not app.session.staged
    assert sha256(path) == before


@pytest.mark.oracle
async def test_an_unfinished_change_is_found_and_completed(image: Path) -> None:
    old = image.read_bytes()
    patch = Patch(80, old[80:88], bytes(7) + b"\x01")  # lazy refcounts
    identity = identity_of(MemoryStorage(old), [patch])
    own = (1, image.stat().st_ino)
    kept = (journal_patch(patch, secret=False),)
    journal = Path(f"{image}{SUFFIX}")
    journal.write_bytes(encode(Journal(b"t" * 16, identity, own, 99, b"/a", "amend", False, kept)))
    journal.chmod(0o600)
    async with driving(image, WIDE, unlocked=True) as app:
        assert "UNFINISHED" in app.text().splitlines()[0]
        assert "an unfinished change waits in a journal" in app.text()
        await app.press("S")
        assert reason(app) == "An unfinished change waits; J completes it first."
        await app.press("J", "down", "enter")
        await app.until(lambda: app.session.journal is None)
        await app.settle()
        assert "UNFINISHED" not in app.text().splitlines()[0]
    assert not journal.exists()
    assert image.read_bytes()[80:88] == patch.after
    assert qemu_check(image).code == 0


async def test_names_out_of_an_image_are_harmless_in_every_dialog(tmp_path: Path) -> None:
    names = (b"[@click=app.quit]gone[/]", b"\x1b[2Jcleared", b"[red]{edit.apply}[/]")
    builder = small_builder(snapshot=False)
    for number, name in enumerate(names, 1):
        builder.data(number, bytes([number]) * 65536)
        builder.snapshot(name)
    path = builder.write(tmp_path / "vm.qcow2")
    shown = [r"[@click=app.quit]gone[/]", r"\x1b[2Jcleared", "[red]{edit.apply}[/]"]
    async with driving(path, WIDE, unlocked=True) as app:
        for row, name in enumerate(shown):
            await app.press("4", "home", *["down"] * row)
            for keys in (("D",), ("b", "enter"), ("m", *"x", "enter")):
                await app.press(*keys)
                assert isinstance(app.app.screen, PlanScreen), (name, keys)
                assert name in said(app), (name, keys)
                assert "\x1b" not in app.text()
                await app.press("escape")
                assert app.app.screen is app.dashboard
        await app.press("4", "home", "space", "space", "space", "D", "a", "y")
        await app.until(lambda: app.app.screen is app.dashboard)
        await app.settle()
        await app.press("T")
        assert "gone[/]" in app.text()
        assert "\\x1b" in app.text()
    assert app.session.qcow2 is not None
    assert app.session.qcow2.snapshots == ()
