"""The image as it will be after the switch: the file, with the patches of the switch seen in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..storage.base import Storage, WritableBuffer
from .patch import Patch


class CandidateStorage(Storage):
    """``base`` with each patch applied, for the checker to read before anything is live."""

    def __init__(self, base: Storage, patches: Sequence[Patch]) -> None:
        self._base = base
        self._patches = tuple(patches)
        self._end = max((p.offset + len(p.after) for p in patches), default=0)
        self.name = base.name
        self.path = base.path

    def size(self) -> int:
        return self._base.size()

    def read(self, offset: int, length: int) -> bytes:
        data = self._base.read(offset, length)
        if offset >= self._end:
            return data
        changed = bytearray(data)
        self._apply(offset, memoryview(changed))
        return bytes(changed)

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        got = self._base.read_into(offset, buffer)
        if offset < self._end:
            self._apply(offset, memoryview(buffer)[:got])
        return got

    def read_pieces(self, offsets: Sequence[int], piece: int, buffer: memoryview) -> None:
        self._base.read_pieces(offsets, piece, buffer)
        if len(offsets) and min(offsets) < self._end:
            for index, offset in enumerate(offsets):
                if offset < self._end:
                    self._apply(offset, buffer[index * piece : (index + 1) * piece])

    def extents(
        self, offset: int = 0, length: int | None = None
    ) -> Iterator[tuple[int, int, bool]]:
        # A patch may lie where the file has a hole, but never far: the header is data everywhere.
        return self._base.extents(offset, length)

    def allocated_bytes(self) -> int | None:
        return self._base.allocated_bytes()

    def identity(self) -> tuple[int, int] | None:
        return self._base.identity()

    def modified(self) -> tuple[int, int]:
        return self._base.modified()

    def close(self) -> None:
        """The base belongs to who opened it."""

    def _apply(self, offset: int, view: memoryview) -> None:
        end = offset + len(view)
        for patch in self._patches:
            start = max(offset, patch.offset)
            stop = min(end, patch.offset + len(patch.after))
            if start < stop:
                view[start - offset : stop - offset] = patch.after[
                    start - patch.offset : stop - patch.offset
                ]
