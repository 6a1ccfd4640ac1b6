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


class Segment(NamedTuple):
    """``entries`` adjacent words at ``offset`` that ``times`` tables contain.

    ``owner`` is the lowest of them, ``number`` the one the first word has there.
    """

    offset: int
    entries: int
    times: int
    owner: int
    number: int


class Words(NamedTuple):
    """Entries that are not zero.  uint64[n] native; int64[n] each: see :class:`Segment`."""

    values: U64
    times: I64
    owner: I64
    number: I64


def segments(regions: Sequence[TableRegion]) -> list[Segment]:
    """``regions`` cut so that no word is in two segments, by ascending offset."""
    ordered = sorted(region for region in regions if region.entries)
    end = 0
    for region in ordered:
        if region.offset < end:
            return _swept(ordered)
        end = region.offset + region.entries * 8
    return [Segment(r.offset, r.entries, 1, r.owner, 0) for r in ordered]


def _swept(ordered: list[TableRegion]) -> list[Segment]:
    cuts = sorted(
        {region.offset for region in ordered}
        | {region.offset + region.entries * 8 for region in ordered}
    )
    found: list[Segment] = []
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
            found.append(Segment(at, (stop - at) // 8, len(ends), owner, (at - offset) // 8))
    return found


def read_words(
    storage: Storage,
    found: Sequence[Segment],
    data: DataMap,
    file_size: int,
    failed: Callable[[int, int], None],
) -> Iterator[Words]:
    """The entries of all segments that are not zero, in bounded batches.

    Bytes beyond the end of the file count as zero; so do bytes the storage cannot read, for which
    ``failed(offset, length)`` is called.
    """
    total = sum(segment.entries for segment in found) * 8
    batch: list[tuple[bytes, Segment]] = []
    pending = 0
    for segment in found:
        length = min(segment.entries * 8, file_size - segment.offset)
        if length <= 0:
            continue
        for offset, size in data.pieces(segment.offset, length, total):
            for at in range(offset, offset + size, _BATCH * 8):
                words = min(_BATCH, -(-(offset + size - at) // 8))
                raw = _read(storage, at, words * 8, failed)
                number = segment.number + (at - segment.offset) // 8
                batch.append((raw, segment._replace(entries=words, number=number)))
                pending += words
                if pending >= _BATCH:
                    yield _decoded(batch)
                    batch, pending = [], 0
    if batch:
        yield _decoded(batch)


def _read(storage: Storage, offset: int, length: int, failed: Callable[[int, int], None]) -> bytes:
    try:
        return storage.read(offset, length).ljust(length, b"\0")
    except StorageError:
        if length <= _SMALL:
            failed(offset, length)
            return bytes(length)
    return b"".join(
        _read(storage, at, min(_SMALL, offset + length - at), failed)
        for at in range(offset, offset + length, _SMALL)
    )


def _decoded(batch: list[tuple[bytes, Segment]]) -> Words:
    values = decode_u64(b"".join(raw for raw, _ in batch))
    used = np.flatnonzero(values)
    lengths = np.array([segment.entries for _, segment in batch], dtype=np.int64)
    ends = np.cumsum(lengths)
    which = np.searchsorted(ends, used, side="right")
    columns = np.array([segment[2:] for _, segment in batch], dtype=np.int64)
    times, owner, number = columns[which].T
    return Words(values[used], times, owner, number + used - (ends - lengths)[which])
