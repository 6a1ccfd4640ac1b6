"""Which clusters lie in some ranges, a bounded number of clusters at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

_WINDOW: Final = 1 << 20


def marked(
    first: NDArray[np.int64], stop: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """(first cluster, whether each cluster from there on is in a range), skipping wide gaps.

    The ranges ``[first, stop)`` ascend and may touch.
    """
    if not len(first):
        return
    low, end = int(first[0]), int(stop[-1])
    while low < end:
        begin = int(np.searchsorted(stop, low, side="right"))
        low = max(low, int(first[begin]))
        high = min(low + _WINDOW, end)
        inside = slice(begin, int(np.searchsorted(first, high)))
        edges = np.zeros(high - low + 1, dtype=np.int32)
        np.add.at(edges, np.maximum(first[inside] - low, 0), 1)
        np.add.at(edges, np.minimum(stop[inside] - low, high - low), -1)
        yield low, np.cumsum(edges[:-1]) > 0
        low = high
