"""How much of the host clusters is counted at a time, and in what kind of memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...record import record
from .counts import Counts, DenseCounts, SparseCounts

#: Bytes of counts kept at a time, at most; and what even an almost empty image may take.
_MOST_MEMORY = 144 << 20
_LEAST_MEMORY = 32 << 20
#: A file that would need more turns than this is counted sparsely if little refers to it.
_MOST_TURNS = 16
_SPARSE_BYTES = 24  # for each reference
_MOST_SPARSE = 512 << 20
#: Counted narrowly and by two threads; exactly, by one; beyond all bounds.
_TYPES: tuple[type[np.unsignedinteger[Any]], ...] = (np.uint8, np.uint32, np.uint64)


@record
class Turn:
    """Host clusters ``[low, high)`` that are counted together.

    ``level`` grows with each attempt that failed because a count did not fit or two threads met.
    ``last``: no range follows.
    """

    low: int
    high: int
    level: int
    sparse: bool
    last: bool

    @property
    def alone(self) -> bool:
        """Whether only one thread may count."""
        return self.level > 0 and not self.sparse

    def counts(self) -> Counts:
        """Empty counts for this turn."""
        if self.sparse:
            return SparseCounts(self.low, self.high)
        return DenseCounts(self.low, self.high, _TYPES[self.level])

    def again(self, present: int) -> list[Turn]:
        """The same range to be counted more exactly, in as many parts as memory asks for."""
        level = self.level + 1
        width = np.dtype(_TYPES[level]).itemsize
        parts = _parts(self.low, self.high, _memory(present) // width)
        return [
            Turn(low, high, level, False, self.last and high == self.high) for low, high in parts
        ]


def turns(limit: int, entries: int, present: int) -> list[Turn]:
    """Cut ``limit`` host clusters into turns.

    ``entries``: table entries that may refer to them.  ``present``: bytes the file really holds;
    memory follows those, not the length of the file.
    """
    parts = _parts(0, limit, _memory(present))
    allowed = min((64 << 20) + 3 * present, _MOST_SPARSE)
    if len(parts) > _MOST_TURNS and entries * _SPARSE_BYTES <= allowed:
        return [Turn(0, limit, 0, True, True)]
    return [Turn(low, high, 0, False, high == limit) for low, high in parts]


def _memory(present: int) -> int:
    return min(_MOST_MEMORY, _LEAST_MEMORY + present)


def _parts(low: int, high: int, most: int) -> list[tuple[int, int]]:
    number = -(-(high - low) // most)
    size = -(-(high - low) // number)
    return [(at, min(at + size, high)) for at in range(low, high, size)]
