"""New image files, which get their name when they are complete and not before."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from types import TracebackType
from typing import Self

from ..errors import ChangedError, NoSpaceError, StorageError
from ..text import safe
from .local import reason
from .small_files import sync_folder
from .writable import WRITE_FLAGS, WritableFile

_CREATE = WRITE_FLAGS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
#: What QEMU gives a new image, less what the umask takes away.
_MODE = 0o644
#: A file system without hard links: there a name can only be taken by renaming.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class NewFile:
    """A file being made in the folder of ``path`` under a hidden name; a context manager.

    :meth:`publish` gives it the name ``path``.  Leaving without it removes the file.  A process
    that dies in between leaves the hidden file, and ``path`` as it was.
    """

    def __init__(self, path: str) -> None:
        """Make the empty file.  A link ``path`` stands for what it leads to.

        Raises StorageError, NoSpaceError.
        """
        self.path = path
        self._target = os.path.realpath(path) if os.path.islink(path) else path
        folder, name = os.path.split(self._target)
        self._folder = folder or "."
        hidden = f".{name[:200]}.{secrets.token_hex(6)}.part"
        self._hidden: str | None = os.path.join(folder, hidden)
        try:
            descriptor = os.open(self._hidden, _CREATE, _MODE)
        except (OSError, ValueError) as error:
            raise _failed(path, error) from error
        self.file = WritableFile(descriptor, self._hidden)

    def publish(self, *, replace: bool) -> None:
        """Make the contents durable, then the name.

        With ``replace`` a regular file of that name gives way, and its permissions stay; without
        it a file that has come up raises ChangedError.  Raises StorageError.
        """
        assert self._hidden is not None
        self.file.flush()
        try:
            if replace:
                self._take_over()
            else:
                self._take_name()
        except FileExistsError as error:
            raise ChangedError(
                f"'{safe(self.path)}' has come into being meanwhile: it stays as it is."
            ) from error
        except OSError as error:
            raise _failed(self.path, error) from error
        self._hidden = None
        self.file.name = self.file.path = self.path
        sync_folder(self._folder)

    def _take_over(self) -> None:
        """Permissions and, where the system lets us, owner of the file that gives way; its name."""
        assert self._hidden is not None
        with contextlib.suppress(FileNotFoundError):
            old = os.stat(self._target)
            with contextlib.suppress(PermissionError):
                os.fchown(self.file.fileno(), old.st_uid, old.st_gid)
            os.fchmod(self.file.fileno(), old.st_mode & 0o7777)
        os.fsync(self.file.fileno())
        os.rename(self._hidden, self._target)

    def _take_name(self) -> None:
        assert self._hidden is not None
        try:
            os.link(self._hidden, self._target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(self._target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
            os.rename(self._hidden, self._target)
        else:
            os.unlink(self._hidden)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._hidden is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._hidden)
        self.file.close()


def _failed(path: str, error: OSError | ValueError) -> StorageError:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    kind = NoSpaceError if full else StorageError
    return kind(f"Could not create '{safe(path)}': {reason(error)}")
