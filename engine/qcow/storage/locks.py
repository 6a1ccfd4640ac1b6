"""QEMU's image locks: single bytes of the image file, locked per open file (QEMU's file-posix.c).

Byte 100+i says "I use permission i", byte 200+i "I do not share permission i".  Both are *shared*
locks, so that a read-only descriptor can take them; whoever took its own then looks whether
somebody else holds a byte that contradicts them.  Open file description (OFD) locks are used, never
``lockf``: those would vanish as soon as this process closed any descriptor of the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterable
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..errors import LockedError, StorageError
from ..record import record
from ..text import safe

if TYPE_CHECKING:
    from .local import LocalFile

#: QEMU's names of the permissions; the index is the number i of the lock bytes.  The last is
#: known to QEMU up to 6.1 only.
PERMISSIONS = ("consistent read", "write", "write unchanged", "resize", "change children")

_USES = 100
_DENIES = 200
_ALL_BYTES = tuple(first + i for first in (_USES, _DENIES) for i in range(len(PERMISSIONS)))
#: Permissions that only a writer uses.
_WRITES = (PERMISSIONS.index("write"), PERMISSIONS.index("resize"))
#: Bytes libvirt's lock manager holds while a guest owns the disk (0), or relabels it (1).
_LIBVIRT = (0, 2)

#: ``struct flock``, its padding as the C compiler lays it out; l_pid must be 0 for OFD locks.
_FLOCK = struct.Struct("@hhqqi0q")
#: Two writers that come at once see each other and both step back; so each tries again, after
#: a random pause of at most this many seconds times the number of tries so far.
_TRIES = 5
_PAUSE = 0.012
#: What a kernel or a (network) file system answers that has no such locks.
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


class LockMode(Enum):
    """What an opener does with an image: the permissions it uses, and those it denies to others."""

    READER = (("consistent read",), ("write", "resize"))  # qemu-img info, check, map, ...
    FORCE_SHARE = (("consistent read",), ())  # qemu-img -U
    SNOOP = ((), ())  # no lock, no question: looking at a live image
    #: An edit.  Stricter than QEMU's writers: nobody may read what is being changed.
    WRITER = (("consistent read", "write", "resize"), PERMISSIONS[:4])

    def __init__(self, uses: tuple[str, ...], denies: tuple[str, ...]) -> None:
        self.uses = tuple(map(PERMISSIONS.index, uses))
        self.denies = tuple(map(PERMISSIONS.index, denies))
        #: The bytes that are locked.
        self.locked = frozenset([_USES + i for i in self.uses] + [_DENIES + i for i in self.denies])


@record
class LockState:
    """What *others* hold, by QEMU's names of permissions (:data:`PERMISSIONS`)."""

    used: frozenset[str]
    denied: frozenset[str]
    writer: bool  # somebody may write to the image or resize it
    in_use: bool  # somebody holds any lock
    libvirt: bool  # libvirt's lock manager holds its byte
    supported: bool = True  # False: the file system cannot say, so nothing here means anything


def _control(fd: int, command: int, kind: int, start: int, length: int = 1) -> int:
    """One fcntl lock call; the lock type it answers.  OSError as the kernel gives it."""
    question = _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)
    answer: int = _FLOCK.unpack(fcntl.fcntl(fd, command, question))[0]
    return answer


def _held_by_others(fd: int, start: int, length: int = 1) -> bool:
    """Whether anyone else holds a lock there: would a write lock be refused?"""
    return _control(fd, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, start, length) != fcntl.F_UNLCK


def probe(fd: int) -> LockState:
    """What other openers hold on the file of ``fd``; takes no lock.

    Locks taken through ``fd`` itself do not count; those of another descriptor of this process do.
    Raises StorageError when ``fd`` is not open.
    """
    try:
        libvirt = _held_by_others(fd, *_LIBVIRT)
        span = _DENIES + len(PERMISSIONS) - _USES
        if _held_by_others(fd, _USES, span):
            used = frozenset(
                name for i, name in enumerate(PERMISSIONS) if _held_by_others(fd, _USES + i)
            )
            denied = frozenset(
                name for i, name in enumerate(PERMISSIONS) if _held_by_others(fd, _DENIES + i)
            )
        else:
            used = denied = frozenset()
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise StorageError(f"Could not look at the image lock: {error.strerror}") from error
        return LockState(frozenset(), frozenset(), False, False, False, supported=False)
    writer = bool(used & {"write", "resize"})
    return LockState(used, denied, writer, bool(used or denied or libvirt), libvirt)


