"""The image as it will be after the switch: the file, with the patches of the switch seen in it."""

from __future__ import annotations

from collections.abc import Sequence

from ..storage.base import Storage, WritableBuffer
from ..storage.view import StorageView
from .patch import Patch


class CandidateStorage(StorageView):
    """``base`` with each patch applied, for the checker to read before anything is live.

    Extents are those of ``base``: a patch may lie in a hole of the file, but never far, and the
    header is data everywhere.
    """

    def __init__(self, base: Storage, patches: Sequence[Patch]) -> None:
        super().__init__(base)
        self._patches = tuple(patches)
        self._end = max((p.offset + len(p.after) for p in patches), default=0)

    def read(self, offset: int, length: int) -> bytes:
        data = super().read(offset, length)
        if offset >= self._end:
            return data
        changed = bytearray(data)
        self._apply(offset, memoryview(changed))
        return bytes(changed)

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        got = super().read_into(offset, buffer)
        if offset < self._end:
            self._apply(offset, memoryview(buffer)[:got])
        return got

    def read_pieces(self, offsets: Sequence[int], piece: int, buffer: memoryview) -> None:
        super().read_pieces(offsets, piece, buffer)
        if len(offsets) and min(offsets) < self._end:
            for index, offset in enumerate(offsets):
                if offset < self._end:
                    self._apply(offset, buffer[index * piece : (index + 1) * piece])

    def _apply(self, offset: int, view: memoryview) -> None:
        end = offset + len(view)
        for patch in self._patches:
            start = max(offset, patch.offset)
            stop = min(end, patch.offset + len(patch.after))
            if start < stop:
                view[start - offset : stop - offset] = patch.after[
                    start - patch.offset : stop - patch.offset
                ]
