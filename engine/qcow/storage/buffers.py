"""Memory to read into."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray


def page_aligned(length: int) -> NDArray[np.uint8]:
    """uint8[length] for reading into, not initialised, from the start of a page on.

    Large blocks of an allocator begin 16 bytes behind the start of a page.  Bytes of the page cache
    are copied to there at a fraction of the speed: the processor takes loads for dependent on
    stores that lie 16 bytes off modulo 4096.
    """
    raw = np.empty(length + mmap.PAGESIZE, dtype=np.uint8)
    start = -raw.__array_interface__["data"][0] % mmap.PAGESIZE
    return raw[start : start + length]


class ReadBuffer:
    """One piece of memory for one read after the other: fresh memory costs more than reading."""

    def __init__(self) -> None:
        self._memory: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)

    def take(self, length: int) -> NDArray[np.uint8]:
        """uint8[length] from the start of a page on, with anything in it, valid until the next."""
        if len(self._memory) < length:
            self._memory = page_aligned(length)
        return self._memory[:length]
