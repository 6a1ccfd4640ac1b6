"""Copies of header clusters from before each change, for a person who has to repair by hand."""

from __future__ import annotations

import os
import time

from ..record import record
from .folder import Folder, LocalFolder, put, state_folder
from .history_file import Subject
from .patch import SECTOR

#: Copies kept for one image.
MAX_HEADERS = 50
_SUFFIX = ".header"


@record
class ArchivedHeader:
    """One copy: ``name`` in the archive's folder, when it was taken, before which transaction."""

    name: str
    time_ns: int
    txid: str


def archive_folder() -> Folder:
    """The user's own folder for them, made if it is not there.  Raises EditRefused, StorageError"""
    return LocalFolder.private(os.path.join(state_folder(), "archive"))


def archive_header(
    subject: Subject, header: bytes, txid: str, folder: Folder | None = None
) -> ArchivedHeader:
    """Keep a copy of the header cluster, durably, and give up the oldest beyond the last 50.

    The zeros at the end of the cluster are left out, up to a whole sector.  Raises EditRefused or
    StorageError.
    """
    folder = folder or archive_folder()
    used = len(header.rstrip(b"\0"))
    data = header[: -(-used // SECTOR) * SECTOR]
    now = time.time_ns()
    name = f"{subject.key}-{now:020}-{txid}{_SUFFIX}"
    put(folder, name, data)
    for old in archived_headers(subject, folder)[:-MAX_HEADERS]:
        folder.remove(old.name)
    return ArchivedHeader(name, now, txid)


def archived_headers(subject: Subject, folder: Folder) -> tuple[ArchivedHeader, ...]:
    """The copies of this image's header, oldest first."""
    found = []
    for name in folder.names():
        key, _, rest = name.removesuffix(_SUFFIX).partition("-")
        taken, _, txid = rest.partition("-")
        if key == subject.key and name.endswith(_SUFFIX) and taken.isdecimal():
            found.append(ArchivedHeader(name, int(taken), txid))
    return tuple(sorted(found, key=lambda header: header.time_ns))
