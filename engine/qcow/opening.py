"""Opening an image: any file answers, none is changed, no second file is touched."""

from __future__ import annotations

import os

from .errors import FormatError, UnsupportedFormat
from .formats.probe import PROBE_LENGTH, probe
from .formats.raw import RawImage
from .image.image import Image
from .storage.base import Storage
from .storage.local import open_local
from .storage.locks import ImageLock, LockMode
from .text import safe

#: Formats this version reads.
READABLE = ("qcow2", "raw")
AnyImage = Image | RawImage


def open(
    path: str | os.PathLike[str] | bytes,
    *,
    format: str | None = None,
    lock: LockMode = LockMode.READER,
) -> AnyImage:
    """Open ``path`` read-only and hold QEMU's lock bytes as ``lock`` says until it is closed.

    Without ``format`` the first bytes decide.  Raises StorageError (not there, not a regular file
    or block device), LockedError (somebody writes, and ``lock`` is READER), UnsupportedFormat, or
    FormatError when ``format`` is "qcow2" and the file is not.  Damage is no error: it is in the
    image's ``problems``.
    """
    storage = open_local(path)
    try:
        ImageLock().acquire(storage.fileno(), lock, storage.name)
        return open_storage(storage, format=format)
    except BaseException:
        storage.close()
        raise


def open_storage(storage: Storage, *, format: str | None = None) -> AnyImage:
    """The same over bytes that are already open (no lock is taken); see :func:`open`."""
    if format is None:
        format = probe(storage.read(0, PROBE_LENGTH))
    if format == "qcow2":
        return Image(storage)
    if format == "raw":
        return RawImage(storage)
    shown = safe(storage.name)
    known = (
        "bochs",
        "cloop",
        "dmg",
        "luks",
        "parallels",
        "qcow",
        "qed",
        "vdi",
        "vhdx",
        "vmdk",
        "vpc",
        "vvfat",
    )
    if format in known:
        raise UnsupportedFormat(
            f"{shown} is a {format} image; this version reads qcow2 and raw images."
        )
    raise FormatError(
        f'Unknown format "{safe(format)}" for {shown}; this version reads {" and ".join(READABLE)}.'
    )
