"""Bytes in memory behind the same seam: for tests, and for structures cut out of a larger file."""

from __future__ import annotations

from collections.abc import Iterator

from .base import Storage, WritableBuffer


class MemoryStorage(Storage):
    """``data`` as a storage; it has no path, so nothing can be referred to from it."""

    def __init__(self, data: bytes | bytearray | memoryview, name: str = "memory") -> None:
        self._data = memoryview(data).cast("B")
        self.name = name
        self.path = None

    def size(self) -> int:
        return len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise ValueError(f"no such place to read: offset {offset}, length {length}")
        return bytes(self._data[offset : offset + length])

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        if offset < 0:
            raise ValueError(f"no such place to read: offset {offset}")
        view = memoryview(buffer)
        found = self._data[offset : offset + len(view)]
        view[: len(found)] = found
        return len(found)

    def extents(
        self, offset: int = 0, length: int | None = None
    ) -> Iterator[tuple[int, int, bool]]:
        end = len(self._data) if length is None else min(len(self._data), offset + length)
        if offset < end:
            yield offset, end - offset, True

    def allocated_bytes(self) -> int | None:
        return None

    def identity(self) -> tuple[int, int] | None:
        return None

    def modified(self) -> tuple[int, int]:
        return len(self._data), 0

    def close(self) -> None:
        """Nothing is held."""