class ImageLock:
    """The locks one opener holds.  They end with ``release`` or when the descriptor is closed."""

    def __init__(self) -> None:
        self._fd = -1
        self._held: frozenset[int] = frozenset()
        #: The mode held; None while nothing is acquired.
        self.mode: LockMode | None = None
        #: False when the file system knows no such locks: then nobody was asked and nobody is told.
        self.effective = True

    def acquire(self, fd: int, mode: LockMode, name: str = "") -> Self:
        """Take the locks of ``mode``, or change to it from the mode held; ``name`` is for messages.

        A WRITER tries a few times within a fifth of a second.  Raises LockedError, in QEMU's
        words, when another opener excludes this use (the mode held before is kept), StorageError
        when ``fd`` is not open.
        """
        if self.mode is not None and fd != self._fd:
            raise ValueError("this lock is held on another descriptor: release it first")
        tries = _TRIES if mode is LockMode.WRITER else 1
        for attempt in range(1, tries + 1):
            try:
                self._take(fd, mode, name)
                break
            except LockedError:
                if attempt == tries:
                    raise
                time.sleep(_PAUSE * attempt * os.urandom(1)[0] / 255)
        return self

    def _take(self, fd: int, mode: LockMode, name: str) -> None:
        wanted = mode.locked
        placed: list[int] = []
        effective = True
        try:
            for byte in sorted(wanted - self._held):
                _place(fd, byte)
                placed.append(byte)
            # Who keeps only what it has asks nobody: an opener about to be refused may just then
            # hold bytes that would contradict it.
            if not wanted <= self._held:
                _ask_others(fd, mode, name)
        except LockedError:
            _unlock(fd, placed)
            raise
        except OSError as error:
            _unlock(fd, placed)
            if error.errno not in _UNSUPPORTED:
                raise StorageError(f"Could not lock the image: {error.strerror}") from error
            effective = False
            wanted = frozenset()
        _unlock(fd, self._held - wanted)
        self._fd, self._held, self.mode, self.effective = fd, wanted, mode, effective

    def share(self, fd: int, readers: ReadersAside) -> Self:
        """Hold through ``fd`` what ``readers``, of this process, hold; asks nobody.

        What this process has already, nobody else can be granted the opposite of.  Raises
        StorageError when ``fd`` is not open, LockedError when a byte is locked exclusively.
        """
        try:
            for byte in readers.locked:
                _place(fd, byte)
        except OSError as error:
            raise StorageError(f"Could not lock the image: {error.strerror}") from error
        self._fd, self._held = fd, readers.locked
        self.mode = next((mode for mode in LockMode if mode.locked == self._held), None)
        return self

    def release(self) -> None:
        """Give the locks back; before the descriptor is closed, which would do it as well."""
        with contextlib.suppress(OSError):
            _unlock(self._fd, self._held)
        self._fd, self._held, self.mode = -1, frozenset(), None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class ReadersAside:
    """The locks of this process's own readers of a file, off while it writes to the file itself.

    Locks belong to an open file, not to a process: a reader in this process stands in the way of
    its own writer like a stranger.  What each one holds is asked of the kernel, so it does not
    matter who took the locks.
    """

    def __init__(self, readers: Iterable[LocalFile]) -> None:
        """Look what ``readers`` hold.  Raises LockedError when one of them is a writer itself."""
        held = [(reader, locked_bytes(reader.fileno())) for reader in readers]
        self._held = [(reader, locked) for reader, locked in held if locked]
        if any(_USES + i in locked for _, locked in self._held for i in _WRITES):
            raise LockedError("This process is changing the image already: let that end first.")
        self._off = False

    @property
    def locked(self) -> frozenset[int]:
        """The bytes that any of the readers holds."""
        return frozenset[int]().union(*(locked for _, locked in self._held))

    def step_aside(self) -> None:
        """Release the readers' locks; their files stay open."""
        self._off = True
        for reader, locked in self._held:
            with contextlib.suppress(OSError, ValueError):
                _unlock(reader.fileno(), locked)

    def come_back(self) -> None:
        """Take them again, for the readers that are still open; asks nobody.

        Nobody can be in the way as long as the writer still holds READER, which the caller sees to.
        """
        if not self._off:
            return
        self._off = False
        for reader, locked in self._held:
            with contextlib.suppress(OSError, ValueError, LockedError):  # ValueError: it is closed
                for byte in locked:
                    _place(reader.fileno(), byte)


def locked_bytes(fd: int) -> frozenset[int]:
    """QEMU's lock bytes held through ``fd``, as the kernel tells; none where it does not."""
    held: set[int] = set()
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
            lines = [line.split() for line in file if line.startswith(b"lock:")]
    except OSError:
        return frozenset()
    for *_, first, last in lines:
        if last != b"EOF":
            held.update(set(_ALL_BYTES) & set(range(int(first), int(last) + 1)))
    return frozenset(held)


def _place(fd: int, byte: int) -> None:
    try:
        _control(fd, fcntl.F_OFD_SETLK, fcntl.F_RDLCK, byte)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):  # an exclusive lock: not QEMU's doing
            raise LockedError(
                f"Failed to lock byte {byte}: another process holds it exclusively"
            ) from error
        raise


def _ask_others(fd: int, mode: LockMode, name: str) -> None:
    """Raise LockedError when another opener contradicts ``mode``."""
    for i in mode.uses:
        if _held_by_others(fd, _DENIES + i):
            raise _conflict(f'Failed to get "{PERMISSIONS[i]}" lock', name)
    for i in mode.denies:
        if _held_by_others(fd, _USES + i):
            raise _conflict(f'Failed to get shared "{PERMISSIONS[i]}" lock', name)


def _unlock(fd: int, held: Iterable[int]) -> None:
    for byte in held:
        _control(fd, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, byte)


def _conflict(message: str, name: str) -> LockedError:
    which = f" [{safe(name)}]" if name else ""
    return LockedError(f"{message}\nIs another process using the image{which}?")
