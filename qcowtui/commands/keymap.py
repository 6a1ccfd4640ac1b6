"""The user's own keys: ``keymap.toml`` in the configuration folder.

[keys]
"map.zoom_in" = "plus"
"go.next_problem" = ["n", "ctrl+n"]
"app.quit" = []          # no key: only in the palette
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qcow.text import safe

from .command import Scope
from .registry import COMMANDS

#: Scopes that are in force at the same time: a key can mean one thing only among them.
_TOGETHER = {
    scope: {Scope.APP, Scope.PICKER} if scope is Scope.PICKER else set(Scope) - {Scope.PICKER}
    for scope in Scope
}


@dataclass(frozen=True)
class Keymap:
    """Keys by command id, for all commands; ``problems`` are sentences, safe to show."""

    keys: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...] = ()

    def keys_of(self, id: str) -> tuple[str, ...]:
        return self.keys.get(id, ())


def keymap_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the file is looked for: ``$XDG_CONFIG_HOME/qcowtui/keymap.toml``."""
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(
        environment.get("HOME", os.path.expanduser("~")), ".config"
    )
    return Path(home) / "qcowtui" / "keymap.toml"


def default_keymap() -> Keymap:
    return Keymap({command.id: command.keys for command in COMMANDS})


def load_keymap(path: Path) -> Keymap:
    """The default keys with those of the file; what cannot be used is a problem, not an error."""
    try:
        chosen = tomllib.loads(path.read_text("utf-8")).get("keys", {})
    except FileNotFoundError:
        return default_keymap()
    except (OSError, ValueError) as error:
        text = f"{safe(str(path))} cannot be used: {safe(str(error), 120)}."
        return Keymap(default_keymap().keys, (text,))
    if not isinstance(chosen, dict):
        return Keymap(default_keymap().keys, (f"{safe(str(path))}: [keys] must be a table.",))
    return _merged(chosen, safe(str(path)))


def _merged(chosen: Mapping[str, object], name: str) -> Keymap:
    keys = dict(default_keymap().keys)
    problems = []
    for id, value in chosen.items():
        given = [value] if isinstance(value, str) else value
        if id not in keys:
            problems.append(f'{name}: there is no command "{safe(id, 40)}".')
        elif not isinstance(given, list) or not all(isinstance(key, str) for key in given):
            problems.append(f'{name}: the keys of "{safe(id, 40)}" must be a list of names.')
        else:
            keys[id] = tuple(key for key in given if key)
    return Keymap(keys, (*problems, *_clashes(keys, name)))


def _clashes(keys: Mapping[str, tuple[str, ...]], name: str) -> list[str]:
    found = []
    for number, one in enumerate(COMMANDS):
        for other in COMMANDS[number + 1 :]:
            if other.scope not in _TOGETHER[one.scope] or _narrower(one.scope, other.scope):
                continue
            for key in sorted(set(keys[one.id]) & set(keys[other.id])):
                found.append(f'{name}: "{safe(key)}" means both {one.id} and {other.id}.')
    return found


def _narrower(one: Scope, other: Scope) -> bool:
    """Two kinds of pane that are never focused together."""
    panes = {Scope.MAP, Scope.SNAPSHOTS, Scope.CHAIN, Scope.INSPECTOR}
    return one in panes and other in panes and one is not other
