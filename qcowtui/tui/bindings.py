"""Key bindings and their state, from the registry of commands."""

from __future__ import annotations

import re

from textual.binding import Binding, BindingType

from ..commands.command import Command, Scope
from ..commands.keymap import Keymap, default_keymap
from ..commands.keys import shown_key
from ..commands.registry import COMMANDS, command, commands_in
from ..views.session import Session

_BY_ACTION: dict[str, list[Command]] = {}
for _command in COMMANDS:
    _BY_ACTION.setdefault(_command.action, []).append(_command)


def bindings_for(*scopes: Scope) -> list[BindingType]:
    """The bindings of all commands of some scopes; a keymap can move each by its id."""
    return [
        Binding(
            ",".join(command.keys),
            command.action,
            command.label or command.title,
            show=bool(command.label),
            tooltip=command.doc,
            id=command.id,
            priority=command.id in _FIRST,
        )
        for command in commands_in(*scopes)
        if command.keys
    ]


#: A name no key has: Textual takes an empty string for "as it was".
_NO_KEY = "none"
#: What Textual itself binds on screens, and what must win over it.
_FIRST = frozenset({"view.next_pane", "view.previous_pane"})


def textual_keymap(keymap: Keymap) -> dict[str, str]:
    """What a keymap changes, as ``App.set_keymap`` wants it: keys by binding id."""
    default = default_keymap().keys
    return {
        id: ",".join(keys) or _NO_KEY for id, keys in keymap.keys.items() if keys != default[id]
    }


def why_not(action: str, parameters: tuple[object, ...], session: Session | None) -> str | None:
    """Why the command behind an action cannot be used now; None for any other action."""
    name = action if not parameters else f"{action}({', '.join(map(repr, parameters))})"
    for found in _BY_ACTION.get(name, ()):
        reason = found.why_not(session)
        if reason is not None:
            return reason
    return None


def key_of(keymap: Keymap, command: Command) -> str:
    """The first key of a command for people, empty where it has none."""
    keys = keymap.keys_of(command.id)
    return shown_key(keys[0]) if keys else ""


def with_keys(text: str, keymap: Keymap) -> str:
    """``text`` with each ``{id}`` of a command replaced by its key, or by its name in the palette.

    At the start of a sentence a key that is a word begins with a capital.
    """

    def said(found: re.Match[str]) -> str:
        named = command(found["id"])
        key = key_of(keymap, named) or f"“{named.palette_title}” in the palette"
        starts = found.start() == 0 or text[: found.start()].rstrip().endswith((".", "\n"))
        return key[0].upper() + key[1:] if starts and len(key) > 1 else key

    return re.sub(r"\{(?P<id>[a-z_]+\.[a-z_]+)\}", said, text)
