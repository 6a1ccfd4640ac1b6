"""The chain pane: layers with their shares, and references that stay closed."""

from __future__ import annotations

from pathlib import Path

from qcow.storage.gate import Gate
from qcowtui.tui.panes.base import Pane
from qcowtui.tui.panes.chain import ChainPane
from qcowtui.views.selection import select_guest
from qcowtui.views.session import Part
from qcowtui.views.work import CHAIN, DEPENDENTS

from ...views.opened import fill
from .one_pane import COLUMN, LARGE, one_pane


async def test_closed_until_it_is_granted(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "chain", LARGE) as (app, pilot):
        text = app.text()
        assert "└─web-template.qcow2  not opened: press f" in text
        assert "debian-12-base.qcow2" not in text
        app.session.gate = Gate.follow()
        fill(app.session, CHAIN)
        app.pane.part_changed(Part.CHAIN)
        await pilot.pause()
        text = app.text()
        assert "3 layers, all readable" in text
        assert "  └─debian-12-base.qcow2" in text
        assert "in no layer" in text
        assert text.count("█") == 24


async def test_narrow(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "chain", COLUMN) as (app, _):
        assert "└─web-template.qcow2" in app.text()


async def test_the_layer_of_the_selected_cluster(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "chain", LARGE, gate=Gate.follow()) as (app, pilot):
        for place, layer in ((296, "debian"), (680, "web-template"), (128, "web01")):
            app.select(select_guest(place << 20))
            await app.workers.wait_for_complete()
            await pilot.pause()
            marked = [line for line in app.text().splitlines() if "◂" in line]
            assert len(marked) == 1, place
            assert layer in marked[0]


async def test_enter_compares_a_layer_with_the_present(demo: Path) -> None:
    async with one_pane(demo / "web01.qcow2", "chain", LARGE, gate=Gate.follow()) as (app, pilot):
        await pilot.press("enter")
        assert app.asked == []
        await pilot.press("down", "enter")
        (asked,) = app.asked
        assert isinstance(asked, Pane.Compare)
        assert (asked.one, asked.other) == ("layer:1", "active")
        assert isinstance(app.pane, ChainPane)
        assert app.pane.states_to_compare == ("layer:1", "active")


async def test_dependents(demo: Path) -> None:
    path = demo / "web-template.qcow2"
    async with one_pane(path, "chain", LARGE, jobs=(CHAIN, DEPENDENTS)) as (app, pilot):
        lines = app.text().splitlines()
        assert "↑ web01.qcow2" in lines[2]
        assert "↑ web02.qcow2" in lines[3]
        await pilot.press("down", "down")
        assert "2 images in this folder build on this one" in app.text()


async def test_an_untrusted_reference_is_text(demo: Path) -> None:
    async with one_pane(demo / "untrusted-upload.qcow2", "chain", LARGE) as (app, pilot):
        assert "└─/etc/shadow  not opened: press f" in app.text()
        await pilot.press("down")
        assert "Careful: it lies outside the image's own folder" in app.sentence()


async def test_an_image_alone(demo: Path) -> None:
    async with one_pane(demo / "mail-leaks.qcow2", "chain", LARGE) as (app, _):
        assert "no backing file" in app.text()


async def test_hints_name_the_users_own_keys(demo: Path) -> None:
    from qcowtui.commands.keymap import Keymap

    async with one_pane(demo / "web01.qcow2", "chain", LARGE) as (app, pilot):
        for keys, words in ((("F7",), "press F7"), ((), "not opened  ")):
            app.keymap = Keymap({"chain.follow": keys})  # type: ignore[attr-defined]
            app.pane.part_changed(Part.IMAGE)
            await pilot.pause()
            assert f"web-template.qcow2  not opened{': ' if keys else ''}" in app.text()
            assert words in app.text()
