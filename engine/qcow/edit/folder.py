"""Small private files beside an image or in the user's state folder, written durably.

The journal and the undo history are kept in them.  They are not image bytes, so they do not pass
through a :class:`~qcow.storage.base.Storage`; they pass through a :class:`Folder`, so that the
crash tests can lose what a power cut would lose, directory entries too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from typing import NoReturn, Protocol

from ..errors import EditRefused, NoSpaceError, StorageError
from ..storage.local import OPEN_FLAGS, reason
from ..storage.small_files import remove_small_file, sync_folder, write_small_file
from ..text import safe

#: What a file is called while it is being written; one found later was never finished.
UNFINISHED = ".new"


class Folder(Protocol):
    """One directory.  Names are single components.

    Anything the operating system refuses raises StorageError, for a full disk NoSpaceError.
    """

    def shown(self, name: str) -> str:
        """The full path of a file, safe to show."""

    def names(self) -> list[str]:
        """Every name in the folder, sorted."""

    def exists(self, name: str) -> bool:
        """Whether the name is taken, by whatever; nothing is opened."""

    def read(self, name: str, limit: int) -> bytes | None:
        """The contents; None when there is no such file.

        Raises EditRefused for a file that others could have written or that is longer than
        ``limit`` bytes, without reading it.
        """

    def create(self, name: str, data: bytes) -> None:
        """A new file, durable on return; after a crash before that it may hold a part of it."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, durably and in one step; what had that name is gone."""

    def remove(self, name: str) -> None:
        """Forget a name durably; one that is not there is no error."""


def put(folder: Folder, name: str, data: bytes) -> None:
    """Write a small file durably: afterwards, whatever happens, it is all there.

    A crash leaves what was there before or all of it; when this fails it may be either.
    """
    unfinished = name + UNFINISHED
    folder.remove(unfinished)
    folder.create(unfinished, data)
    folder.rename(unfinished, name)


def discard(folder: Folder, name: str) -> bool:
    """Remove a file for good if that is possible, and tell whether it was."""
    try:
        folder.remove(name)
    except StorageError:
        return False
    return True


def state_folder(environment: Mapping[str, str] | None = None) -> str:
    """``$XDG_STATE_HOME/qcowtui``; ``~/.local/state/qcowtui`` where that is not set."""
    home = (os.environ if environment is None else environment).get("XDG_STATE_HOME")
    if not home or not os.path.isabs(home):  # the specification says to ignore a relative one
        home = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(home, "qcowtui")


class LocalFolder(Folder):
    """A directory of this machine."""

    def __init__(self, path: str) -> None:
        """A directory that is there already; nothing is opened before it is needed."""
        self._path = path

    @classmethod
    def private(cls, path: str) -> LocalFolder:
        """A directory of the user's own, made (mode 0700) when it is not there.

        Raises EditRefused when others may write in it, StorageError when it cannot be made.
        """
        folder = cls(path)
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            found = os.stat(path)
        except (OSError, ValueError) as error:
            folder._failed("make the folder", "", error)
        if not stat.S_ISDIR(found.st_mode):
            raise EditRefused(f"'{safe(path)}' is not a folder; move it out of the way.")
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise EditRefused(
                f"The folder '{safe(path)}' can be written to by others, so what is kept there "
                "cannot be trusted: make it your own, with mode 0700."
            )
        return folder

    def shown(self, name: str) -> str:
        return safe(self._at(name))

    def names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._path))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            self._failed("list", "", error)

    def exists(self, name: str) -> bool:
        try:
            os.lstat(self._at(name))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError) as error:
            self._failed("look for", name, error)
        return True

    def read(self, name: str, limit: int) -> bytes | None:
        try:
            descriptor = os.open(self._at(name), OPEN_FLAGS | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.ENXIO):
                self._distrust(name, "it is not a regular file")
            self._failed("open", name, error)
        try:
            found = os.fstat(descriptor)
            flaw = _flaw(found)
            if flaw:
                self._distrust(name, flaw)
            if found.st_size > limit:
                self._distrust(name, f"it is larger than {limit} bytes")
            parts: list[bytes] = []
            left = limit + 1
            while left and (part := os.read(descriptor, min(left, 1 << 20))):
                parts.append(part)
                left -= len(part)
        except OSError as error:
            self._failed("read", name, error)
        finally:
            os.close(descriptor)
        if not left:
            self._distrust(name, f"it is larger than {limit} bytes")
        return b"".join(parts)

    def create(self, name: str, data: bytes) -> None:
        write_small_file(self._at(name), data, replace=False)

    def rename(self, old: str, new: str) -> None:
        try:
            os.rename(self._at(old), self._at(new))
        except (OSError, ValueError) as error:
            self._failed("write", new, error)
        sync_folder(self._path)

    def remove(self, name: str) -> None:
        remove_small_file(self._at(name))

    def _at(self, name: str) -> str:
        return os.path.join(self._path, name) if name else self._path

    def _failed(self, doing: str, name: str, error: OSError | ValueError) -> NoReturn:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        sentence = f"Could not {doing} '{self.shown(name)}': {reason(error)}"
        raise (NoSpaceError if full else StorageError)(sentence) from error

    def _distrust(self, name: str, flaw: str) -> NoReturn:
        raise EditRefused(
            f"'{self.shown(name)}' is not trusted, because {flaw}: look where it comes from, "
            "and move it out of the way."
        )


def _flaw(found: os.stat_result) -> str | None:
    """Why somebody else may have made this file or may change it; None when nobody can."""
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file"
    if found.st_uid != os.geteuid():
        return "it belongs to another user"
    if found.st_nlink != 1:
        return "it has a second name (a hard link)"
    if found.st_mode & 0o022:
        return "others may write to it"
    return None
