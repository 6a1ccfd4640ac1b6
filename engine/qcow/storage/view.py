"""A storage seen through another object: the frame of those that change what a reader sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .base import Storage, WritableBuffer


class StorageView(Storage):
    """``base`` as it is; subclasses say what differs.  Closing it closes nothing."""

    def __init__(self, base: Storage) -> None:
        self.name = base.name
        self.path = base.path
        self._base = base

    def size(self) -> int:
        return self._base.size()

    def read(self, offset: int, length: int) -> bytes:
        return self._base.read(offset, length)

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        return self._base.read_into(offset, buffer)

    def read_pieces(self, offsets: Sequence[int], piece: int, buffer: memoryview) -> None:
        self._base.read_pieces(offsets, piece, buffer)

    def extents(
        self, offset: int = 0, length: int | None = None
    ) -> Iterator[tuple[int, int, bool]]:
        return self._base.extents(offset, length)

    def allocated_bytes(self) -> int | None:
        return self._base.allocated_bytes()

    def identity(self) -> tuple[int, int] | None:
        return self._base.identity()

    def modified(self) -> tuple[int, int]:
        return self._base.modified()

    def close(self) -> None:
        """The base stays its owner's."""
