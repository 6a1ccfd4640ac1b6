"""The panes of the dashboard: their keys, their places, and where their classes live.

Classes are imported when a pane is first mounted; those that are not on the first screen
(fragmentation, inspector) cost nothing at the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from ...views.session import Session
from .base import Pane


@dataclass(frozen=True, slots=True)
class PaneEntry:
    """``id`` is the widget's id and names it in actions, ``number`` is the key that focuses it.

    ``column`` is where it stands on a wide screen; a ``view`` has no place there and is shown alone
    when it is asked for.
    """

    id: str
    number: int
    module: str
    name: str
    tab: str
    column: Literal["left", "right", "view"]

    def make(self, session: Session) -> Pane:
        """A new pane of this kind."""
        found = getattr(import_module(f".{self.module}", __package__), self.name)
        pane: Pane = found(session, self.number, id=self.id)
        return pane


PANES: tuple[PaneEntry, ...] = (
    PaneEntry("header", 1, "header", "HeaderPane", "Header", "left"),
    PaneEntry("map", 2, "allocation", "AllocationPane", "Map", "right"),
    PaneEntry("refcounts", 3, "refcounts", "RefcountPane", "Counts", "right"),
    PaneEntry("snapshots", 4, "snapshots", "SnapshotsPane", "Snaps", "left"),
    PaneEntry("chain", 5, "chain", "ChainPane", "Chain", "right"),
    PaneEntry("findings", 6, "findings", "FindingsPane", "Findings", "left"),
    PaneEntry("fragmentation", 7, "fragmentation", "FragmentationPane", "Frag", "view"),
    PaneEntry("inspector", 8, "inspector", "InspectorPane", "Inspect", "view"),
    PaneEntry("differences", 9, "differences", "DifferencesPane", "Diff", "view"),
)


_BY_ID = {one.id: one for one in PANES}


def entry(id: str) -> PaneEntry:
    """The pane with this id.  KeyError when there is none."""
    return _BY_ID[id]
