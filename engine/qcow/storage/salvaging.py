"""Reading tables from a disk with bad sectors: what cannot be read must not look like anything."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import StorageError
from .base import Storage
from .view import StorageView

_SECTOR = 512
#: As a table entry this is a pointer that no reader takes for one, whatever the table.
_POISON = b"\xff" * _SECTOR


class SalvagingStorage(StorageView):
    """``base``, where sectors of tables that cannot be read come as 0xff instead of an error.

    Tables are what :meth:`read_pieces` reads, and :meth:`read` within ``tables`` ((offset, length)
    in bytes).  All other reads fail as those of ``base`` do.  ``bad``: host offsets of the sectors
    that were given up.  Closing it closes nothing.
    """

    def __init__(self, base: Storage, tables: Sequence[tuple[int, int]] = ()) -> None:
        super().__init__(base)
        self.bad: set[int] = set()
        self._tables = tuple(tables)

    def read(self, offset: int, length: int) -> bytes:
        try:
            return self._base.read(offset, length)
        except StorageError:
            inside = any(at <= offset and offset + length <= at + n for at, n in self._tables)
            if not inside:
                raise
            buffer = bytearray(max(0, min(length, self.size() - offset)))
            self._salvage(offset, memoryview(buffer))
            return bytes(buffer)

    def read_pieces(self, offsets: Sequence[int], piece: int, buffer: memoryview) -> None:
        try:
            self._base.read_pieces(offsets, piece, buffer)
            return
        except StorageError:
            pass
        for index, offset in enumerate(offsets):
            part = buffer[index * piece : (index + 1) * piece]
            try:
                self._base.read_pieces([offset], piece, part)
            except StorageError:
                self._salvage(offset, part)

    def _salvage(self, offset: int, buffer: memoryview) -> None:
        """Sector by sector; what lies beyond the end of the file becomes zeros."""
        for at in range(0, len(buffer), _SECTOR):
            part = buffer[at : at + _SECTOR]
            try:
                got = self._base.read_into(offset + at, part)
                part[got:] = bytes(len(part) - got)
            except StorageError:
                part[:] = _POISON[: len(part)]
                self.bad.add(offset + at)
