"""Regular files and block devices of this machine, open for writing."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from ..errors import NoSpaceError, StorageError
from ..text import safe
from .base import ReadableBuffer, Storage, WritableStorage
from .host_calls import KEEP_SIZE, PUNCH_HOLE, UNSUPPORTED, ZERO_RANGE, fallocate
from .local import OPEN_FLAGS, LocalFile, open_descriptor, same_descriptor_path

#: As for reading, for both.
WRITE_FLAGS = OPEN_FLAGS & ~os.O_ACCMODE | os.O_RDWR

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
#: Bytes moved or zeroed by one call, which bounds the memory.
_STEP = 1 << 20
_ZEROS = bytes(_STEP)


def open_local_writable(path: str | os.PathLike[str] | bytes) -> WritableFile:
    """Open a file the user named, for reading and writing; it is never created.

    Takes no lock.  Raises NotRegularFile and StorageError as
    :func:`~qcow.storage.local.open_local` does.
    """
    return WritableFile(*open_descriptor(path, WRITE_FLAGS, "open for writing"))


def reopen_writable(file: LocalFile) -> WritableFile:
    """A second, writable opening of the very file that ``file`` has open, under the same name.

    Raises StorageError, as for a file that may only be read.
    """
    try:
        descriptor, _ = open_descriptor(same_descriptor_path(file), WRITE_FLAGS)
    except StorageError as error:
        why = error.__cause__.strerror if isinstance(error.__cause__, OSError) else str(error)
        raise StorageError(f"Could not open for writing '{safe(file.name)}': {why}") from error
    return WritableFile(descriptor, file.name)


class WritableFile(LocalFile, WritableStorage):
    """See :class:`~qcow.storage.base.WritableStorage`; opened by :func:`open_local_writable`."""

    #: Why nothing is written any more.
    _ended: str | None = None

    def write(self, offset: int, data: ReadableBuffer) -> None:
        self._ready(offset, len(data))
        self._write(offset, memoryview(data))

    def flush(self) -> None:
        self._ready()
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._end("make durable what was written", error) from error

    def truncate(self, length: int) -> None:
        self._ready(0, length)
        if self.is_device:
            raise ValueError("the length of a device cannot be changed")
        try:
            os.ftruncate(self._fd, length)
        except OSError as error:
            raise self._end(f"set the length to {length} bytes", error) from error

    def punch(self, offset: int, length: int) -> None:
        self._ready(offset, length)
        end = min(offset + length, self.size())
        if end <= offset:
            return
        # A device zeroes a range without writing it, where it can; its blocks may come back in
        # the same place, so there is no promise to give them up.
        modes = (PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE | KEEP_SIZE)
        for mode in modes if self.is_device else modes[:1]:
            try:
                fallocate(self._fd, mode, offset, end - offset)
                return
            except OSError as error:
                # EBUSY: a device that the system itself uses, a file used for swapping
                if error.errno not in UNSUPPORTED | {errno.EBUSY}:
                    doing = f"give back {end - offset} bytes at offset {offset}"
                    raise self._end(doing, error) from error
        self._write_zeros(offset, end)

    def allocate(self, offset: int, length: int) -> None:
        """As the protocol has it; the length of the file stays, and a refusal changes nothing else.

        A refusal ends nothing: no byte that was written is in doubt.
        """
        self._ready(offset, length)
        if self.is_device or not length:
            return
        doing = f"reserve {length} bytes at offset {offset}"
        room = self.room()
        # Asked first: the system takes all there is before it finds that it is not enough.
        if room is not None and length > room and self._unallocated(offset, length) > room:
            raise self._error(doing, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        try:
            fallocate(self._fd, KEEP_SIZE, offset, length)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return
            self._drop_reserve()
            raise self._error(doing, error) from error

    def done_with(self, offset: int, length: int) -> None:
        if length <= 0 or self._ended is not None:
            return
        # A hint: where the system does nothing about it, it costs memory alone.
        with suppress(OSError):
            os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_DONTNEED)

    def copy(self, source: Storage, source_offset: int, offset: int, length: int) -> None:
        """As the protocol has it; where the source has holes, the copy has them if it can.

        Raises ValueError when both ranges lie in one file and overlap.
        """
        self._ready(offset, length)
        shift = offset - source_offset
        if source.identity() == self.identity() and abs(shift) < length:
            raise ValueError(f"{length} bytes at offset {source_offset} overlap {offset}")
        move = self._move_in_kernel if isinstance(source, LocalFile) else self._move
        at = offset
        for start, run, is_data in source.extents(source_offset, length):
            if is_data:
                move(source, start, start + shift, run)
            else:
                self._clear(start + shift, run)
            at = start + shift + run
        self._clear(at, offset + length - at)

    def set_modified(self, when: int) -> None:
        """Set the time of the last change, ns since 1970, durably; that of reading stays."""
        self._ready()
        try:
            os.utime(self._fd, ns=(self._status().st_atime_ns, when))
            os.fsync(self._fd)  # fdatasync does not write a time that changed alone
        except OSError as error:
            raise self._error("set the time", error) from error

    def __repr__(self) -> str:
        return f"<WritableFile '{safe(self.name)}'>"

    # -- how it fails -----------------------------------------------------------------------------

    def _ready(self, offset: int = 0, length: int = 0) -> None:
        """Let a change begin, or say why there is none."""
        if offset < 0 or length < 0:
            raise ValueError(f"no such place to write: offset {offset}, length {length}")
        if self._ended is not None:
            raise StorageError(f"'{safe(self.name)}' is not changed any more: {self._ended}")

    def _error(self, doing: str, error: OSError) -> StorageError:
        failed = self._failed(doing, error)
        return NoSpaceError(str(failed)) if error.errno in _FULL else failed

    def _end(self, doing: str, error: OSError) -> StorageError:
        """The error to raise; nothing is written after it."""
        failed = self._error(doing, error)
        self._ended = str(failed)
        return failed

    # -- parts of the above -----------------------------------------------------------------------

    def _write(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            try:
                put = os.pwrite(self._fd, view[done:], offset + done)
                if not put:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
            except (OSError, OverflowError) as error:
                if isinstance(error, OverflowError):
                    error = OSError(errno.EFBIG, os.strerror(errno.EFBIG))
                doing = f"write {len(view) - done} bytes at offset {offset + done}"
                raise self._end(doing, error) from error
            done += put

    def _write_zeros(self, offset: int, end: int) -> None:
        zeros = memoryview(_ZEROS)
        while offset < end:
            part = zeros[: end - offset]
            self._write(offset, part)
            offset += len(part)

    def _clear(self, offset: int, length: int) -> None:
        """Make the range read zeros, without writing it where it does so already."""
        if length <= 0:
            return
        for start, run, is_data in list(self.extents(offset, length)):
            if is_data:
                self.punch(start, run)
        end = offset + length
        if end > self.size():
            if self.is_device:
                self._write_zeros(max(offset, self.size()), end)
            else:
                self.truncate(end)

    def _move(self, source: Storage, source_offset: int, offset: int, length: int) -> None:
        super().copy(source, source_offset, offset, length)

    def _move_in_kernel(
        self, source: Storage, source_offset: int, offset: int, length: int
    ) -> None:
        """Let the kernel copy (or share) the blocks; what it does not do is read and written."""
        assert isinstance(source, LocalFile)
        done = 0
        while done < length:
            try:
                got = os.copy_file_range(
                    source.fileno(), self._fd, length - done, source_offset + done, offset + done
                )
            except OSError as error:
                if error.errno in _FULL:
                    doing = f"write {length - done} bytes at offset {offset + done}"
                    raise self._end(doing, error) from error
                break  # it cannot, or it does not say which of the two files failed
            if not got:
                break
            done += got
        if done < length:
            self._move(source, source_offset + done, offset + done, length - done)

    def _unallocated(self, offset: int, length: int) -> int:
        """Bytes of the range that are holes or lie beyond the end."""
        return length - sum(run for _, run, is_data in self.extents(offset, length) if is_data)

    def _drop_reserve(self) -> None:
        """Free what a refused reservation got beyond the end of the file."""
        try:
            os.ftruncate(self._fd, self.size())
        except OSError as error:
            raise self._end("keep the length", error) from error
