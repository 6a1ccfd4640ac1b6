"""A plan: what an action would do, found out by doing it on a copy that is only laid over."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..findings import GuestRange, Range
from ..storage.base import Storage
from ..text import safe
from .patch import SECTOR


@dataclass(frozen=True, slots=True)
class ImageMark:
    """Which state of which file a plan was made on."""

    size: int  # bytes
    mtime_ns: int
    sector: bytes  # SHA-256 of the first 512 bytes

    @classmethod
    def of(cls, storage: Storage) -> ImageMark:
        size, modified = storage.modified()
        return cls(size, modified, hashlib.sha256(storage.read(0, SECTOR)).digest())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action says about itself once it ran; texts are sentences, safe to show."""

    summary: str
    steps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    #: What cannot be got back from the image once its space is reclaimed; "" for nothing.
    loses: str = ""
    #: Guest bytes that read differently afterwards.
    changed: tuple[GuestRange, ...] = ()
    #: Bytes of guest content that differ, where that is known.
    changed_bytes: int | None = None
    #: Why it could not be undone; "" if it can.
    no_undo: str = ""
    #: Bytes written to other files than the image (a base that was committed to).
    written_elsewhere: int = 0
    #: The action's own numbers, JSON values by kebab-case names.
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an action does to one image.  The same value describes a dry run and a finished run.

    All sizes are bytes.  ``written``: to the image file; ``extra``: by how much the file grows at
    most meanwhile; ``freed``: reclaimable then, on top of what was; ``returned``: given back to
    the host.  The host ranges are ascending, at most some thousand (``truncated``).
    """

    verb: str
    command: str  # the command line that does the same
    outcome: Outcome
    written: int
    extra: int
    length_before: int
    length_after: int
    freed: int
    returned: int
    freed_ranges: tuple[Range, ...]
    written_ranges: tuple[Range, ...]
    truncated: bool
    switches: int
    journal: bool
    on: ImageMark
    taken: int = 0  # of clusters that were free before

    @property
    def gained(self) -> int:
        """Bytes by which more can be reclaimed than before: what is freed beyond what is taken."""
        return max(0, self.freed - self.taken)

    @property
    def undoable(self) -> bool:
        return not self.outcome.no_undo

    @property
    def changes_nothing(self) -> bool:
        elsewhere = self.outcome.written_elsewhere
        return self.switches == 0 and self.returned == 0 and elsewhere == 0

    def to_json(self) -> dict[str, Any]:
        """For ``--output=json``; documented in docs/json.md."""
        outcome = self.outcome
        return {
            "action": self.verb,
            "command": safe(self.command, 4096),
            "summary": outcome.summary,
            "steps": list(outcome.steps),
            "warnings": list(outcome.warnings),
            "loses": outcome.loses or None,
            "undo": self.undoable,
            "no-undo-reason": outcome.no_undo or None,
            "bytes-written": self.written,
            "bytes-written-elsewhere": outcome.written_elsewhere,
            "extra-space": self.extra,
            "file-length-before": self.length_before,
            "file-length-after": self.length_after,
            "freed": self.freed,
            "returned": self.returned,
            "switches": self.switches,
            "journal": self.journal,
            "freed-ranges": [{"start": r.start, "length": r.length} for r in self.freed_ranges],
            "written-ranges": [{"start": r.start, "length": r.length} for r in self.written_ranges],
            "changed-guest-ranges": [
                {"start": r.start, "length": r.length, "state": safe(r.state)}
                for r in outcome.changed
            ],
            "truncated": self.truncated,
            **outcome.facts,
        }
