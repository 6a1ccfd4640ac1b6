"""Storages that tests put between the engine and the bytes: one writes down, one fails on purpose.

Both forward to a :class:`~qcow.storage.base.WritableStorage` and are one themselves, so that they
can be stacked: ``RecordingStorage(FaultyStorage(WritableMemory(image), ...))``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum

from qcow.errors import NoSpaceError, StorageError
from qcow.storage.base import ReadableBuffer, WritableBuffer, WritableStorage
from tests.crash.enumerate import Op


class Forwarding(WritableStorage):
    """Everything goes to ``inner``."""

    def __init__(self, inner: WritableStorage) -> None:
        self.inner = inner
        self.name = inner.name
        self.path = inner.path

    def size(self) -> int:
        return self.inner.size()

    def read(self, offset: int, length: int) -> bytes:
        return self.inner.read(offset, length)

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        return self.inner.read_into(offset, buffer)

    def extents(
        self, offset: int = 0, length: int | None = None
    ) -> Iterator[tuple[int, int, bool]]:
        return self.inner.extents(offset, length)

    def allocated_bytes(self) -> int | None:
        return self.inner.allocated_bytes()

    def identity(self) -> tuple[int, int] | None:
        return self.inner.identity()

    def modified(self) -> tuple[int, int]:
        return self.inner.modified()

    def close(self) -> None:
        self.inner.close()

    def write(self, offset: int, data: ReadableBuffer) -> None:
        self.inner.write(offset, data)

    def flush(self) -> None:
        self.inner.flush()

    def truncate(self, length: int) -> None:
        self.inner.truncate(length)

    def punch(self, offset: int, length: int) -> None:
        self.inner.punch(offset, length)

    def allocate(self, offset: int, length: int) -> None:
        self.inner.allocate(offset, length)


class RecordingStorage(Forwarding):
    """Writes down in ``ops`` every change that succeeded, in the terms of the crash enumerator.

    Storages that are given one list between them note in it which of two files an operation is for
    when each has its ``file`` number: see :func:`tests.crash.enumerate.states_of_two`.
    """

    def __init__(
        self,
        inner: WritableStorage,
        *,
        shared: list[tuple[int, Op]] | None = None,
        file: int = 0,
    ) -> None:
        super().__init__(inner)
        self.ops: list[Op] = []
        self._shared = shared
        self._file = file

    def write(self, offset: int, data: ReadableBuffer) -> None:
        super().write(offset, data)
        self._note(("w", offset, bytes(data)))

    def flush(self) -> None:
        super().flush()
        self._note(("b",))

    def truncate(self, length: int) -> None:
        super().truncate(length)
        self._note(("t", length))

    def punch(self, offset: int, length: int) -> None:
        super().punch(offset, length)
        self._note(("p", offset, length))

    def allocate(self, offset: int, length: int) -> None:
        before = self.size()
        super().allocate(offset, length)
        if self.size() != before:
            self._note(("t", self.size()))

    def _note(self, op: Op) -> None:
        self.ops.append(op)
        if self._shared is not None:
            self._shared.append((self._file, op))


class Killed(BaseException):
    """The process ended here.  Nothing in the engine may catch it."""


class Fault(Enum):
    """What goes wrong at the chosen call; a flush or a truncate knows no half."""

    EIO = "eio"  # nothing of it happened
    ENOSPC = "enospc"  # the same, and the disk is full
    SHORT = "short"  # the first half is written, then an error
    KILL = "kill"  # the process ends before the call
    KILL_HALFWAY = "kill halfway"  # after the first half of it
    KILL_AFTER = "kill after"  # after the whole of it


class FaultyStorage(Forwarding):
    """Fails at the call number ``at`` (from 0), and ends as a writable storage there.

    Calls counted are write, flush, truncate, punch and allocate (a copy counts as its writes), and
    with ``reads`` also each read.  A read fails only once and ends nothing.  A fault of a kind
    that a call cannot have (ENOSPC of a flush) becomes EIO.  A test loops over ``at`` until
    :attr:`struck` stays False: then ``at`` exceeds the number of calls.
    """

    def __init__(
        self, inner: WritableStorage, at: int, fault: Fault, *, reads: bool = False
    ) -> None:
        super().__init__(inner)
        self.at = at
        self.fault = fault
        self.reads = reads
        #: Calls made so far.
        self.calls = 0
        #: Whether the fault has happened, and at which call.
        self.struck = False
        self.struck_at = ""
        self._ended = False

    def read(self, offset: int, length: int) -> bytes:
        self._read("read")
        return super().read(offset, length)

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        self._read("read")
        return super().read_into(offset, buffer)

    def write(self, offset: int, data: ReadableBuffer) -> None:
        half = len(data) // 2
        self._change(
            "write",
            lambda: super(FaultyStorage, self).write(offset, memoryview(data)[:half]),
            lambda: super(FaultyStorage, self).write(offset, data),
        )

    def flush(self) -> None:
        self._change("flush", None, super().flush)

    def truncate(self, length: int) -> None:
        self._change("truncate", None, lambda: super(FaultyStorage, self).truncate(length))

    def punch(self, offset: int, length: int) -> None:
        self._change(
            "punch",
            lambda: super(FaultyStorage, self).punch(offset, length // 2),
            lambda: super(FaultyStorage, self).punch(offset, length),
        )

    def allocate(self, offset: int, length: int) -> None:
        self._change(
            "allocate",
            None,
            lambda: super(FaultyStorage, self).allocate(offset, length),
            ends=False,
        )

    def _due(self, what: str) -> bool:
        self.calls += 1
        if self.calls - 1 != self.at:
            return False
        self.struck, self.struck_at = True, what
        return True

    def _read(self, what: str) -> None:
        if self.reads and self._due(what):
            if self.fault in _KILLS:
                raise Killed(what)
            raise self._error(what)

    def _change(
        self,
        what: str,
        half: Callable[[], None] | None,
        whole: Callable[[], None],
        *,
        ends: bool = True,
    ) -> None:
        if self._ended:
            self.calls += 1
            raise StorageError(f"'{self.name}' is not changed any more: a call failed before")
        if not self._due(what):
            whole()
            return
        self._ended = ends or self.fault in _KILLS
        if self.fault is Fault.KILL_AFTER:
            whole()
        elif half is not None and self.fault in (Fault.SHORT, Fault.KILL_HALFWAY):
            half()
        if self.fault in _KILLS:
            raise Killed(what)
        raise self._error(what)

    def _error(self, what: str) -> StorageError:
        if what == "allocate" or (self.fault is Fault.ENOSPC and what in ("write", "truncate")):
            return NoSpaceError(f"Could not {what} '{self.name}': No space left on device")
        return StorageError(f"Could not {what} '{self.name}': Input/output error")


_KILLS = (Fault.KILL, Fault.KILL_HALFWAY, Fault.KILL_AFTER)
