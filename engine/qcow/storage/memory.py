"""Bytes in memory behind the same seam: for tests, and for structures cut out of a larger file."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import NoSpaceError
from .base import ReadableBuffer, Storage, WritableBuffer, WritableStorage


class MemoryStorage(Storage):
    """``data`` as a storage; it has no path, so nothing can be referred to from it."""

    def __init__(self, data: bytes | bytearray | memoryview, name: str = "memory") -> None:
        self._data: memoryview | bytearray = memoryview(data).cast("B")
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


class WritableMemory(MemoryStorage, WritableStorage):
    """A growing copy of ``data`` that can be changed; ``limit`` is the size it never exceeds."""

    def __init__(
        self,
        data: bytes | bytearray | memoryview = b"",
        name: str = "memory",
        *,
        limit: int | None = None,
    ) -> None:
        super().__init__(b"", name)
        # Not a view, which would forbid the array to grow.
        self._data = self._bytes = bytearray(data)
        self._limit = limit

    def contents(self) -> bytes:
        """A copy of everything."""
        return bytes(self._bytes)

    def write(self, offset: int, data: ReadableBuffer) -> None:
        self._check(offset, len(data))
        if data:
            if offset > self.size():
                self._bytes.extend(bytes(offset - self.size()))
            self._bytes[offset : offset + len(data)] = data

    def flush(self) -> None:
        """Memory is as durable as it gets."""

    def truncate(self, length: int) -> None:
        self._check(0, length)
        del self._bytes[length:]
        self._bytes.extend(bytes(length - self.size()))

    def punch(self, offset: int, length: int) -> None:
        self._check(offset, 0)
        found = len(self._bytes[offset : offset + length])
        self._bytes[offset : offset + found] = bytes(found)

    def allocate(self, offset: int, length: int) -> None:
        self._check(offset, length)

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0:
            raise ValueError(f"no such place to write: offset {offset}, length {length}")
        if length and self._limit is not None and offset + length > self._limit:
            raise NoSpaceError(f"Could not write {length} bytes at offset {offset}: memory is full")
