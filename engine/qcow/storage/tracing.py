"""Which parts of a file a reader looks at."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Storage, WritableBuffer
from .view import StorageView


class TracingStorage(StorageView):
    """``base``, noting every read as (offset, bytes) in ``reads``; threads may share it.

    Closing it closes nothing.
    """

    def __init__(self, base: Storage) -> None:
        super().__init__(base)
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return super().read(offset, length)

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        self.reads.append((offset, len(buffer)))
        return super().read_into(offset, buffer)

    def read_pieces(self, offsets: Sequence[int], piece: int, buffer: memoryview) -> None:
        self.reads += [(offset, piece) for offset in offsets]
        super().read_pieces(offsets, piece, buffer)
