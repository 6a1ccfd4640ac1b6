"""One thing a user can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ..views.session import Session

#: Says why a command cannot be used now, or None when it can.  The session is None in the picker.
Condition = Callable[[Session | None], str | None]


class Scope(Enum):
    """Where a command can be used; the value heads its table in help and documentation."""

    APP = "Everywhere"
    DASHBOARD = "With an image open"
    PANE = "In every pane"
    MAP = "In the maps"
    SNAPSHOTS = "In the snapshot tree"
    CHAIN = "In the backing chain"
    INSPECTOR = "In the inspector"
    PICKER = "In the list of images"


def always(session: Session | None) -> str | None:
    """The condition of what can always be done."""
    return None


@dataclass(frozen=True, slots=True)
class Command:
    """``id`` names it in a keymap file.  ``keys`` are Textual's names of the default keys.

    ``title`` follows the area in the palette ("map: zoom in"), ``doc`` is a full sentence.
    ``label`` is what the footer says; empty keeps it out of the footer.  ``action`` is the method
    (``action_...``) of the screen or pane that carries it out.
    """

    id: str
    area: str
    title: str
    doc: str
    keys: tuple[str, ...]
    scope: Scope
    action: str
    label: str = ""
    condition: Condition = always
    in_palette: bool = True

    @property
    def palette_title(self) -> str:
        return f"{self.area}: {self.title}"

    def why_not(self, session: Session | None) -> str | None:
        """Why it cannot be used now: a short sentence, or None."""
        return self.condition(session)
