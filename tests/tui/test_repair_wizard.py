"""The repair wizard, driven with keys: diagnosed, chosen, planned, applied, checked, taken back."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qcow.inspect.lost import scan_lost
from qcowtui.tui.app import QcowApp
from qcowtui.tui.screens.dashboard import Dashboard
from qcowtui.tui.screens.picker import PickerScreen
from qcowtui.tui.screens.plan_panel import PlanScreen
from qcowtui.tui.screens.repair_wizard import RepairWizard
from qcowtui.tui.screens.verified_panel import VerifiedScreen
from qcowtui.views import jobs
from qcowtui.views.session import Order, open_session
from tests.support.edited import copied
from tests.support.poking import (
    COPIED,
    count_place,
    l1_entry,
    l2_entry,
    leak,
    make,
    peek,
    poke,
    set_word,
    word,
)
from tests.support.qemu import qemu_img

from .driving import NARROW, WIDE, Driven, driving

pytestmark = pytest.mark.oracle
_KiB = 1024


def miscounted(path: Path) -> Path:
    """A cluster in use counted as free, one counted twice, a COPIED flag missing."""
    make(path, "64M", "write -P 1 0 2M")
    poke(path, count_place(path, 10), b"\0\0")
    poke(path, count_place(path, 12), b"\0\2")
    entry = l2_entry(path, 0, 9)
    set_word(path, entry, word(path, entry) ^ COPIED)
    return path


def lost_table(path: Path) -> Path:
    """The second half of a disk whose L2 table lost its L1 entry."""
    make(path, "1G", "write -P 1 0 1M", "write -P 2 600M 4M")
    set_word(path, l1_entry(path, 1), 0)
    return path


def overlapping(path: Path) -> Path:
    """Guest data that points at the L1 table, and the corrupt bit."""
    make(path, "64M", "write -P 1 0 2M")
    set_word(path, l2_entry(path, 0, 2), word(path, 40) | COPIED)
    poke(path, 79, b"\2")
    return path


def check(path: Path) -> int:
    return qemu_img("check", path, check=False).returncode


def same(path: Path, golden: Path) -> bool:
    return qemu_img("compare", path, golden, check=False).returncode == 0


def flat(app: Driven) -> str:
    """What is on the screen, without its line breaks and borders."""
    return " ".join(app.text().replace("│", " ").split())


async def apply_the_plan(app: Driven) -> None:
    """From the list of findings through the plan to the check of what came of it."""
    await app.press("p")
    assert isinstance(app.app.screen, PlanScreen)
    await app.press("a")
    await app.until(lambda: verified(app) or "Yes, apply" in app.text())
    if not verified(app):
        await app.press("y")
        await app.until(lambda: verified(app))
    await app.settle()


def verified(app: Driven) -> bool:
    return isinstance(app.app.screen, VerifiedScreen)


async def test_miscounted_clusters_are_repaired_and_it_is_taken_back(tmp_path: Path) -> None:
    path = miscounted(tmp_path / "s2.qcow2")
    sector, length = peek(path, 0, 512), path.stat().st_size
    before = path.read_bytes()
    async with driving(path, NARROW) as app:
        await app.press("S")
        assert "E repairs it first." in app.text()
        await app.press("E")  # what could be done is told without changes being allowed
        assert isinstance(app.app.screen, RepairWizard)
        await app.press("p")
        assert "W allows changes; E then goes on with what was chosen." in app.text()
        await app.press("W", "E")
        assert isinstance(app.app.screen, RepairWizard)
        assert "The check found 4 errors and 1 leaked cluster." in flat(app)
        assert "treats 1 of 1 finding and loses nothing" in flat(app)
        await app.press("1")
        shown = flat(app)
        for word_ in ("cause", "hits", "keeps", "loses", "writes", "undo"):
            assert word_ in shown
        assert "QCOW-REFCOUNT-ZERO" not in shown
        await app.press("d")
        assert "QCOW-REFCOUNT-ZERO" in flat(app)
        await app.press("escape")
        assert path.read_bytes() == before
        await apply_the_plan(app)
        assert "4 errors and 1 leaked cluster → none" in flat(app)
        assert check(path) == 0
        await app.press("u")
        await app.press("a")
        await app.settle()
    assert peek(path, 0, 512) == sector
    assert path.read_bytes()[:length] == before
    assert check(path) == 2


async def test_a_lost_table_is_put_back(tmp_path: Path) -> None:
    golden = tmp_path / "golden.qcow2"
    path = lost_table(tmp_path / "s3.qcow2")
    make(golden, "1G", "write -P 1 0 1M", "write -P 2 600M 4M")
    async with driving(path, WIDE, unlocked=True) as app:
        await app.press("E")
        assert "is an L2 table that lost its L1 entry" in flat(app)
        assert "it maps 64 other leaked clusters as guest data." in flat(app)
        await app.press("1", "g")
        assert app.session.order is Order.GUEST
        assert app.session.selection.guest_offset == 512 * _KiB * _KiB
        assert "E goes on with the repair." in app.text()
        await app.press("E")
        await apply_the_plan(app)
        assert "65 leaked clusters → none" in flat(app)
        assert check(path) == 0
        assert same(path, golden)


async def test_choices_are_the_users(tmp_path: Path) -> None:
    path = overlapping(tmp_path / "s5.qcow2")
    golden = tmp_path / "golden.qcow2"
    make(golden, "64M", "write -P 1 0 2M", "write -z 128k 64k")
    async with driving(path, WIDE, unlocked=True) as app:
        await app.press("E")
        assert "has two owners" in flat(app)
        assert "waits for your choice" in flat(app)
        await app.press("1", "down")
        assert "loses The guest data of the range" in flat(app)
        await app.press("2")  # zeros; then the leaked cluster asks to be decided on
        assert "may hold guest data" in flat(app)
        await app.press("0")
        assert "left as it is" in flat(app)
        await app.press("p")
        plan = app.app.screen
        assert isinstance(plan, PlanScreen)
        assert "--choice" in app.text()
        assert "=zero" in flat(app)
        await app.press("escape")
        await app.press("E")  # what was chosen is still chosen
        assert "Let the guest read zeros there" in flat(app)
        await apply_the_plan(app)
        assert same(path, golden)


async def test_leaks_that_are_nothing_are_freed(tmp_path: Path) -> None:
    path = make(tmp_path / "s1.qcow2", "64M", "write -P 1 0 2M")
    golden = copied(path, "golden.qcow2")
    leak(path, *[b"\xee" * 65536] * 5)
    async with driving(path, NARROW, unlocked=True) as app:
        await app.press("E")
        await apply_the_plan(app)
        assert "5 leaked clusters → none" in flat(app)
    assert check(path) == 0
    assert same(path, golden)


async def test_a_planned_repair_can_wait_in_the_queue(tmp_path: Path) -> None:
    path = miscounted(tmp_path / "s2.qcow2")
    before = path.read_bytes()
    async with driving(path, WIDE, unlocked=True) as app:
        await app.press("E", "p", "enter")
        assert len(app.session.staged) == 1
        assert path.read_bytes() == before
        check_ = app.session.check
        assert check_ is not None
        assert check_.corruptions == 0
        await app.press("a", "enter")
        await app.until(lambda: verified(app))
    assert check(path) == 0


@pytest.mark.parametrize("damaged", [True, False])
async def test_a_reason_goes_when_the_check_has_ended(
    damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E while the check runs says so; that sentence does not outlive it."""
    sound = tmp_path / "good.qcow2"
    path = miscounted(tmp_path / "s2.qcow2") if damaged else make(sound, "64M", "write 0 2M")
    go_on, real = threading.Event(), jobs.run_check

    def slowly(*arguments: Any) -> None:
        assert go_on.wait(60)
        real(*arguments)

    monkeypatch.setattr(jobs, "run_check", slowly)
    session = open_session(str(path))
    app = QcowApp(session)
    async with app.run_test(size=WIDE) as pilot:
        driven = Driven(app, pilot, session)
        await driven.until(lambda: "Checking" in driven.text())
        await pilot.press("E")
        assert "the check has not ended" in driven.text()
        go_on.set()
        await driven.settle()
        assert "the check has not ended" not in driven.text()
        if damaged:
            await driven.until(
                lambda: "4 corruptions and 1 leaked" in driven.text().splitlines()[-2]
            )
            await driven.press("E")
            assert isinstance(app.screen, RepairWizard)
        else:
            assert "there is nothing to repair" in driven.text()
            await driven.press("tab")
            assert "there is nothing to repair" not in driven.text()


