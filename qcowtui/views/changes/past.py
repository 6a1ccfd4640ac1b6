"""The changes of an image that can be taken back, as rows."""

from __future__ import annotations

from typing import NamedTuple

from qcow.edit.editor import refcount_digest
from qcow.edit.history import History, when
from qcow.image.image import Image
from qcow.text import safe

from .plan_words import LONGEST_COMMAND


class PastChange(NamedTuple):
    """One change.  All texts are safe to show."""

    time: str
    command: str
    undone: bool
    next: str  # "undo" or "redo" for the change that key is about, else empty


class GivenUp(NamedTuple):
    """Changes that can no longer be taken back, and why."""

    time: str
    reason: str
    commands: tuple[str, ...]


class Past(NamedTuple):
    """Oldest first.  ``no_undo`` and ``no_redo``: why not, a sentence; None when it is possible."""

    changes: tuple[PastChange, ...]
    given_up: tuple[GivenUp, ...]
    no_undo: str | None
    no_redo: str | None

    @property
    def undoable(self) -> int:
        """How many changes undo can take back, one after the other."""
        return 0 if self.no_undo else sum(not change.undone for change in self.changes)


def look_back(path: str, image: Image) -> Past:
    """What the undo history says of the image as it is in its file.  Raises StorageError."""

    def generation() -> bytes:
        return refcount_digest(image)

    history = History.load(path, image.storage, generation)
    no_undo = history.why_not_undo(image.storage, generation)
    no_redo = history.why_not_redo(image.storage, generation)
    changes = []
    for place, entry in enumerate(history.entries):
        following = ""
        if place == history.position - 1 and no_undo is None:
            following = "undo"
        elif place == history.position and no_redo is None:
            following = "redo"
        undone = place >= history.position
        shown = safe(entry.command, LONGEST_COMMAND)
        changes.append(PastChange(when(entry.time_ns), shown, undone, following))
    notes = tuple(
        GivenUp(
            when(note.time_ns),
            safe(note.reason, LONGEST_COMMAND),
            tuple(safe(command, LONGEST_COMMAND) for command in note.commands),
        )
        for note in history.notes
    )
    return Past(tuple(changes), notes, no_undo, no_redo)
