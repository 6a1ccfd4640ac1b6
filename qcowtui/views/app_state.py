"""What the app remembers between runs: recent images, folders the user trusts, the theme.

Kept in ``$XDG_STATE_HOME/qcowtui/state.json``.  Nothing here is needed: without it, or when it
cannot be written, the app works and remembers nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Recent images kept.
MAX_RECENT = 30


def state_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where it is kept."""
    home = environment.get("XDG_STATE_HOME") or os.path.join(
        environment.get("HOME", os.path.expanduser("~")), ".local", "state"
    )
    return Path(home) / "qcowtui" / "state.json"


@dataclass(slots=True)
class AppState:
    """Paths are absolute, raw text; most recent first."""

    path: Path
    recent: list[str] = field(default_factory=list)
    trusted: list[str] = field(default_factory=list)
    theme: str | None = None

    def opened(self, image: str) -> None:
        """Note that an image was opened."""
        absolute = os.path.abspath(image)
        self.recent = [absolute, *(one for one in self.recent if one != absolute)][:MAX_RECENT]
        self.save()

    def trust(self, folder: str) -> None:
        """Note that references may be followed inside a folder."""
        absolute = os.path.abspath(folder)
        if absolute not in self.trusted:
            self.trusted.append(absolute)
            self.save()

    def trusts(self, image: str) -> bool:
        """Whether an image lies in a folder whose files may be followed."""
        folder = os.path.dirname(os.path.abspath(image))
        return any(os.path.commonpath((one, folder)) == one for one in self.trusted)

    def save(self) -> None:
        """Write it; what the system refuses is let go."""
        content = {"recent": self.recent, "trusted": self.trusted, "theme": self.theme}
        with contextlib.suppress(OSError, ValueError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=".state-")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(content, file, indent=1)
                os.replace(name, self.path)
            except BaseException:
                os.unlink(name)
                raise


def load_state(path: Path) -> AppState:
    """What is kept at ``path``; nothing where it cannot be read."""
    try:
        content: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        content = {}
    if not isinstance(content, dict):
        content = {}
    theme = content.get("theme")
    return AppState(
        path,
        _paths(content.get("recent")),
        _paths(content.get("trusted")),
        theme if isinstance(theme, str) else None,
    )


def _paths(value: object) -> list[str]:
    if not isinstance(value, list):
        return []
    return [one for one in value if isinstance(one, str) and os.path.isabs(one)]