async def test_a_lost_header_is_made_again(tmp_path: Path) -> None:
    golden = make(tmp_path / "golden.qcow2", "1G", "write -P 1 0 1M", "write -P 2 600M 4M")
    path = copied(golden, "s6.qcow2")
    noise = os.urandom(65536)
    poke(path, 0, noise)
    async with driving(path, NARROW) as app:
        await app.press("E")
        assert "does not start with a qcow2 header" in flat(app)
        await app.pilot.press(*["backspace"] * 14, *"1G", "enter")
        await app.settle()
        assert isinstance(app.app.screen, RepairWizard), app.text()
        await apply_the_plan(app)
        assert check(path) == 0
        assert same(path, golden)
        await app.press("u")
        await app.press("a")
    assert peek(path, 0, 512) == noise[:512]


async def test_one_of_several_headers_can_be_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "s6.qcow2", "1G", "write -P 1 0 1M")
    poke(path, 0, os.urandom(65536))
    chosen: list[Mapping[str, str]] = []
    monkeypatch.setattr(
        Dashboard, "_diagnose", lambda _self, answers, _mending: chosen.append(answers)
    )
    async with driving(path, NARROW) as app:
        found = scan_lost(app.session.storage)
        likeliest = found.proposals[0]
        other = replace(likeliest, errors=likeliest.errors + 3)
        screen = app.app.screen
        assert isinstance(screen, Dashboard)
        screen._ask_header(replace(found, proposals=(likeliest, other)))
        await app.settle()
        assert "The header, likeliest first" in app.text()
        assert "3 errors, 0 leaks" in flat(app)
        await app.pilot.press(*["backspace"] * 14, *"1G", "tab", "down", "enter")
        await app.settle()
    assert chosen == [{"header": "2", "size": "1G"}]


async def test_nothing_to_repair_says_so(tmp_path: Path) -> None:
    path = make(tmp_path / "good.qcow2", "64M", "write -P 1 0 2M")
    async with driving(path, WIDE, unlocked=True) as app:
        await app.press("E")
        assert "No damage was found: there is nothing to repair." in app.text()
    raw = tmp_path / "plain.img"
    raw.write_bytes(bytes(1 << 20))
    async with driving(raw, WIDE) as app:
        await app.press("E")
        assert "it seems to be a raw image" in flat(app)
        await app.press("escape")
        await app.pilot.press("o")  # the first screen gives way to another one
        await app.until(lambda: isinstance(app.app.screen, PickerScreen))
