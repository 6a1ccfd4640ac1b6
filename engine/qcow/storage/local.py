"""Regular files and block devices of this machine, read with ``pread`` and nothing else.

Never mmap: a file that shrinks while it is mapped kills the process.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import repeat
from operator import sub

from ..errors import NotRegularFile, StorageError
from ..text import safe
from .base import Storage, WritableBuffer

#: Read-only, without waiting for the other end of a FIFO, without becoming anyone's terminal.
OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

#: Reads up to this length are tried without asking for the size of the file first.
_SMALL = 1 << 20
#: One past the largest position the system can address.
_END_OF_POSITIONS = 1 << 63

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
}


def unreadable_kind(mode: int) -> str | None:
    """In words, what ``st_mode`` says of a file that is never opened; None for one that may be."""
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return None
    return _KINDS.get(stat.S_IFMT(mode), "not a file with contents")


def reason(error: OSError | ValueError) -> str:
    """Why a call with a path failed.  (ValueError: a NUL byte, or text no file name can hold.)"""
    return (isinstance(error, OSError) and error.strerror) or "it is no file name"


def _refuse_unreadable(mode: int, path: str) -> None:
    kind = unreadable_kind(mode)
    if kind is not None:
        raise NotRegularFile(
            f"Could not open '{safe(path)}': it is {kind}, not a regular file or a block device."
        )


def open_local(path: str | os.PathLike[str] | bytes) -> LocalFile:
    """Open a file the user named.

    Raises NotRegularFile for anything but a regular file or block device (which is found out before
    opening: opening alone can wake the writer of a FIFO or rewind a tape), StorageError otherwise.
    """
    return LocalFile(*open_descriptor(path, OPEN_FLAGS))


def open_descriptor(
    path: str | os.PathLike[str] | bytes, flags: int, doing: str = "open"
) -> tuple[int, str]:
    """``(descriptor, path)`` for the constructors of this package; ``doing`` is for the message.

    Raises what :func:`open_local` raises.
    """
    shown = os.fsdecode(path)
    try:
        _refuse_unreadable(os.stat(shown).st_mode, shown)
        return os.open(shown, flags), shown
    except (OSError, ValueError) as error:
        raise StorageError(f"Could not {doing} '{safe(shown)}': {reason(error)}") from error


def same_descriptor_path(file: LocalFile) -> str:
    """A path that leads to the very file ``file`` has open, whatever its name leads to by now.

    Opening it makes a second open file with locks of its own, and needs no gate: what was let pass
    once is not looked up by name again.  (Linux: ``/proc/self/fd``.)
    """
    return f"/proc/self/fd/{file.fileno()}"


class LocalFile(Storage):
    """An open regular file or block device; see :class:`~qcow.storage.base.Storage`."""

    def __init__(self, descriptor: int, path: str) -> None:
        """Take over ``descriptor``, opened with :data:`OPEN_FLAGS`; closes it when it refuses.

        Raises NotRegularFile: the path may have been exchanged since anybody looked at it.
        """
        self._fd = descriptor
        self.name = path
        self.path = path
        try:
            found = os.fstat(descriptor)
            _refuse_unreadable(found.st_mode, path)
        except BaseException:
            self.close()
            raise
        self._identity = (found.st_dev, found.st_ino)
        #: True for a block device, whose end says nothing about where an image on it ends.
        self.is_device = stat.S_ISBLK(found.st_mode)

    def fileno(self) -> int:
        """The descriptor, for locks; it stays owned by this object."""
        return self._fd

    def size(self) -> int:
        try:
            if self.is_device:
                return os.lseek(self._fd, 0, os.SEEK_END)
            return os.fstat(self._fd).st_size
        except OSError as error:
            raise self._failed("find the size", error) from error

    def read(self, offset: int, length: int) -> bytes:
        length = self._readable(offset, length)
        parts: list[bytes] = []
        while length > 0:
            try:
                part = os.pread(self._fd, length, offset)
            except OSError as error:
                raise self._failed(f"read {length} bytes at offset {offset}", error) from error
            if not part:
                break
            if len(part) == length and not parts:
                return part
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        view = memoryview(buffer)
        wanted = self._readable(offset, len(view))
        done = 0
        while done < wanted:
            try:
                got = os.preadv(self._fd, [view[done:wanted]], offset + done)
            except OSError as error:
                raise self._failed(
                    f"read {wanted - done} bytes at offset {offset + done}", error
                ) from error
            if not got:
                break
            done += got
        return done

    def read_pieces(self, offsets: Sequence[int], piece: int, buffer: memoryview) -> None:
        count = len(offsets)
        if len(buffer) < count * piece:
            raise ValueError(f"{count} pieces of {piece} bytes do not fit in {len(buffer)}")
        if not count or not piece:
            return
        # Neighbours in the file become one read: tables written in order lie side by side.
        steps = map(sub, offsets[1:], offsets)
        breaks = [index for index, step in enumerate(steps, 1) if step != piece]
        firsts = [0, *breaks]
        parts = [
            (buffer[first * piece : end * piece],)
            for first, end in zip(firsts, [*breaks, count], strict=True)
        ]
        starts = [offsets[first] for first in firsts]
        # Tables written in random order are a call each: the loop over them runs in C.
        try:
            complete = sum(map(os.preadv, repeat(self._fd), parts, starts)) == count * piece
        except (OSError, OverflowError):
            complete = False
        if not complete:  # the end of the file or a bad sector lies within: find out where
            super().read_pieces(offsets, piece, buffer[: count * piece])

    def extents(
        self, offset: int = 0, length: int | None = None
    ) -> Iterator[tuple[int, int, bool]]:
        end = self.size()
        if length is not None:
            end = min(end, offset + length)
        at = offset
        while at < end:
            try:
                data = min(os.lseek(self._fd, at, os.SEEK_DATA), end)
                if data > at:
                    yield at, data - at, False
                    at = data
                    continue
                hole = min(os.lseek(self._fd, at, os.SEEK_HOLE), end)
            except OSError as error:
                if error.errno not in (errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP):
                    raise self._failed(f"find data at offset {at}", error) from error
                # ENXIO: no data up to the end.  The others: this file cannot tell.
                yield at, end - at, error.errno != errno.ENXIO
                return
            if hole > at:  # else the data was discarded between the two questions
                yield at, hole - at, True
                at = hole

    def allocated_bytes(self) -> int | None:
        return self._status().st_blocks * 512

    def room(self) -> int | None:
        if self.is_device:
            return None
        try:
            found = os.fstatvfs(self._fd)
        except OSError as error:
            raise self._failed("find the free space", error) from error
        blocks = found.f_bavail if os.geteuid() else found.f_bfree
        return blocks * found.f_frsize

    def identity(self) -> tuple[int, int]:
        return self._identity

    def modified(self) -> tuple[int, int]:
        return self.size(), self._status().st_mtime_ns

    def close(self) -> None:
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        # A forgotten descriptor would go on holding QEMU's lock bytes.
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def __repr__(self) -> str:
        return f"<LocalFile '{safe(self.name)}'>"

    def _status(self) -> os.stat_result:
        try:
            return os.fstat(self._fd)
        except OSError as error:
            raise self._failed("get the status", error) from error

    def _readable(self, offset: int, length: int) -> int:
        """How many of ``length`` bytes to ask for, so that a false length costs no memory."""
        if offset < 0 or length < 0:
            raise ValueError(f"no such place to read: offset {offset}, length {length}")
        if length <= _SMALL and offset + length < _END_OF_POSITIONS:
            return length
        return max(0, min(length, self.size() - offset))

    def _failed(self, doing: str, error: OSError) -> StorageError:
        return StorageError(f"Could not {doing} of '{safe(self.name)}': {error.strerror}")
