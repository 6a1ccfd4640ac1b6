"""Bytes laid over another storage: what an edit would write, without writing it.

A dry run writes here.  Large copies are remembered as "these bytes come from there", so planning to
move 100 GiB costs neither the time nor the space of doing it.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import StorageError
from .base import ReadableBuffer, Storage, WritableBuffer, WritableStorage


class _Piece(NamedTuple):
    """``[start, end)`` of the overlay reads as ``source`` does from ``at``; None: as zeros."""

    start: int
    end: int
    source: Storage | None
    at: int


class Scratch:
    """An unlinked temporary file that grows by appending; gone when it is closed.

    Threads may read it at once: it is addressed by position.
    """

    def __init__(self) -> None:
        # Open as long as the overlay is.
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self.length = 0

    def append(self, data: ReadableBuffer) -> int:
        """Keep ``data``; where it begins.  Raises StorageError."""
        at = self.length
        view = memoryview(data)
        done = 0
        try:
            while done < len(view):
                done += os.pwrite(self._file.fileno(), view[done:], at + done)
        except OSError as error:
            raise StorageError(
                f"The plan needs room in the temporary folder: {error.strerror}."
            ) from error
        self.length += len(view)
        return at

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        return os.preadv(self._file.fileno(), [buffer], offset)

    def close(self) -> None:
        self._file.close()


class OverlayStorage(WritableStorage):
    """``base`` as it would be after the writes made here; ``base`` is never written."""

    def __init__(self, base: Storage) -> None:
        self._base = base
        self._scratch = Scratch()
        self._starts: list[int] = []
        self._pieces: list[_Piece] = []
        self._size = base.size()
        #: Bytes of ``base`` that still show through end here; a truncation lowers it.
        self._base_end = self._size
        self.name = base.name
        self.path = base.path

    # ---- writing

    def write(self, offset: int, data: ReadableBuffer) -> None:
        if len(data):
            self._lay(offset, len(data), self._own, self._scratch.append(data))

    def promise(self, offset: int, length: int) -> None:
        """Note that the range will be written, without its content: it reads as zeros here."""
        self._lay(offset, length, None, 0)

    def copy(self, source: Storage, source_offset: int, offset: int, length: int) -> None:
        if source is not self:
            self._lay(offset, length, source, source_offset)
            return
        # What is laid over the source later must not show in the copy: name where it comes from.
        end = source_offset + length
        index = max(0, bisect_right(self._starts, source_offset) - 1)
        found: list[_Piece] = []
        at = source_offset
        while at < end:
            while index < len(self._pieces) and self._pieces[index].end <= at:
                index += 1
            piece = self._pieces[index] if index < len(self._pieces) else None
            if piece is not None and piece.start <= at:
                stop = min(piece.end, end)
                place = piece.at + at - piece.start
                found.append(_Piece(at, stop, piece.source, place))
            else:
                stop = end if piece is None else min(piece.start, end)
                shown = min(stop, max(at, self._base_end))
                if shown > at:
                    found.append(_Piece(at, shown, self._base, at))
                if stop > shown:
                    found.append(_Piece(shown, stop, None, 0))
            at = stop
        for piece in found:
            to = offset + piece.start - source_offset
            self._lay(to, piece.end - piece.start, piece.source, piece.at)

    def punch(self, offset: int, length: int) -> None:
        length = min(length, self._size - offset)
        self._lay(offset, length, None, 0)

    def truncate(self, length: int) -> None:
        if length < self._size:
            self._cut(length, self._size)
            self._base_end = min(self._base_end, length)
        self._size = length

    def flush(self) -> None:
        """Nothing here lasts."""

    def allocate(self, offset: int, length: int) -> None:
        self._size = max(self._size, offset + length)

    # ---- reading

    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self._size - offset))
        buffer = bytearray(length)
        self.read_into(offset, buffer)
        return bytes(buffer)

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        view = memoryview(buffer)
        wanted = max(0, min(len(view), self._size - offset))
        end = offset + wanted
        index = max(0, bisect_right(self._starts, offset) - 1)
        at = offset
        while at < end:
            while index < len(self._pieces) and self._pieces[index].end <= at:
                index += 1
            piece = self._pieces[index] if index < len(self._pieces) else None
            if piece is None or piece.start >= end:
                self._from_base(at, view[at - offset : end - offset])
                break
            if piece.start > at:
                self._from_base(at, view[at - offset : piece.start - offset])
                at = piece.start
            stop = min(piece.end, end)
            part = view[at - offset : stop - offset]
            got = 0
            if piece.source is not None:
                got = piece.source.read_into(piece.at + at - piece.start, part)
            part[got:] = bytes(len(part) - got)
            at = stop
        return wanted

    def extents(
        self, offset: int = 0, length: int | None = None
    ) -> Iterator[tuple[int, int, bool]]:
        end = self._size if length is None else min(self._size, offset + length)
        at = offset
        index = max(0, bisect_right(self._starts, offset) - 1)
        while at < end:
            while index < len(self._pieces) and self._pieces[index].end <= at:
                index += 1
            piece = self._pieces[index] if index < len(self._pieces) else None
            if piece is not None and piece.start <= at:
                stop = min(piece.end, end)
                if piece.source is None or isinstance(piece.source, _ScratchReader):
                    yield at, stop - at, piece.source is not None
                else:
                    yield from _shifted(piece, at, stop)
                at = stop
                continue
            stop = end if piece is None else min(piece.start, end)
            covered = at
            if at < self._base_end:
                for run in self._base.extents(at, min(stop, self._base_end) - at):
                    yield run
                    covered = run[0] + run[1]
            if covered < stop:
                yield covered, stop - covered, False
            at = stop

    def allocated_bytes(self) -> int | None:
        """That of the base until something is laid over it."""
        untouched = not self._pieces and self._size == self._base_end == self._base.size()
        return self._base.allocated_bytes() if untouched else None

    def room(self) -> int | None:
        return self._base.room()

    def identity(self) -> tuple[int, int] | None:
        return self._base.identity()

    def modified(self) -> tuple[int, int]:
        return self._size, self._base.modified()[1]

    def close(self) -> None:
        """Forget what was laid over; the base belongs to who opened it."""
        self._scratch.close()

    # ---- pieces

    @property
    def _own(self) -> Storage:
        return _ScratchReader(self._scratch)

    def _from_base(self, offset: int, part: memoryview) -> None:
        length = max(0, min(len(part), self._base_end - offset))
        got = self._base.read_into(offset, part[:length]) if length else 0
        part[got:] = bytes(len(part) - got)

    def _lay(self, offset: int, length: int, source: Storage | None, at: int) -> None:
        if length <= 0:
            return
        end = offset + length
        index = self._cut(offset, end)
        before = self._pieces[index - 1] if index else None
        if before is not None and before.end == offset and _continues(before, source, at):
            self._pieces[index - 1] = before._replace(end=end)
        else:
            self._starts.insert(index, offset)
            self._pieces.insert(index, _Piece(offset, end, source, at))
        self._size = max(self._size, end)

    def _cut(self, start: int, end: int) -> int:
        """Forget what lies in ``[start, end)``; the index where a piece for it belongs."""
        first = bisect_left(self._starts, start)
        if first and self._pieces[first - 1].end > start:
            first -= 1
        last = first
        kept: list[_Piece] = []
        while last < len(self._pieces) and self._pieces[last].start < end:
            piece = self._pieces[last]
            if piece.start < start:
                kept.append(piece._replace(end=start))
            if piece.end > end:
                kept.append(piece._replace(start=end, at=piece.at + (end - piece.start)))
            last += 1
        self._pieces[first:last] = kept
        self._starts[first:last] = [piece.start for piece in kept]
        return bisect_left(self._starts, start)


def _continues(before: _Piece, source: Storage | None, at: int) -> bool:
    if before.source is None or source is None:
        return before.source is source
    same = before.source is source or (
        isinstance(before.source, _ScratchReader) and isinstance(source, _ScratchReader)
    )
    return same and before.at + (before.end - before.start) == at


def _shifted(piece: _Piece, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
    """The runs of ``[start, stop)`` of a copied piece: a copy has holes where its source has."""
    assert piece.source is not None
    shift = piece.start - piece.at
    at = start
    for begin, length, is_data in piece.source.extents(start - shift, stop - start):
        yield begin + shift, length, is_data
        at = begin + shift + length
    if at < stop:
        yield at, stop - at, False


class _ScratchReader(Storage):
    """The scratch file as the source of a piece."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self.name = "scratch"
        self.path = None

    def size(self) -> int:
        return self._scratch.length

    def read(self, offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        return bytes(buffer[: self.read_into(offset, buffer)])

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        return self._scratch.read_into(offset, buffer)

    def extents(
        self, offset: int = 0, length: int | None = None
    ) -> Iterator[tuple[int, int, bool]]:
        yield offset, self.size() - offset if length is None else length, True

    def allocated_bytes(self) -> int | None:
        return None

    def identity(self) -> tuple[int, int] | None:
        return None

    def modified(self) -> tuple[int, int]:
        return self.size(), 0

    def close(self) -> None:
        """The overlay closes the file."""
