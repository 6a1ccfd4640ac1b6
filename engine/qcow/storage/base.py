"""The seam between this engine and the bytes of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self

#: What a read may fill: one-byte items, contiguous, writable (cast a numpy array to uint8 first).
WritableBuffer = memoryview | bytearray
#: What can be written: one-byte items, contiguous.
ReadableBuffer = bytes | bytearray | memoryview


class Storage(Protocol):
    """A readable run of bytes.  Offsets and lengths are bytes and never negative (ValueError).

    An offset at or beyond the end is no error anywhere: there is nothing there.  Reading keeps no
    position, so threads may share a storage.  What the operating system refuses raises
    :class:`~qcow.errors.StorageError`, which names the file and the place.
    """

    #: A path or a label, raw text: it goes through ``safe()`` before it is shown.
    name: str
    #: The path it was opened by, from which relative references resolve; None where there is none.
    path: str | None

    def size(self) -> int:
        """Bytes up to the end of the file, or of the device; asked anew on every call."""

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; fewer only at the end of the file.

        Memory is bounded by the bytes up to the end, however large ``length`` is.
        """

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        """Fill ``buffer`` from ``offset``; the number of bytes read, less only at the end."""

    def read_pieces(self, offsets: Sequence[int], piece: int, buffer: memoryview) -> None:
        """Read ``piece`` bytes from each of ``offsets`` into ``buffer``, one after the other.

        The buffer holds at least ``len(offsets) * piece`` one-byte items.  Bytes beyond the end of
        the file become zeros.  Offsets are Python ints in any order.
        """
        for index, offset in enumerate(offsets):
            part = buffer[index * piece : (index + 1) * piece]
            got = self.read_into(offset, part)
            part[got:] = bytes(len(part) - got)

    def extents(
        self, offset: int = 0, length: int | None = None
    ) -> Iterator[tuple[int, int, bool]]:
        """``(start, length, is_data)`` for each run from ``offset`` on, without gaps, in order.

        A run that is not data is a hole: it reads as zeros.  Nothing is yielded beyond the end.
        Where the system cannot tell, the whole range is one run of data.
        """

    def allocated_bytes(self) -> int | None:
        """Bytes the file occupies on its host (``disk size`` of qemu-img); None when unknown.

        A block device occupies 0, as qemu-img prints.
        """

    def room(self) -> int | None:
        """Bytes this process could still allocate on the file system; None when unknown.

        A block device has no more than it has: None.
        """
        return None

    def identity(self) -> tuple[int, int] | None:
        """``(st_dev, st_ino)``: equal for two names of one file; None when it is no file."""

    def modified(self) -> tuple[int, int]:
        """``(size, mtime in ns)``: cheap, and different after somebody wrote."""

    def close(self) -> None:
        """Let go of the file; closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class WritableStorage(Storage, Protocol):
    """A storage that can be changed; only the transaction and what it is made of use this.

    A write is durable after the next :meth:`flush` and not before.  The first write, truncate,
    punch or flush that fails raises StorageError (NoSpaceError for a full disk) and ends the
    storage's life as a writable one: everything after it raises too, because the kernel may have
    dropped pages that it reported as written (see fsync(2)).  Reading goes on working.
    """

    def write(self, offset: int, data: ReadableBuffer) -> None:
        """Write all of ``data`` at ``offset``; a file grows as needed, a device never."""

    def flush(self) -> None:
        """Return when everything written so far is durable (fdatasync)."""

    def truncate(self, length: int) -> None:
        """Make the file ``length`` bytes long.  ValueError on a device."""

    def punch(self, offset: int, length: int) -> None:
        """Give the range back to the host and read zeros from it; the length stays.

        Where the host cannot free it, the range is written with zeros.
        """

    def allocate(self, offset: int, length: int) -> None:
        """Make sure that writing the range cannot fail for lack of space; a file may grow.

        Where the host cannot promise that, nothing happens.  Raises NoSpaceError.
        """

    def done_with(self, offset: int, length: int) -> None:
        """Tell the host that the range is not needed soon: a hint that changes no byte.

        What was written there begins its way to the disk, and what arrived there gives up its
        memory, which the next bytes then take.  Without it a long copy fills all memory there is.
        """
        return

    def copy(self, source: Storage, source_offset: int, offset: int, length: int) -> None:
        """Write ``length`` bytes of ``source`` here; what lies beyond its end counts as zeros.

        Data and holes are both written: afterwards the range reads as the source did.
        """
        step = 1 << 20
        buffer = bytearray(min(step, length))
        done = 0
        while done < length:
            part = memoryview(buffer)[: min(step, length - done)]
            got = source.read_into(source_offset + done, part)
            part[got:] = bytes(len(part) - got)
            self.write(offset + done, part)
            done += len(part)
