"""The write guard: in production, every byte on its way to the file is checked.

Whatever an action or the transaction gets wrong, no byte that the durable root reaches or counts,
or that undo would need, can be overwritten through this storage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import VerificationError
from ..storage.base import ReadableBuffer, Storage, WritableBuffer, WritableStorage
from ..storage.overlay import OverlayStorage
from .ledger import HELD, LIVE, Ledger

#: Bytes written side by side that are looked after: what is less finds its own way to the disk.
_LONG = 256 << 10
#: Bytes of which the disk is told at a time.
_AHEAD = 16 << 20


class WriteGuard(WritableStorage):
    """``storage`` with writes allowed only to clusters that ``ledger`` marks neither LIVE nor HELD.

    The first cluster is the header's: it is changed by the switch alone, which does not go through
    the guard.  Raises VerificationError for a write that would harm; nothing of it is written.
    """

    def __init__(self, storage: WritableStorage, ledger: Ledger, cluster_bits: int) -> None:
        self._storage = storage
        self._ledger = ledger
        self._bits = cluster_bits
        self.name = storage.name
        self.path = storage.path
        #: Bytes written so far.
        self.written = 0
        #: (start, end) of long stretches of bytes written, in the order of writing.
        self._long: list[tuple[int, int]] = []
        self._begun = 0  # where the last one is not on its way to the disk yet

    def write(self, offset: int, data: ReadableBuffer) -> None:
        self._allow(offset, len(data))
        self._storage.write(offset, data)
        self.written += len(data)
        self._note(offset, len(data))

    def copy(self, source: Storage, source_offset: int, offset: int, length: int) -> None:
        self._allow(offset, length)
        self._storage.copy(source, source_offset, offset, length)
        self.written += length
        self._note(offset, length)

    def done_with(self, offset: int, length: int) -> None:
        self._storage.done_with(offset, length)

    def let_go(self) -> None:
        """Give up the memory of all that was written in long stretches.

        For when all of it is durable and was compared: then nothing reads it soon.
        """
        for start, end in self._long:
            self._storage.done_with(start, end - start)
        self._long.clear()

    def promise(self, offset: int, length: int) -> None:
        """In a dry run: count the range as written, without its content."""
        assert isinstance(self._storage, OverlayStorage), "only what is laid over can be promised"
        self._allow(offset, length)
        self._storage.promise(offset, length)
        self.written += length

    def allocate(self, offset: int, length: int) -> None:
        self._allow(offset, length)
        self._storage.allocate(offset, length)

    def punch(self, offset: int, length: int) -> None:
        self._allow(offset, length)
        self._storage.punch(offset, length)

    def truncate(self, length: int) -> None:
        end = self._storage.size()
        if length < end:
            self._allow(length, end - length)
        self._storage.truncate(length)

    def flush(self) -> None:
        self._storage.flush()

    def _note(self, offset: int, length: int) -> None:
        """Let the disk begin with long stretches at once, so that the flush is soon over."""
        if length < _LONG:
            return  # tables, which are read again
        if self._long and self._long[-1][1] == offset:
            self._long[-1] = self._long[-1][0], offset + length
        else:
            self._long.append((offset, offset + length))
            self._begun = offset
        end = offset + length
        if end - self._begun >= _AHEAD:
            self._storage.done_with(self._begun, end - self._begun)
            self._begun = end

    def _allow(self, offset: int, length: int) -> None:
        if length <= 0:
            return
        first = offset >> self._bits
        stop = ((offset + length - 1) >> self._bits) + 1
        marks = self._ledger.marks_in(first, stop)
        # The header cluster is live even in an image whose counts say otherwise.
        bad = np.flatnonzero(marks & (LIVE | HELD))
        if first == 0 or len(bad):
            at = 0 if first == 0 else (first + int(bad[0])) << self._bits
            raise VerificationError(
                f"A write to the live cluster at {at:#x} was stopped before it happened: nothing "
                "was changed.  Please report this."
            )

    # ---- reading goes through

    def size(self) -> int:
        return self._storage.size()

    def read(self, offset: int, length: int) -> bytes:
        return self._storage.read(offset, length)

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        return self._storage.read_into(offset, buffer)

    def read_pieces(self, offsets: Sequence[int], piece: int, buffer: memoryview) -> None:
        self._storage.read_pieces(offsets, piece, buffer)

    def extents(
        self, offset: int = 0, length: int | None = None
    ) -> Iterator[tuple[int, int, bool]]:
        return self._storage.extents(offset, length)

    def allocated_bytes(self) -> int | None:
        return self._storage.allocated_bytes()

    def identity(self) -> tuple[int, int] | None:
        return self._storage.identity()

    def modified(self) -> tuple[int, int]:
        return self._storage.modified()

    def close(self) -> None:
        self._storage.close()
