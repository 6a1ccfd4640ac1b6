"""Storages that no file system of a test machine could hold, or that fail."""

from __future__ import annotations

from collections.abc import Iterator

from qcow.errors import StorageError
from qcow.storage.base import Storage, WritableBuffer
from qcow.storage.memory import MemoryStorage


class SparseStorage(Storage):
    """``length`` bytes of which only ``pieces`` (offset -> content) are not a hole."""

    def __init__(self, length: int, pieces: dict[int, bytes]) -> None:
        self.name = "sparse"
        self.path = None
        self._length = length
        self._pieces = dict(sorted(pieces.items()))
        self.bytes_read = 0

    def size(self) -> int:
        return self._length

    def read(self, offset: int, length: int) -> bytes:
        buffer = bytearray(max(0, min(length, self._length - offset)))
        self.read_into(offset, buffer)
        return bytes(buffer)

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        view = memoryview(buffer)
        wanted = max(0, min(len(view), self._length - offset))
        view[:wanted] = bytes(wanted)
        for start, content in self._pieces.items():
            low, high = max(start, offset), min(start + len(content), offset + wanted)
            if low < high:
                view[low - offset : high - offset] = content[low - start : high - start]
        self.bytes_read += wanted
        return wanted

    def extents(
        self, offset: int = 0, length: int | None = None
    ) -> Iterator[tuple[int, int, bool]]:
        end = self._length if length is None else min(self._length, offset + length)
        at = offset
        for start, content in self._pieces.items():
            stop = min(end, start + len(content))
            if stop <= at:
                continue
            if start > at:
                yield at, start - at, False
            yield max(at, start), stop - max(at, start), True
            at = stop
        if at < end:
            yield at, end - at, False

    def allocated_bytes(self) -> int | None:
        return sum(len(content) for content in self._pieces.values())

    def identity(self) -> tuple[int, int] | None:
        return None

    def modified(self) -> tuple[int, int]:
        return self._length, 0

    def close(self) -> None:
        """Nothing is held."""


class FailingStorage(MemoryStorage):
    """Memory in which some places are bad sectors: ``bad`` has (offset, length) of each."""

    def __init__(self, data: bytes, bad: list[tuple[int, int]]) -> None:
        super().__init__(data)
        self._bad = bad

    def _check(self, offset: int, length: int) -> None:
        for start, count in self._bad:
            if offset < start + count and start < offset + length:
                raise StorageError(f"Could not read {length} bytes at offset {offset}: bad sector")

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return super().read(offset, length)

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        self._check(offset, len(buffer))
        return super().read_into(offset, buffer)
