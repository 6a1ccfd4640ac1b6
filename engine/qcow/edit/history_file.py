"""The file of one image's undo history: what is in it, read without trust and written durably."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from enum import Enum
from itertools import pairwise
from typing import Any

from ..errors import EditRefused, FormatError, StorageError
from ..record import record, replace
from ..storage.local import reason
from ..text import safe
from .folder import Folder, LocalFolder, put, state_folder
from .history_entry import (
    Entry,
    Mark,
    Note,
    Reader,
    entry_from_json,
    entry_to_json,
    mark_from_json,
    mark_to_json,
    note_from_json,
    note_to_json,
)

#: Entries kept for one image; an older one can no longer be undone.
MAX_ENTRIES = 20
#: Notes about entries that were given up.
MAX_NOTES = 20
#: The longest file that is read or written.
MAX_BYTES = 64 << 20

_FORMAT = "qcowtui undo history"
_VERSION = 1


class Direction(Enum):
    """Where a switch leads that was announced."""

    DO = "do"  # a new entry
    UNDO = "undo"  # the last entry that is in force is taken back
    REDO = "redo"  # the first entry that was taken back comes into force again
    WRITE = "write"  # no switch yet: free clusters are being written


@record
class Subject:
    """The image a history belongs to."""

    path: str  # absolute, links resolved
    file: tuple[int, int]  # (st_dev, st_ino)
    is_device: bool = False

    @property
    def key(self) -> str:
        """The name of its files in the state folder: 64 hexadecimal digits.

        From the path alone, so that a file put in the place of the image is noticed.
        """
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()


def subject_of(path: str) -> Subject:
    """The image that ``path`` leads to; nothing is opened.  Raises StorageError."""
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
    except (OSError, ValueError) as error:
        raise StorageError(f"Could not find '{safe(path)}': {reason(error)}") from error
    return Subject(real, (found.st_dev, found.st_ino), stat.S_ISBLK(found.st_mode))


@record
class Record:
    """Everything the file says.

    ``entries[:position]`` are in force, oldest first; the others were taken back, the one to redo
    first.  ``step`` is the switch that was announced and not yet reported, with its entry when it
    is a new one.  ``left`` is how the image was left, None before the first change.
    """

    inode: int
    entries: tuple[Entry, ...] = ()
    position: int = 0
    left: Mark | None = None
    step: Direction | None = None
    new: Entry | None = None
    notes: tuple[Note, ...] = ()

    @property
    def moving(self) -> Entry | None:
        """The entry that the announced switch is about."""
        if self.step is Direction.DO:
            return self.new
        if self.step is Direction.UNDO:
            return self.entries[self.position - 1]
        if self.step is Direction.REDO:
            return self.entries[self.position]
        return None

    def stepped(self, *, joined: bool = False) -> Record:
        """After the announced switch; the entries taken back are gone after a new one.

        ``joined``: a new entry and the one before it become one, where they can.
        """
        if self.step is Direction.UNDO:
            return replace(self, position=self.position - 1, step=None)
        if self.step is Direction.REDO:
            return replace(self, position=self.position + 1, step=None)
        if self.step is Direction.DO and self.new is not None:
            older, new = self.entries[: self.position], self.new
            both = older[-1].followed_by(new) if joined and older else None
            kept = ((*older, new) if both is None else (*older[:-1], both))[-MAX_ENTRIES:]
            return replace(self, entries=kept, position=len(kept), step=None, new=None)
        return replace(self, step=None)

    def not_stepped(self) -> Record:
        """Without the announced switch."""
        return replace(self, step=None, new=None)


def undo_folder() -> Folder:
    """Where the histories are, the user's own folder; it need not be there."""
    return LocalFolder(os.path.join(state_folder(), "undo"))


def private_undo_folder() -> Folder:
    """The same, made if it is not there.  Raises EditRefused or StorageError."""
    return LocalFolder.private(os.path.join(state_folder(), "undo"))


def file_name(subject: Subject) -> str:
    return f"{subject.key}.json"


def write_record(folder: Folder, subject: Subject, record: Record) -> None:
    """Durable on return.  Raises StorageError."""
    put(folder, file_name(subject), _to_json(subject, record))


def read_record(folder: Folder, subject: Subject) -> tuple[Record, str | None]:
    """What the file says, or an empty record and a sentence why the file cannot be used.

    No file is no reason.  Never raises.
    """
    empty = Record(subject.file[1])
    try:
        data = folder.read(file_name(subject), MAX_BYTES)
        if data is None:
            return empty, None
        return _from_json(subject, data), None
    except (EditRefused, StorageError) as error:
        return empty, f"The undo history cannot be used: {error}"
    except FormatError as error:
        shown = folder.shown(file_name(subject))
        return empty, f"The undo history '{shown}' is damaged and is not used ({error})."


def _to_json(subject: Subject, record: Record) -> bytes:
    value: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "path": os.fsencode(subject.path).hex(),
        "inode": record.inode,
        "entries": [entry_to_json(entry) for entry in record.entries],
        "position": record.position,
        "left": None if record.left is None else mark_to_json(record.left),
        "step": None if record.step is None else record.step.value,
        "new": None if record.new is None else entry_to_json(record.new),
        "notes": [note_to_json(note) for note in record.notes],
    }
    try:
        body = json.dumps(value, indent=1).encode("ascii")
    except RecursionError as error:
        raise StorageError("The undo history cannot be written: it is nested too deep.") from error
    if len(body) > MAX_BYTES:
        raise StorageError(f"The undo history would take {len(body)} bytes, which is too much.")
    return body


def _from_json(subject: Subject, data: bytes) -> Record:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError("it is no JSON") from error
    found = Reader(value)
    if found.text("format") != _FORMAT or found.number("version") != _VERSION:
        raise FormatError("it is of another kind or of a newer version")
    if found.text("path") != os.fsencode(subject.path).hex():
        raise FormatError("it belongs to another image")
    entries = tuple(entry_from_json(each) for each in found.items("entries"))
    position = found.number("position")
    left = mark_from_json(found.any("left")) if found.has("left") else None
    step = _direction(found.text("step")) if found.has("step") else None
    new = entry_from_json(found.any("new")) if found.has("new") else None
    notes = tuple(note_from_json(each) for each in found.items("notes"))
    if len(entries) > MAX_ENTRIES or len(notes) > MAX_NOTES:
        raise FormatError("it is too long")
    first, last = step is Direction.UNDO, len(entries) - (step is Direction.REDO)
    if not first <= position <= last:
        raise FormatError("its position lies outside of it")
    if (new is not None) != (step is Direction.DO) or (entries and left is None):
        raise FormatError("it does not fit together")
    _must_join(entries, position, new)
    return Record(found.number("inode"), entries, position, left, step, new, notes)


def _direction(value: str) -> Direction:
    try:
        return Direction(value)
    except ValueError as error:
        raise FormatError("it was left in an unknown step") from error


def _must_join(entries: tuple[Entry, ...], position: int, new: Entry | None) -> None:
    """Each entry starts from the root that the one before it led to."""
    lines = [entries] if new is None else [entries, (*entries[:position], new)]
    for line in lines:
        if any(before.new_sector != after.old_sector for before, after in pairwise(line)):
            raise FormatError("its entries do not follow from each other")
