"""Writes ``docs/keys.md``: ``python -m qcowtui.commands.docs FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from .command import Scope
from .keys import shown_key
from .registry import commands_in

_HEAD = """# Keys and commands

*Written by `make docs` from the registry in `qcowtui/commands/`; a test keeps it true.*

Every command is in the palette (`ctrl+p`) by name. A command that cannot be used now stays
visible, dimmed, and says why. `?` explains the focused pane.

To change keys, name them in `$XDG_CONFIG_HOME/qcowtui/keymap.toml` (usually
`~/.config/qcowtui/keymap.toml`):

```toml
[keys]
"go.next_problem" = ["n", "ctrl+n"]
"app.quit" = "ctrl+q"
"map.curve" = []        # no key, only in the palette
```

The mouse works everywhere and is needed nowhere: a click selects, a second one looks closer, the
wheel scrolls, ctrl and the wheel zoom. To select text with the mouse as in any terminal, hold
shift; `y` copies the addresses of the selected cluster.
"""

_ORDER = (
    Scope.DASHBOARD,
    Scope.PANE,
    Scope.MAP,
    Scope.SNAPSHOTS,
    Scope.CHAIN,
    Scope.INSPECTOR,
    Scope.PICKER,
    Scope.APP,
)


def keys_page() -> str:
    """The text of ``keys.md``."""
    parts = [_HEAD]
    for scope in _ORDER:
        commands = commands_in(scope)
        if not commands:
            continue
        parts.append(
            f"\n## {scope.value}\n\n| keys | command | id | what it does |\n|---|---|---|---|"
        )
        for command in commands:
            keys = " ".join(f"`{_cell(shown_key(key))}`" for key in command.keys)
            parts.append(f"| {keys} | {command.palette_title} | `{command.id}` | {command.doc} |")
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    (folder,) = arguments
    Path(folder, "keys.md").write_text(keys_page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
