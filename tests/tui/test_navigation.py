"""One selection in all panes: going to places, back, to problems, and comparing states."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Input, Label

from qcow.inspect.classes import ClusterClass
from qcow.storage.gate import Policy
from qcowtui.tui.panes.allocation import AllocationPane
from qcowtui.tui.panes.refcounts import RefcountPane
from qcowtui.tui.screens.goto import GotoScreen
from qcowtui.tui.screens.question import QuestionScreen
from qcowtui.views.app_state import load_state, state_path
from qcowtui.views.session import Order

from .driving import NARROW, WIDE, Driven, driving


def cursors(app: Driven) -> tuple[int, int]:
    """Where the cursors of the two maps are."""
    allocation, refcounts = app.dashboard.pane("map"), app.dashboard.pane("refcounts")
    assert isinstance(allocation, AllocationPane)
    assert isinstance(refcounts, RefcountPane)
    assert allocation.map is not None
    assert refcounts.map is not None
    return allocation.map.cursor, refcounts.map.cursor


async def go_to(app: Driven, address: str) -> None:
    await app.press("g", *address, "enter")


async def test_a_place_is_selected_in_every_pane(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await go_to(app, "0x70000")
        assert app.session.selection.host_cluster == 56
        assert cursors(app) == (56, 56)
        status = app.text().splitlines()[-3]
        assert "host 0x70000 · guest 0x" in status
        assert "refcount 5 · shared · owner active, " in status
        assert "cluster 56/3,919" in status
        await app.press("3", "right")
        host = app.session.selection.host_cluster
        assert host is not None
        assert host > 56
        assert cursors(app) == (host, host)


async def test_the_prompt_says_what_it_will_do(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", NARROW) as app:
        await app.pilot.press("g", *"l2:0/0")
        await app.pilot.pause()
        screen = app.app.screen
        assert isinstance(screen, GotoScreen)
        meaning = screen.query_one("#meaning", Label)
        assert "→ host none · guest 0x0 · L1[0] L2[0]" in str(meaning.content)
        screen.query_one(Input).value = "snap:[/]nobody"
        await app.pilot.pause()
        assert 'no snapshot "[/]nobody"' in str(meaning.content)
        await app.pilot.press("enter")
        await app.pilot.pause()
        assert app.app.screen is screen
        await app.press("escape")
        assert app.session.selection.host_cluster == 0


async def test_jumps_can_be_taken_back(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", NARROW) as app:
        await go_to(app, "100")
        await go_to(app, "2000")
        await app.press("left_square_bracket")
        assert app.session.selection.host_cluster == 100
        await app.press("left_square_bracket")
        assert app.session.selection.host_cluster == 0
        await app.press("right_square_bracket", "right_square_bracket")
        assert app.session.selection.host_cluster == 2000


async def test_problems_are_found_one_after_the_other(demo: Path) -> None:
    async with driving(demo / "files-corrupt.qcow2", WIDE) as app:
        met = []
        for _ in range(6):
            await app.press("n")
            kind = app.session.selection.cluster_class
            assert kind is not None
            assert kind.is_problem
            met.append(app.session.selection.host_cluster)
        assert None not in met
        assert len(set(met)) == 6
        await app.press("N")
        assert app.session.selection.host_cluster == met[-2]
        assert cursors(app)[1] == met[-2]


async def test_the_guest_order_selects_guest_places(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await app.press("v")
        await go_to(app, "0x0")
        assert app.session.order is Order.GUEST
        assert app.session.selection.guest_offset == 0
        await app.press("right", "right")
        guest = app.session.selection.guest_offset
        assert guest is not None
        assert guest > 0
        assert cursors(app)[0] * 8192 == guest


async def test_two_states_are_drawn_on_the_map(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await app.pilot.press("d")
        await app.pilot.pause()
        assert isinstance(app.app.screen, QuestionScreen)
        await app.pilot.press("enter")  # active
        await app.pilot.pause()
        await app.pilot.press("down", "enter")  # the second snapshot
        await app.settle()
        assert app.session.difference is not None
        assert "active ↔ before-update: " in app.text()
        assert "differ in" in app.text()
        assert "different" in app.text()
        await app.press("n")
        place = app.session.selection.guest_offset
        assert place is not None
        pyramid = app.session.difference.pyramid
        assert pyramid.class_of(place // 8192) is ClusterClass.CORRUPT
        await app.press("escape")
        assert app.session.difference is None
        assert "↔" not in app.text()
        assert "host file order" in app.text()


async def test_the_backing_file_is_opened_only_when_it_is_granted(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        assert [layer.format for layer in app.session.layers] == ["qcow2", None]
        await app.pilot.press("f", "enter")  # the safe answer comes first
        await app.settle()
        assert app.session.gate.policy is Policy.CLOSED
        assert [layer.format for layer in app.session.layers] == ["qcow2", None]
        await app.pilot.press("f", "down", "enter")
        await app.settle()
        assert [layer.format for layer in app.session.layers] == ["qcow2"] * 3
        assert load_state(state_path()).trusted == []
    async with driving(demo / "web01.qcow2", WIDE) as app:
        assert len(app.session.layers) == 2
        await app.pilot.press("f", "down", "down", "enter")
        await app.settle()
        assert len(app.session.layers) == 3
    async with driving(demo / "web02.qcow2", WIDE) as app:
        assert app.session.gate.policy is Policy.FOLDERS
        assert all(layer.format == "qcow2" for layer in app.session.layers)
        assert "debian-12-base.qcow2" in app.text()


async def test_dependents_are_searched_when_asked(demo: Path) -> None:
    async with driving(demo / "web-template.qcow2", WIDE) as app:
        assert app.session.dependents is None
        await app.press("5", "s")
        assert app.session.dependents is not None
        names = {Path(one.path).name for one in app.session.dependents.found}
        assert names == {"web01.qcow2", "web02.qcow2"}
        assert "web02.qcow2" in app.text()


async def test_copying_names_every_address(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await go_to(app, "0x70000")
        await app.press("y")
        assert app.app.clipboard.startswith("host 0x70000 · guest 0x")
        assert "Copied" in app.text()


async def test_the_legend_filters_and_escape_shows_everything(demo: Path) -> None:
    async with driving(demo / "mail-leaks.qcow2", NARROW) as app:
        pane = app.dashboard.pane("map")
        assert isinstance(pane, AllocationPane)
        assert pane.map is not None
        await app.press("L", "enter")
        assert pane.map.painter.shown == {ClusterClass.LEAKED}  # type: ignore[attr-defined]
        await app.press("escape")
        assert len(pane.map.painter.shown) == len(ClusterClass)  # type: ignore[attr-defined]
        await app.press("escape")
        assert pane.map.has_focus


async def test_zooming_keeps_the_address(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", NARROW) as app:
        await go_to(app, "0xf00000")
        place = app.session.selection.host_cluster
        await app.press("plus", "plus", "plus", "H", "minus", "H", "0", "equals_sign")
        pane = app.dashboard.pane("map")
        assert isinstance(pane, AllocationPane)
        assert pane.map is not None
        assert pane.map.cursor == place
        assert "1 cell = 8 KiB = 1 cluster" in app.text()
