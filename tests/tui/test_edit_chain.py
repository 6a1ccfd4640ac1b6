"""Changing a chain in the app: the stories of the shared base (S7) and of the moved one (S8)."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import OptionList

from qcowtui.tui.screens.plan_panel import PlanScreen
from qcowtui.tui.screens.question import QuestionScreen
from tests.oracle.catalogue.base import create, overlay
from tests.support.images import qemu_check
from tests.support.qemu import guest_bytes, qemu_img, qemu_io, qemu_json
from tests.support.stories import moved_base

from .driving import NARROW, WIDE, Driven, driving

pytestmark = pytest.mark.oracle


def answers(app: Driven) -> list[str]:
    """What the question offers, in order."""
    listing = app.app.screen.query_one(OptionList)
    return [str(listing.get_option_at_index(at).prompt) for at in range(listing.option_count)]


async def follow(app: Driven) -> None:
    """Allow the backing file to be opened."""
    await app.press("5", "f", "down", "enter")


async def done(app: Driven) -> None:
    await app.until(lambda: app.app.screen is app.dashboard)
    await app.settle()


@pytest.fixture
def shared(tmp_path: Path) -> tuple[Path, Path, Path]:
    """(base, webA, webB): webA holds 4 MiB where webB reads the base."""
    base = create(tmp_path / "base.qcow2", "64M")
    qemu_io(base, "write -q -P 0x11 0 16M")
    web_a = overlay(tmp_path / "webA.qcow2", "base.qcow2", "qcow2")
    web_b = overlay(tmp_path / "webB.qcow2", "base.qcow2", "qcow2")
    qemu_io(web_a, "write -q -P 0xaa 4M 4M")
    qemu_io(web_b, "write -q -P 0xbb 32M 1M")
    return base, web_a, web_b


async def test_s7_who_else_reads_the_base_is_flattened_before_the_commit(
    shared: tuple[Path, Path, Path],
) -> None:
    base, web_a, web_b = shared
    golden_a, golden_b = guest_bytes(web_a), guest_bytes(web_b)
    async with driving(web_a, WIDE, unlocked=True) as app:
        await app.press("5", "C")
        assert "The backing file is not open: f allows that." in app.text()
        await follow(app)
        await app.press("5", "C")
        assert isinstance(app.app.screen, QuestionScreen)
        text = " ".join(app.text().replace("│", " ").split())
        assert "'base.qcow2' is also read by webB.qcow2." in text
        assert "Up to 4 MiB will change under it" in text
        offered = answers(app)
        assert offered[0].startswith("Flatten webB.qcow2 first")
        assert offered[-1].startswith("Commit nevertheless")
        await app.press("enter")
        assert isinstance(app.app.screen, PlanScreen)
        assert "Makes the image independent of 'base.qcow2'" in app.text()
        assert guest_bytes(web_b) == golden_b
        await app.press("enter")
        await app.until(lambda: isinstance(app.app.screen, PlanScreen))
        await app.settle()
        # Nobody else reads the base now, so the plan of the commit follows by itself.
        assert "Writes what the image holds" in app.text()
        await app.press("a")
        await done(app)
        assert app.session.chain is not None
    assert guest_bytes(web_a) == golden_a
    assert guest_bytes(web_b) == golden_b
    assert guest_bytes(base)[4 << 20 : 8 << 20] == b"\xaa" * (4 << 20)
    assert [qemu_check(path).code for path in shared] == [0, 0, 0]
    assert "backing-filename" not in dict(qemu_json("info", "--output=json", web_b))


async def test_a_planned_commit_shows_the_base_as_it_would_be(
    shared: tuple[Path, Path, Path],
) -> None:
    base, web_a, web_b = shared
    web_b.unlink()
    before = base.read_bytes(), web_a.read_bytes()
    async with driving(web_a, WIDE, unlocked=True) as app:
        await follow(app)
        await app.press("5", "C")
        assert isinstance(app.app.screen, PlanScreen)
        await app.press("enter")
        assert "PLANNED 1" in app.text().splitlines()[0]
        top, below = app.session.layers
        assert top.coverage is not None
        assert below.coverage is not None
        assert (top.coverage.served_data, below.coverage.served_data) == (0, 16 << 20)
    assert (base.read_bytes(), web_a.read_bytes()) == before


async def test_s8_the_moved_base_is_found_and_the_impostor_is_told(tmp_path: Path) -> None:
    vm, _, golden = moved_base(tmp_path)
    async with driving(vm, NARROW, unlocked=True) as app:
        await app.press("5", "m")
        assert isinstance(app.app.screen, QuestionScreen)
        first, second, *_ = answers(app)
        assert first.startswith("moved/golden-base.qcow2  qcow2, 64 MiB\n")
        assert second.startswith("moved/impostor.qcow2  qcow2, 64 MiB  — doubtful")
        assert "! It is empty where the image reads through it" in second
        await app.press("down", "enter")
        assert isinstance(app.app.screen, PlanScreen)
        assert "It is not done." in app.text()
        assert "Plan it nevertheless" in app.text()
        await app.press("enter")
        assert app.app.screen is app.dashboard

        await app.press("m", "enter")
        assert isinstance(app.app.screen, PlanScreen)
        assert "Points the image at 'moved/golden-base.qcow2' instead of" in app.text()
        await app.press("a")
        await done(app)
    info = dict(qemu_json("info", "--output=json", vm))
    assert info["backing-filename"] == "moved/golden-base.qcow2"
    assert info["backing-filename-format"] == "qcow2"
    assert qemu_img("info", "--backing-chain", vm).returncode == 0
    assert qemu_check(vm).code == 0
    assert guest_bytes(vm) == golden
