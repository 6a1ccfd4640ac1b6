"""Tables of 64-bit entries that may lie anywhere, even over each other: read each byte once.

Thousands of snapshots may claim the same megabytes as their L1 table.  The claims are cut into
segments that are claimed equally often, so that the work is bounded by the bytes of the file.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ...errors import StorageError
from ...layout.tables import I64, U64, decode_u64
from ...record import record
from ...storage.base import Storage
from .presence import DataMap

#: Entries decoded at a time.
_BATCH = 1 << 17
#: Around a bad sector, bytes are read in pieces of this size.
_SMALL = 4096


class TableRegion(NamedTuple):
    """A table of ``entries`` words at host offset ``offset`` (a multiple of 8).

    ``owner`` is a number the caller gives meaning to; entry 0 has the number 0 there.
    """

    offset: int
    entries: int
    owner: int


class Segments(NamedTuple):
    """Stretches of words that lie apart, by ascending offset; int64 arrays of one length.

    ``entries`` words from ``offset`` on are in ``times`` tables.  ``owner`` is the lowest of those,
    ``number`` the one that the first word has there.
    """

    offset: I64
    entries: I64
    times: I64
    owner: I64
    number: I64


@record
class Words:
    """Entries that are not zero.  uint64[n] native; int64[n] each: see :class:`Segments`."""

    values: U64
    times: I64
    owner: I64
    number: I64


def segments(regions: Sequence[TableRegion], file_size: int) -> Segments:
    """``regions`` cut so that no word is in two segments, without what lies beyond the file."""
    ordered = sorted(region for region in regions if region.entries and region[0] < file_size)
    columns = np.array(ordered, dtype=np.int64).reshape(-1, 3)
    offset, entries, owner = (column.copy() for column in columns.T)
    if bool((offset[1:] < offset[:-1] + entries[:-1] * 8).any()):
        return _swept(ordered)
    return Segments(offset, entries, np.ones_like(offset), owner, np.zeros_like(offset))


def _swept(ordered: list[TableRegion]) -> Segments:
    cuts = sorted(
        {region.offset for region in ordered}
        | {region.offset + region.entries * 8 for region in ordered}
    )
    found: list[tuple[int, int, int, int, int]] = []
    open_by_owner: list[tuple[int, int, int]] = []  # (owner, end, offset)
    ends: list[int] = []
    following = 0
    for at, stop in pairwise(cuts):
        while following < len(ordered) and ordered[following].offset == at:
            offset, entries, owner = ordered[following]
            heapq.heappush(open_by_owner, (owner, offset + entries * 8, offset))
            heapq.heappush(ends, offset + entries * 8)
            following += 1
        while ends and ends[0] <= at:
            heapq.heappop(ends)
        while open_by_owner and open_by_owner[0][1] <= at:
            heapq.heappop(open_by_owner)
        if ends:
            owner, _, offset = open_by_owner[0]
            found.append((at, (stop - at) // 8, len(ends), owner, (at - offset) // 8))
    return Segments(*np.array(found, dtype=np.int64).T.copy())


def read_words(
    storage: Storage,
    found: Segments,
    data: DataMap,
    failed: Callable[[int, int], None],
) -> Iterator[Words]:
    """The entries of all segments that are not zero, in bounded batches.

    Bytes beyond the end of the file count as zero; so do bytes the storage cannot read, for which
    ``failed(offset, length)`` is called.
    """
    pieces = _Pieces()
    total = int(found.entries.sum()) * 8
    for offset, entries, *facts in zip(*(column.tolist() for column in found), strict=True):
        times, owner, number = facts
        for start, length in data.pieces(offset, entries * 8, total):
            for at in range(start, start + length, _BATCH * 8):
                words = min(_BATCH, (start + length - at) // 8)
                raw = _read(storage, at, words * 8, failed)
                pieces.add(raw, words, times, owner, number + (at - offset) // 8)
                if pieces.words >= _BATCH:
                    yield pieces.decoded()
                    pieces = _Pieces()
    if pieces.words:
        yield pieces.decoded()


class _Pieces:
    """Parts of segments that are decoded together."""

    def __init__(self) -> None:
        self.words = 0
        self._raw: list[bytes] = []
        self._rows: list[tuple[int, int, int, int]] = []

    def add(self, raw: bytes, words: int, times: int, owner: int, number: int) -> None:
        self.words += words
        self._raw.append(raw)
        self._rows.append((words, times, owner, number))

    def decoded(self) -> Words:
        values = decode_u64(b"".join(self._raw))
        used = np.flatnonzero(values)
        lengths, times, owner, number = np.array(self._rows, dtype=np.int64).T
        ends = np.cumsum(lengths)
        which = np.searchsorted(ends, used, side="right")
        inside = used - (ends - lengths)[which]
        return Words(values[used], times[which], owner[which], number[which] + inside)


def _read(storage: Storage, offset: int, length: int, failed: Callable[[int, int], None]) -> bytes:
    try:
        raw = storage.read(offset, length)
    except StorageError:
        if length <= _SMALL:
            failed(offset, length)
            return bytes(length)
        return b"".join(
            _read(storage, at, min(_SMALL, offset + length - at), failed)
            for at in range(offset, offset + length, _SMALL)
        )
    return raw if len(raw) == length else raw.ljust(length, b"\0")
