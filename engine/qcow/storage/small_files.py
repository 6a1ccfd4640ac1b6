"""Small files of our own (state, journals): created, replaced and removed so that it lasts."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat

from ..errors import NoSpaceError, NotRegularFile, StorageError
from ..text import safe
from .local import OPEN_FLAGS, reason, unreadable_kind

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Return when the names in the folder ``path`` are durable.  Raises StorageError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that has nothing to sync
                raise
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise _failed("make durable the folder", path, error) from error


def write_small_file(
    path: str | os.PathLike[str], data: bytes, mode: int = 0o600, *, replace: bool = True
) -> None:
    """Make ``path`` a file that holds ``data``, durably, with exactly the permissions ``mode``.

    A crash leaves the old file or the new one.  With ``replace`` False a file (or link) that is
    there already is an error, and a crash can leave a file that holds a part of ``data``.  The
    folder must exist.  Raises StorageError, NoSpaceError.
    """
    target = os.fspath(path)
    folder, name = os.path.split(target)
    at = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(6)}") if replace else target
    made = False
    try:
        descriptor = os.open(at, _CREATE, mode)
        made = True
        try:
            os.fchmod(descriptor, mode)  # whatever the umask says
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if replace:
            os.rename(at, target)
    except (OSError, ValueError) as error:
        if made:
            with contextlib.suppress(OSError):
                os.unlink(at)
        raise _failed("write", target, error) from error
    sync_folder(folder or ".")


def read_small_file(path: str | os.PathLike[str], limit: int) -> bytes | None:
    """What the file ``path`` holds, None when there is none; a link is not followed.

    Raises StorageError for a file of more than ``limit`` bytes, NotRegularFile for no file.
    """
    try:
        descriptor = os.open(path, OPEN_FLAGS | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            raise NotRegularFile(
                f"Could not read '{_shown(path)}': it is a symbolic link."
            ) from error
        raise _failed("read", path, error) from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = unreadable_kind(mode) or "a block device"
            raise NotRegularFile(f"Could not read '{_shown(path)}': it is {kind}.")
        data = b""
        while len(data) <= limit and (part := os.read(descriptor, limit + 1 - len(data))):
            data += part
    except OSError as error:
        raise _failed("read", path, error) from error
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise StorageError(f"Could not read '{_shown(path)}': it is longer than {limit} bytes.")
    return data


def remove_small_file(path: str | os.PathLike[str]) -> None:
    """Remove a file, durably; one that is not there is no error.  Raises StorageError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise _failed("remove", path, error) from error
    sync_folder(os.path.dirname(os.fspath(path)) or ".")


def _shown(path: str | os.PathLike[str]) -> str:
    return safe(os.fspath(path))


def _failed(doing: str, path: str | os.PathLike[str], error: OSError | ValueError) -> StorageError:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    kind = NoSpaceError if full else StorageError
    return kind(f"Could not {doing} '{_shown(path)}': {reason(error)}")
