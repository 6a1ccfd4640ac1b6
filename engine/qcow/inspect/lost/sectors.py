"""Which 512-byte sectors of a file look like parts of tables.

A sector looks like a table when each of its 64 words is zero or an offset into the file with no
other bits than qcow2's flags.  Guest data hardly ever does.  That needs no cluster size, so one
pass over the file serves all that are possible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...jobs import CancelToken
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64
from ...storage.base import Storage
from ...storage.buffers import page_aligned

SECTOR = 512
_WINDOW = 1 << 20
#: Bytes of data that are looked at; behind them tables are found only through other tables.
MOST = 16 << 30
_FLAGS = np.uint64((1 << 63) | (1 << 62) | 1)
_COPIED = np.uint64(1 << 63)
_LOW = np.uint64(0xFFFFFFFF)
#: Extended L2 entries need clusters of at least this size.
_EXTENDED = 16384
_COMPRESSED = np.uint64(1 << 62)


class Sectors(NamedTuple):
    """Sectors that look like tables, ascending: int64[n] ``numbers``; uint64[n] ``joined``: all
    offsets in it combined by OR; int64[n] ``used``: words that are not zero; int64[n] ``copied``:
    those with bit 63.  ``size``: bytes of the file.  ``complete``: whether all of it was seen."""

    numbers: I64
    joined: U64
    used: I64
    copied: I64
    size: int
    complete: bool

    def holds(self, offsets: I64) -> NDArray[np.bool_]:
        """Whether the sector at each of ``offsets`` (host bytes) is among them."""
        if not len(self.numbers):
            return np.zeros(len(offsets), dtype=np.bool_)
        wanted = offsets // SECTOR
        place = np.minimum(np.searchsorted(self.numbers, wanted), len(self.numbers) - 1)
        found: NDArray[np.bool_] = self.numbers[place] == wanted
        return found


Tell = Callable[[int, int], None]


def scan_sectors(
    storage: Storage, cancel: CancelToken | None = None, tell: Tell | None = None
) -> Sectors:
    """Look at every sector of the file that is no hole.  Raises Cancelled, StorageError."""
    size = storage.size()
    found: list[tuple[I64, U64, I64, I64]] = []
    seen = 0
    complete = True
    buffer = page_aligned(_WINDOW).data
    for start, length, is_data in storage.extents():
        if not is_data:
            continue
        first = start - start % SECTOR
        for at in range(first, start + length, _WINDOW):
            if cancel is not None:
                cancel.check()
            if seen >= MOST:
                complete = False
                break
            got = storage.read_into(at, buffer[: min(_WINDOW, start + length - at)])
            if tell is not None:
                tell(at, size)
            seen += got
            part = _judge(buffer[: got - got % SECTOR], at, size)
            if len(part[0]):
                found.append(part)
    if not found:
        nothing = np.zeros(0, dtype=np.int64)
        return Sectors(nothing, nothing.astype(np.uint64), nothing, nothing, size, complete)
    numbers, joined, used, copied = (np.concatenate(each) for each in zip(*found, strict=True))
    return Sectors(numbers, joined, used, copied, size, complete)


def _judge(data: memoryview, at: int, size: int) -> tuple[I64, U64, I64, I64]:
    words = np.frombuffer(data, dtype=">u8").astype(np.uint64).reshape(-1, SECTOR // 8)
    offsets = words & OFFSETS
    packed = (words & _COMPRESSED) != 0
    plain = (words & ~(OFFSETS | _FLAGS)) == 0
    # Compressed descriptors hold lengths in other bits: any value may be one.
    good = np.where(packed, (words & _COPIED) == 0, plain & (offsets < np.uint64(size)))
    any_offset = ((offsets != 0) & ~packed).any(axis=1) | packed.all(axis=1)
    whole = good.all(axis=1) & any_offset
    # Of extended L2 entries every second word is a bitmap, in which no bit contradicts another.
    bitmaps = words[:, 1::2]
    pairs = good[:, 0::2].all(axis=1) & ((bitmaps & (bitmaps >> np.uint64(32)) & _LOW) == 0).all(
        axis=1
    )
    aligned = (offsets[:, 0::2] & np.uint64(_EXTENDED - 1)) == 0
    pairs &= ~whole & (aligned | packed[:, 0::2]).all(axis=1) & (offsets[:, 0::2] != 0).any(axis=1)
    rows = np.flatnonzero(whole | pairs)
    kept = words[rows]
    kept[pairs[rows], 1::2] = 0
    shown = np.where((kept & _COMPRESSED) != 0, np.uint64(0), kept & OFFSETS)
    return (
        rows + at // SECTOR,
        np.bitwise_or.reduce(shown, axis=1),
        np.count_nonzero(kept, axis=1),
        np.count_nonzero(kept & _COPIED, axis=1),
    )


def l1_candidates(
    storage: Storage,
    geometry: Geometry,
    entries: int,
    cancel: CancelToken | None = None,
    sectors: Sectors | None = None,
) -> list[int]:
    """Host offsets of what could be L1 tables, the likeliest first, at most eight.

    The tables that an L1 table names look like tables themselves.  ``entries``: how many the table
    has at least a sector of.  ``sectors``: saves scanning the file again.
    """
    found = sectors or scan_sectors(storage, cancel)
    size = geometry.cluster_size
    mask = np.uint64(size - 1)
    starts = (found.numbers * SECTOR % size == 0) & ((found.joined & mask) == 0)
    scored: list[tuple[int, int, int]] = []
    chosen = np.flatnonzero(starts)
    sparse = chosen[np.argsort(found.used[chosen], kind="stable")]
    for index in sparse[:65536].tolist():
        offset = int(found.numbers[index]) * SECTOR
        data = storage.read(offset, min(max(entries * 8, 8), size) if entries else SECTOR)
        words = np.frombuffer(data[: len(data) & ~7], dtype=">u8").astype(np.uint64)
        targets = (words[words != 0] & OFFSETS).astype(np.int64)
        if not len(targets) or len(np.unique(targets)) != len(targets):
            continue
        if bool(((words & np.uint64(1)) != 0).any()) or bool(((words & _COMPRESSED) != 0).any()):
            continue
        good = int(np.count_nonzero(found.holds(targets) & (targets != offset)))
        if good * 2 >= len(targets) and good:
            scored.append((-good, -int(found.copied[index]), offset))
    return [offset for _, _, offset in sorted(scored)[:8]]
