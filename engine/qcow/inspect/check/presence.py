"""Where a sparse file really holds bytes, so that work follows them and not what sizes claim."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...layout.tables import I64
from ...storage.base import Storage
from .space import HostSpace

#: Holes up to this many bytes in all are simply read: that is faster than finding them.
_SLACK = 64 << 20
#: Offsets looked up together.
_AT_ONCE = 1 << 18


class DataMap:
    """The data extents of a file, asked for only when claims exceed what the file can hold."""

    def __init__(self, storage: Storage, space: HostSpace) -> None:
        self._storage = storage
        #: Bytes that may be read without asking where the holes are.
        self.budget = space.present + _SLACK
        self._extents: tuple[I64, I64] | None = None

    def holds(self, offsets: I64, piece: int) -> NDArray[np.bool_]:
        """For each of ``offsets``: whether ``piece`` bytes from there hold any data (bool[n]).

        True for all when they are few enough to be read without asking.
        """
        if len(offsets) * piece <= self.budget:
            return np.ones(len(offsets), dtype=bool)
        starts, ends = self._load()
        if not len(starts):
            return np.zeros(len(offsets), dtype=bool)
        held = np.zeros(len(offsets), dtype=bool)
        for at in range(0, len(offsets), _AT_ONCE):
            part = offsets[at : at + _AT_ONCE]
            following = np.searchsorted(ends, part, side="right")
            inside = following < len(starts)
            following[~inside] = 0
            held[at : at + _AT_ONCE] = inside & (starts[following] < part + piece)
        return held

    def pieces(self, offset: int, length: int, total: int) -> Iterator[tuple[int, int]]:
        """(offset, length) of the parts of a range that hold data, widened to whole words.

        ``total``: bytes of all ranges together; few enough are returned as they are.
        """
        if total <= self.budget:
            yield offset, length
            return
        starts, ends = self._load()
        stop = offset + length
        at = int(np.searchsorted(ends, offset, side="right"))
        while at < len(starts) and int(starts[at]) < stop:
            low = max(offset, int(starts[at]) & ~7)
            high = min(stop, (int(ends[at]) + 7) & ~7)
            yield low, high - low
            offset = high
            at += 1

    def _load(self) -> tuple[I64, I64]:
        if self._extents is None:
            found = [(start, start + n) for start, n, data in self._storage.extents() if data]
            both = np.array(found, dtype=np.int64).reshape(-1, 2)
            self._extents = both[:, 0].copy(), both[:, 1].copy()
        return self._extents
