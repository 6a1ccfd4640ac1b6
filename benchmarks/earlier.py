"""qemu-img's times that take minutes: measured once on this machine, kept beside the images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from .processes import Cost


@dataclass(frozen=True)
class Kept:
    """A cost and the day it was measured."""

    cost: Cost
    when: str


class Earlier:
    """A JSON file: image file name and verb -> cost."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "qemu-img-times.json"
        self._known: dict[str, Any] = {}
        if self._path.exists():
            self._known = json.loads(self._path.read_text())

    def get(self, key: str) -> Kept | None:
        if key not in self._known:
            return None
        return Kept(Cost(**self._known[key]["cost"]), self._known[key]["when"])

    def measured(self, key: str, measure: Callable[[], Cost], *, fresh: bool) -> Kept:
        """The kept cost, or with ``fresh`` or without one: measure now and keep that."""
        kept = None if fresh else self.get(key)
        if kept is None:
            kept = Kept(measure(), date.today().isoformat())
            self._known[key] = asdict(kept)
            self._path.write_text(json.dumps(self._known, indent=2) + "\n")
        return kept
