"""Whether host clusters hold nothing but zeros; holes are believed without reading them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..layout.distinct import distinct
from ..layout.tables import I64
from ..storage.base import Storage
from ..storage.buffers import page_aligned

#: Bytes read at a time.
_WINDOW = 1 << 20


def zero_rows(words: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which rows of ``words`` (uint64[n, m], m > 0) are all 0; quick where few begin with 0."""
    found: NDArray[np.bool_] = words[:, 0] == 0
    suspects = np.flatnonzero(found)
    if len(suspects):
        found[suspects] = ~words[suspects].any(axis=1)
    return found


def hold_zeros(storage: Storage, clusters: I64, cluster_bits: int) -> NDArray[np.bool_]:
    """For each of ``clusters`` (int64[n], any order, repeats allowed) whether all of it is 0."""
    ordered = distinct(clusters)
    suspects = _with_data(storage, ordered, cluster_bits)
    size = 1 << cluster_bits
    step = max(1, _WINDOW // size)
    buffer = page_aligned(min(step, len(suspects)) * size)
    holding: list[I64] = []
    for at in range(0, len(suspects), step):
        part = suspects[at : at + step]
        offsets: list[int] = (part << cluster_bits).tolist()
        storage.read_pieces(offsets, size, buffer.data)
        words = buffer[: len(part) * size].view(np.uint64)
        holding.append(part[~zero_rows(words.reshape(len(part), -1))])
    other = np.concatenate(holding) if holding else np.zeros(0, dtype=np.int64)
    zero: NDArray[np.bool_] = ~np.isin(clusters, other)
    return zero


def _with_data(storage: Storage, ordered: I64, cluster_bits: int) -> I64:
    """Those of the ascending clusters that do not lie in holes of the file."""
    size = 1 << cluster_bits
    breaks = (np.flatnonzero(np.diff(ordered) != 1) + 1).tolist()
    found: list[I64] = [np.zeros(0, dtype=np.int64)]
    for low, high in zip([0, *breaks], [*breaks, len(ordered)], strict=True):
        if low == high:
            continue
        start, length = int(ordered[low]) * size, (high - low) * size
        for at, covered, is_data in storage.extents(start, length):
            if is_data:
                stop = -(-(at + covered) // size)
                found.append(np.arange(at // size, stop, dtype=np.int64))
    return distinct(np.concatenate(found))
