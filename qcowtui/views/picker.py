"""The images there are to open: those of a folder, and the recent ones."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

from qcow.errors import QcowError
from qcow.findings import Severity, worst
from qcow.formats.probe import PROBE_LENGTH, probe
from qcow.image.image import Image
from qcow.jobs import CancelToken
from qcow.storage.gate import list_candidates
from qcow.storage.local import open_local
from qcow.storage.locks import probe as probe_locks
from qcow.text import safe

from .health import health
from .tones import Tone
from .units import plural, size

#: Files of one folder that are looked at.
MAX_FILES = 2000
#: Seconds that the check of one image may take here.
_MOMENT = 0.5
#: Raw disks have no magic: a file is taken for one by its name.
_RAW_SUFFIXES = (".img", ".raw")


@dataclass(frozen=True, slots=True)
class Found:
    """One image.  ``path`` is raw text; the other texts are safe to show."""

    path: str
    name: str
    format: str
    virtual_size: str
    disk_size: str
    health: str
    tone: Tone


def candidates(folder: str) -> list[str]:
    """Paths of the files in ``folder`` to look at.  Raises StorageError."""
    return list_candidates(folder, MAX_FILES, follow_links=True)


def look_at(path: str, *, recent: bool = False) -> Found | None:
    """What a file is, from its first bytes; None when it is no disk image.

    No lock is taken and nothing it refers to is opened.  A ``recent`` image that cannot be looked
    at is told of instead of left out.
    """
    name = safe(os.path.basename(path), 80)
    try:
        with open_local(path) as storage:
            format = probe(storage.read(0, PROBE_LENGTH))
            if format == "raw" and not (recent or path.lower().endswith(_RAW_SUFFIXES)):
                return None
            disk = storage.allocated_bytes()
            disk_size = "" if disk is None else size(disk)
            if format != "qcow2":
                readable = format == "raw"
                return Found(
                    path,
                    name,
                    format,
                    size(storage.size()) if readable else "",
                    disk_size,
                    "" if readable else "not readable yet",
                    Tone.MUTED,
                )
            image = Image(storage)
            in_use = probe_locks(storage.fileno()).writer
            health, tone = _health(image, in_use)
            shown = f"qcow2 v{image.header.version}"
            return Found(path, name, shown, size(image.virtual_size), disk_size, health, tone)
    except QcowError:
        if not recent:
            return None
        return Found(path, name, "", "", "", "not there any more", Tone.MUTED)


class _Deadline(CancelToken):
    """Cancels itself when the time is up."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self._end:
            self.cancel()
        super().check()


def check_quickly(found: Found) -> Found:
    """The same with what a check of the metadata says, where that takes no more than a moment.

    Images in use are left alone: their tables change while they are read.
    """
    from qcow.inspect.check import check

    try:
        with open_local(found.path) as storage:
            image = Image(storage)
            if image.geometry is None or probe_locks(storage.fileno()).writer:
                return found
            result = check(image, cancel=_Deadline(_MOMENT), decode=False)
    except QcowError:
        return found
    known = health(result)
    if known.corrupt:
        words = f"corrupt: {plural(known.corruptions, 'place')}"
        return replace(found, health=words, tone=known.tone)
    if found.tone is not Tone.GOOD:
        return found
    if known.leaks:
        return replace(found, health=plural(known.leaks, "leaked cluster"), tone=known.tone)
    return replace(found, health="no errors found", tone=known.tone)


def _health(image: Image, in_use: bool) -> tuple[str, Tone]:
    """What the header and the small tables say; no check of all refcounts."""
    if in_use:
        return "in use", Tone.WARNING
    if image.refused is not None:
        return f"damaged: {image.refused.kind.title}", Tone.BAD
    if image.header.corrupt:
        return "marked corrupt", Tone.BAD
    gravest = worst(image.problems)
    if gravest is not None and gravest >= Severity.CORRUPTION:
        return "damaged", Tone.BAD
    if image.header.dirty:
        return "not cleanly shut down", Tone.NOTE
    if gravest is not None and gravest >= Severity.WARNING:
        title = next(f.kind.title for f in image.problems if f.severity is gravest)
        return title, Tone.NOTE
    if image.encrypted:
        return "encrypted", Tone.NOTE
    return "header ok", Tone.GOOD
