"""What can be done can be found: footer, palette, help, and reasons for what cannot be done."""

from __future__ import annotations

from pathlib import Path

from textual.command import DiscoveryHit, Hit

from qcowtui.commands.keymap import default_keymap
from qcowtui.commands.registry import COMMANDS
from qcowtui.tui.bindings import with_keys
from qcowtui.tui.panes.catalogue import PANES
from qcowtui.tui.providers import CommandProvider
from qcowtui.tui.screens.help import HelpScreen
from qcowtui.tui.widgets.key_bar import MAX_KEYS, KeyBar

from .driving import NARROW, WIDE, Driven, driving


def footer(app: Driven) -> str:
    return app.text().splitlines()[-1]


async def test_the_footer_shows_the_keys_of_the_focused_pane(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        bar = app.dashboard.query_one(KeyBar)
        assert "+ zoom in" in footer(app)
        assert footer(app).rstrip().endswith("? help")
        await app.press("4")
        assert "+ zoom in" not in footer(app)
        assert "space mark" in footer(app)
        for key in "12345678":
            await app.press(key)
            assert len(bar.hints) <= MAX_KEYS
            assert all(hint.key and hint.doc for hint in bar.hints)


async def test_a_key_that_cannot_be_used_says_why(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", NARROW) as app:
        await app.press("n")
        assert "No damaged or leaked cluster was found." in app.text()
        await app.press("left_square_bracket")
        assert "There is no earlier place to go back to." in app.text()
    (raw := demo / "plain.img").write_bytes(bytes(1 << 20))
    async with driving(raw, NARROW) as app:
        await app.press("d")
        assert "A raw image has no tables to look at." in app.text()
    raw.unlink()


async def test_clicking_the_footer_is_pressing_the_key(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        line = footer(app)
        await app.pilot.click(KeyBar, offset=(line.index("? help") + 2, 0))
        await app.pilot.pause()
        assert isinstance(app.app.screen, HelpScreen)


async def test_the_palette_has_every_command_with_its_reason(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        provider = CommandProvider(app.dashboard)
        hits = [hit async for hit in provider.discover()]
        titles = {hit.text for hit in hits if isinstance(hit, DiscoveryHit)}
        wanted = {
            one.palette_title
            for one in COMMANDS
            if one.in_palette and one.area not in ("picker", "inspector")
        }
        assert wanted <= titles
        found = [hit async for hit in provider.search("next problem")]
        best = max((hit for hit in found if isinstance(hit, Hit)), key=lambda hit: hit.score)
        assert best.text == "go: next problem"
        assert best.help == "Not now: No damaged or leaked cluster was found."


async def test_the_palette_runs_commands_of_other_panes(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await app.press("1")
        await app.pilot.press("ctrl+p")
        await app.pilot.press(*"map: zoom to single")
        await app.until(lambda: "zoom to single clusters" in app.text())
        await app.pilot.press("enter")
        await app.until(lambda: "1 cell = 8 KiB = 1 cluster" in app.text())


async def test_help_is_about_the_focused_pane(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await app.press("3", "question_mark")
        text = app.text()
        assert isinstance(app.app.screen, HelpScreen)
        assert "Refcounts" in text
        assert "A refcount says how many tables refer to a cluster" in text.replace("│", "")
        assert "In the maps" in text
        await app.pilot.press("escape", "5", "question_mark")
        await app.pilot.pause()
        assert "In the backing chain" in app.text()
        await app.pilot.press("q")
        await app.pilot.pause()
        assert app.app.screen is app.dashboard


async def test_explanations_name_the_users_own_keys(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "config" / "qcowtui").mkdir(parents=True)
    (tmp_path / "config" / "qcowtui" / "keymap.toml").write_text(
        '[keys]\n"view.order" = "ctrl+o"\n"chain.follow" = []\n'
    )
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await app.press("2")
        ((_, said),) = app.dashboard.help_texts()
        assert "In guest order (ctrl+o) you see" in said
        await app.press("5")
        ((_, said),) = app.dashboard.help_texts()
        assert "before you allow it (“chain: " in said
        assert "” in the palette). Rows" in said
        assert "Enter on a layer below draws" in said


def test_explanations_name_commands_that_exist() -> None:
    from importlib import import_module

    for one in PANES:
        pane = getattr(import_module(f"qcowtui.tui.panes.{one.module}"), one.name)
        assert "{" not in with_keys(pane.HELP, default_keymap()), one.id


async def test_own_keys_work_and_are_shown(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "config" / "qcowtui").mkdir(parents=True)
    (tmp_path / "config" / "qcowtui" / "keymap.toml").write_text(
        '[keys]\n"view.snapshots" = "X"\n"go.address" = "ctrl+g"\n"map.curve" = []\n'
    )
    async with driving(demo / "web01.qcow2", WIDE) as app:
        assert "ctrl+g go to" in footer(app)
        await app.press("X")
        assert app.focused == "snapshots"
        await app.press("2", "4")
        assert app.focused == "map"
        assert "Hilbert" not in app.text()
        await app.press("H")
        assert "Hilbert" not in app.text()


async def test_a_keymap_with_mistakes_is_explained_and_the_rest_works(
    demo: Path, tmp_path: Path
) -> None:
    (tmp_path / "config" / "qcowtui").mkdir(parents=True)
    (tmp_path / "config" / "qcowtui" / "keymap.toml").write_text('[keys]\n"no.such" = "x"\n')
    async with driving(demo / "web01.qcow2", WIDE) as app:
        assert 'there is no command "no.such".' in app.text()
        await app.press("escape")
        await app.press("4")
        assert app.focused == "snapshots"
