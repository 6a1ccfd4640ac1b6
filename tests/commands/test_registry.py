"""One declaration feeds everything: bindings, palette, help, documentation."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from qcowtui.commands.command import Scope
from qcowtui.commands.docs import keys_page, main
from qcowtui.commands.edit_commands import EDIT, EDIT_CHAIN, EDIT_MAP, EDIT_SNAPSHOTS
from qcowtui.commands.keymap import default_keymap, load_keymap
from qcowtui.commands.keys import shown_key, shown_keys
from qcowtui.commands.registry import COMMANDS, command, commands_in
from qcowtui.views.changes.obstacles import LOCKED
from qcowtui.views.session import open_session
from tests.support.images import small_builder

#: Keys that terminals and multiplexers take for something else.
_FORBIDDEN = {
    *(f"ctrl+{letter}" for letter in "jmihsabo"),
    *(f"ctrl+shift+{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
}
#: Scopes that are in force while an image is open, whichever pane is focused.
_ALWAYS = (Scope.PANE, Scope.DASHBOARD, Scope.APP)


def test_ids_are_unique_and_say_their_area() -> None:
    ids = [one.id for one in COMMANDS]
    assert len(ids) == len(set(ids))
    assert all(id.count(".") == 1 for id in ids)
    assert all(one.doc.endswith(".") and one.title for one in COMMANDS)


def test_no_key_that_terminals_take() -> None:
    assert not {key for one in COMMANDS for key in one.keys} & _FORBIDDEN


@pytest.mark.parametrize(
    "scopes",
    [
        (*own, *_ALWAYS)
        for own in (
            (),
            (Scope.MAP,),
            (Scope.SNAPSHOTS,),
            (Scope.CHAIN,),
            (Scope.INSPECTOR,),
        )
    ]
    + [(Scope.PICKER, Scope.APP)],
    ids=lambda scopes: scopes[0].name,
)
def test_a_key_means_one_thing_at_a_time(scopes: tuple[Scope, ...]) -> None:
    owners: dict[str, list[str]] = {}
    for one in commands_in(*scopes):
        for key in one.keys:
            owners.setdefault(key, []).append(one.id)
    assert {key: ids for key, ids in owners.items() if len(ids) > 1} == {}


def test_every_command_has_the_method_it_calls() -> None:
    from qcowtui.tui.app import QcowApp
    from qcowtui.tui.panes.base import Pane
    from qcowtui.tui.panes.catalogue import PANES
    from qcowtui.tui.screens.dashboard import Dashboard
    from qcowtui.tui.screens.picker import PickerScreen

    panes = [
        getattr(importlib.import_module(f"qcowtui.tui.panes.{one.module}"), one.name)
        for one in PANES
    ]
    for one in COMMANDS:
        method = "action_" + one.action.partition("(")[0]
        homes = {
            Scope.APP: [QcowApp],
            Scope.DASHBOARD: [Dashboard],
            Scope.PICKER: [PickerScreen],
            Scope.PANE: [Pane],
        }.get(one.scope) or [pane for pane in panes if pane.SCOPE is one.scope]
        assert homes, one.id
        assert all(hasattr(home, method) for home in homes), one.id


def test_the_documentation_is_the_registry(tmp_path: Path) -> None:
    written = Path(__file__).parents[2] / "docs" / "keys.md"
    assert written.read_text("utf-8") == keys_page(), "run `make docs`"
    assert main([str(tmp_path)]) == 0
    assert (tmp_path / "keys.md").read_text("utf-8") == keys_page()
    for one in COMMANDS:
        assert f"`{one.id}`" in keys_page()


def test_what_changes_an_image_is_dead_without_the_unlock_key(tmp_path: Path) -> None:
    image = small_builder().write(tmp_path / "small.qcow2")
    looking = {"edit.menu", "edit.history", "edit.unlock"}
    changing = [
        one for one in (*EDIT, *EDIT_SNAPSHOTS, *EDIT_CHAIN, *EDIT_MAP) if one.id not in looking
    ]
    session = open_session(str(image))
    try:
        reasons = {one.id: one.why_not(session) for one in changing}
        assert all(reasons.values()), reasons
        assert reasons["snapshot.take"] == LOCKED
        assert reasons["edit.apply"] == "No change is planned."
        session.unlocked = True
        assert command("snapshot.take").why_not(session) is None
        assert command("edit.apply").why_not(session) == "No change is planned."
    finally:
        session.close()


def test_keys_for_people() -> None:
    assert shown_key("question_mark") == "?"
    assert shown_key("ctrl+p") == "ctrl+p"
    assert shown_key("shift+tab") == "shift+tab"
    assert shown_key("plus") == "+"
    assert shown_keys(("f5", "r")) == "F5 r"


def test_keymap_replaces_keys(tmp_path: Path) -> None:
    path = tmp_path / "keymap.toml"
    path.write_text(
        '[keys]\n"go.next_problem" = ["X", "ctrl+n"]\n"map.curve" = []\n"app.quit" = "ctrl+q"\n'
    )
    found = load_keymap(path)
    assert found.problems == ()
    assert found.keys_of("go.next_problem") == ("X", "ctrl+n")
    assert found.keys_of("map.curve") == ()
    assert found.keys_of("app.quit") == ("ctrl+q",)
    assert found.keys_of("go.address") == command("go.address").keys


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not toml", "cannot be used"),
        ("keys = 3", "must be a table"),
        ('[keys]\n"no.such" = "x"', 'no command "no.such"'),
        ('[keys]\n"app.quit" = 7', "list of names"),
        ('[keys]\n"app.quit" = "g"', "means both"),
    ],
)
def test_a_keymap_that_is_wrong_is_explained(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "keymap.toml"
    path.write_text(text)
    found = load_keymap(path)
    assert said in " ".join(found.problems)
    assert found.keys_of("go.address") == ("g",)


def test_without_a_file_the_keys_are_the_default_ones(tmp_path: Path) -> None:
    assert load_keymap(tmp_path / "none.toml") == default_keymap()
    assert default_keymap().problems == ()
