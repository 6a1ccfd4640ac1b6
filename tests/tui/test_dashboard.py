"""The dashboard: what is where, and the same grammar of keys in every pane."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcowtui.views.session import Order, Part, PartState

from .driving import NARROW, WIDE, driving


async def test_wide_shows_six_panes_and_numbers_focus_them(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        everything = {"header", "map", "refcounts", "snapshots", "chain", "findings"}
        assert app.visible == everything
        assert app.focused == "map"
        for key, pane in zip(
            "123456", ("header", "map", "refcounts", "snapshots", "chain"), strict=False
        ):
            await app.press(key)
            assert app.focused == pane
            assert app.visible == everything
        assert "web01.qcow2" in app.text()
        assert "qcow2 v3 · 8 GiB virtual" in app.text()


async def test_narrow_shows_one_pane_with_tabs(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", NARROW) as app:
        assert app.visible == {"map"}
        assert app.text().splitlines()[1].split("8")[0] == (
            " 1 Header 2 Map  3 Counts 4 Snaps 5 Chain 6 Findings 7 Frag "
        )
        await app.press("4")
        assert (app.focused, app.visible) == ("snapshots", {"snapshots"})
        await app.press("tab")
        assert (app.focused, app.visible) == ("chain", {"chain"})
        await app.press("shift+tab", "shift+tab")
        assert (app.focused, app.visible) == ("refcounts", {"refcounts"})


async def test_tab_walks_the_panes_in_order(demo: Path) -> None:
    async with driving(demo / "mail-leaks.qcow2", WIDE) as app:
        met = []
        for _ in range(6):
            await app.press("tab")
            met.append(app.focused)
        assert met == ["refcounts", "snapshots", "chain", "findings", "header", "map"]


async def test_zoom_gives_the_screen_to_one_pane_and_escape_gives_it_back(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await app.press("4", "z")
        assert app.visible == {"snapshots"}
        assert app.focused == "snapshots"
        await app.press("escape")
        assert len(app.visible) == 6
        assert app.focused == "snapshots"
        await app.press("z", "z")
        assert len(app.visible) == 6


async def test_a_low_window_leaves_panes_out_and_still_reaches_them(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", (130, 26)) as app:
        assert app.visible == {"header", "map", "snapshots", "chain"}
        await app.press("6")
        assert (app.focused, app.visible) == ("findings", {"findings"})
        await app.press("escape")
        assert "findings" not in app.visible


async def test_too_small_says_so_and_goes_on(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", (50, 12)) as app:
        assert "needs 60 × 18" in app.text()
        assert app.visible == set()
        assert app.session.state_of(Part.CHECK) is PartState.COMPLETE
        await app.pilot.resize_terminal(*WIDE)
        await app.pilot.pause()
        assert len(app.visible) == 6


async def test_resizing_keeps_the_pane_in_front(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await app.press("5")
        await app.pilot.resize_terminal(*NARROW)
        await app.pilot.pause()
        assert (app.focused, app.visible) == ("chain", {"chain"})
        await app.pilot.resize_terminal(*WIDE)
        await app.pilot.pause()
        assert app.focused == "chain"
        assert len(app.visible) == 6


async def test_escape_never_quits_and_q_does(demo: Path) -> None:
    async with driving(demo / "files-corrupt.qcow2", WIDE) as app:
        await app.press("escape", "escape", "escape")
        assert app.app.is_running
        await app.pilot.press("q")
        await app.pilot.pause()
    assert app.app.return_value == 2


@pytest.mark.parametrize(
    ("image", "code"), [("web01.qcow2", 0), ("mail-leaks.qcow2", 3), ("files-corrupt.qcow2", 2)]
)
async def test_the_exit_code_is_that_of_the_check(demo: Path, image: str, code: int) -> None:
    async with driving(demo / image, NARROW) as app:
        assert app.app.exit_code == code


async def test_enter_inspects_and_escape_returns(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await app.press("enter")
        assert (app.focused, app.visible) == ("inspector", {"inspector"})
        assert "Inspector" in app.text()
        await app.press("escape")
        assert app.focused == "map"
        assert len(app.visible) == 6


async def test_badges_say_how_it_is(demo: Path) -> None:
    wanted = {
        "web01.qcow2": ["OK", "RO"],
        "mail-leaks.qcow2": ["LEAKS 32"],
        "files-corrupt.qcow2": ["CORRUPT", "LEAKS"],
        "laptop-unclean.qcow2": ["DIRTY"],
        "untrusted-upload.qcow2": ["UNTRUSTED REFERENCE"],
    }
    for name, badges in wanted.items():
        async with driving(demo / name, WIDE) as app:
            title = app.text().splitlines()[0]
            for badge in badges:
                assert badge in title, name
            assert "CORRUPT" not in title or name == "files-corrupt.qcow2"


async def test_order_swaps_and_keeps_the_place(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await app.press("g", *"host 0x1000000", "enter")
        place = app.session.selection
        assert place.host_cluster == 0x1000000 // 8192
        assert place.guest_offset is not None
        await app.press("v")
        assert app.session.order is Order.GUEST
        assert app.session.selection.same_place(place)
        assert "guest disk order" in app.text()
        await app.press("v")
        assert app.session.selection.host_cluster == place.host_cluster
