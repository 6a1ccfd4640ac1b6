"""Which file a path means, found out without opening it."""

from __future__ import annotations

import os


def identity_of(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """``(st_dev, st_ino)`` of what ``path`` leads to, links followed; None when nothing is there.

    Comparable with :meth:`qcow.storage.base.Storage.identity`.  Nothing is opened, so this is safe
    for names that come out of an image.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: no file name (a NUL byte, lone surrogates)
        return None
    return found.st_dev, found.st_ino
