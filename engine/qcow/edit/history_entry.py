"""What the undo history keeps of a change, and its spelling in JSON.

A file of the history may be damaged or forged, so every value is checked while it is read; what
does not fit raises :class:`~qcow.errors.FormatError`.  Bytes are base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import FormatError
from ..record import record, replace
from ..storage.base import Storage
from .patch import SECTOR, Patch

_LONGEST_TEXT = 1 << 16
_LARGEST_NUMBER = (1 << 64) - 1


@record
class Entry:
    """One change that can be undone.  Texts are raw: they go through ``safe()`` to be shown."""

    txid: str  # hexadecimal
    action: Mapping[str, Any]  # the action's own description (JSON values)
    command: str  # the command line that does the same
    time_ns: int  # since the epoch
    patches: tuple[Patch, ...]  # the switch; reversed they are the undo
    old_sector: bytes  # sector 0 before and after: the roots whose clusters are kept
    new_sector: bytes
    old_generation: bytes  # what the caller takes as a digest of the used clusters, see Mark
    new_generation: bytes
    #: Bytes from the start of the file that the root before may need, whatever its counts say,
    #: because it was damaged; 0 for a sound one, whose counts tell.
    held_below: int = 0

    def followed_by(self, other: Entry) -> Entry | None:
        """Both as one entry, with the texts of this one; None when they patch different bytes."""
        places = [(patch.offset, patch.end) for patch in self.patches]
        if places != [(patch.offset, patch.end) for patch in other.patches]:
            return None
        pairs = zip(self.patches, other.patches, strict=True)
        return replace(
            self,
            txid=other.txid,
            time_ns=other.time_ns,
            patches=tuple(Patch(a.offset, a.before, b.after) for a, b in pairs),
            new_sector=other.new_sector,
            new_generation=other.new_generation,
            held_below=max(self.held_below, other.held_below),
        )


@record
class Mark:
    """How the image was left, to find out whether anybody else wrote to it."""

    size: int
    mtime_ns: int
    sector: bytes  # SHA-256 of sector 0
    #: A digest over the image's refcounts, or another thing that changes when clusters are taken.
    generation: bytes


@record
class Note:
    """That entries were given up, for the list of the history."""

    time_ns: int
    reason: str  # a sentence
    commands: tuple[str, ...]  # of the entries given up, oldest first


def digest_of_sector(storage: Storage) -> bytes:
    """SHA-256 of sector 0."""
    return hashlib.sha256(storage.read(0, SECTOR)).digest()


def mark_of(storage: Storage, generation: bytes) -> Mark:
    """How the image is now."""
    return Mark(*storage.modified(), digest_of_sector(storage), generation)


def entry_to_json(entry: Entry) -> dict[str, Any]:
    return {
        "txid": entry.txid,
        "action": dict(entry.action),
        "command": entry.command,
        "time-ns": entry.time_ns,
        "patches": [
            {"offset": patch.offset, "before": text(patch.before), "after": text(patch.after)}
            for patch in entry.patches
        ],
        "old-sector": text(entry.old_sector),
        "new-sector": text(entry.new_sector),
        "old-generation": text(entry.old_generation),
        "new-generation": text(entry.new_generation),
        "held-below": entry.held_below,
    }


def entry_from_json(value: object) -> Entry:
    found = Reader(value)
    patches = tuple(_patch(each) for each in found.items("patches"))
    if not patches:
        raise FormatError("an entry changes nothing")
    return Entry(
        found.text("txid"),
        found.mapping("action"),
        found.text("command"),
        found.number("time-ns"),
        patches,
        found.data("old-sector", SECTOR),
        found.data("new-sector", SECTOR),
        found.data("old-generation"),
        found.data("new-generation"),
        found.number("held-below") if found.has("held-below") else 0,
    )


def _patch(value: object) -> Patch:
    found = Reader(value)
    try:
        return Patch(found.number("offset"), found.data("before"), found.data("after"))
    except ValueError as error:
        raise FormatError(str(error)) from error


def mark_to_json(mark: Mark) -> dict[str, Any]:
    return {
        "size": mark.size,
        "mtime-ns": mark.mtime_ns,
        "sector": text(mark.sector),
        "generation": text(mark.generation),
    }


def mark_from_json(value: object) -> Mark:
    found = Reader(value)
    return Mark(
        found.number("size"),
        found.number("mtime-ns"),
        found.data("sector", 32),
        found.data("generation"),
    )


def note_to_json(note: Note) -> dict[str, Any]:
    return {"time-ns": note.time_ns, "reason": note.reason, "commands": list(note.commands)}


def note_from_json(value: object) -> Note:
    found = Reader(value)
    commands = found.items("commands")
    if not all(isinstance(command, str) for command in commands):
        raise FormatError("a command is no text")
    return Note(found.number("time-ns"), found.text("reason"), tuple(map(str, commands)))


def text(data: bytes) -> str:
    """Bytes as they are written in the file."""
    return base64.b64encode(data).decode("ascii")


class Reader:
    """Takes values out of a JSON object; FormatError for what is missing or of another type."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise FormatError("something is no JSON object")
        self._value = value

    def has(self, name: str) -> bool:
        """Whether there is anything but null."""
        return self._value.get(name) is not None

    def any(self, name: str) -> object:
        return self._value.get(name)

    def text(self, name: str) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
            raise FormatError(f"{name} is no text")
        return value

    def number(self, name: str) -> int:
        value = self._value.get(name)
        if type(value) is not int or not -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER:
            raise FormatError(f"{name} is no number")
        return value

    def items(self, name: str) -> Sequence[object]:
        value = self._value.get(name)
        if not isinstance(value, list):
            raise FormatError(f"{name} is no list")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self._value.get(name)
        if not isinstance(value, dict):
            raise FormatError(f"{name} is no JSON object")
        return value

    def data(self, name: str, length: int | None = None) -> bytes:
        value = self._value.get(name)
        try:
            if not isinstance(value, str):
                raise ValueError
            data = base64.b64decode(value.encode("ascii"), validate=True)
        except (ValueError, binascii.Error) as error:
            raise FormatError(f"{name} is no base64") from error
        if length is not None and len(data) != length:
            raise FormatError(f"{name} has {len(data)} bytes, not {length}")
        return data
