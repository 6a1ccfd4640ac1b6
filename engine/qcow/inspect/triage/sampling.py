"""Looking into leaked clusters: a few bytes of each, and the whole of those that may be tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ...image.image import Image
from ...layout.tables import I64, U64
from ...storage.base import Storage
from .shapes import Shapes, uniform

#: Bytes read of a cluster at first.
_SAMPLE = 512
#: Bytes that are read at a time.
_WINDOW = 4 << 20
#: Runs of leaked clusters up to which holes are looked for in each run alone.
_FEW_RUNS = 256

#: Of each leaked cluster (uint8 flags): what it could still be.
HOLE, ZEROS, UNIFORM, ENTRIES, POINTERS, COUNTS, SNAPSHOTS = 1, 2, 4, 8, 16, 32, 64
MAY_BE_TABLE = ZEROS | UNIFORM | ENTRIES | POINTERS | COUNTS
_ALL = MAY_BE_TABLE | SNAPSHOTS

Step = Callable[[str, int, int], None]


def look(image: Image, shapes: Shapes, clusters: I64, step: Step) -> NDArray[np.uint8]:
    """Flags (uint8[n]) of ``clusters`` (int64[n], ascending) after looking at samples of them.

    HOLE is certain; the others say that nothing seen speaks against it.
    """
    size = shapes.geometry.cluster_size
    flags = np.full(len(clusters), _ALL, dtype=np.uint8)
    data = holds_data(image.storage, clusters, size)
    flags[~data] = HOLE | ZEROS
    piece = min(_SAMPLE, size)
    for at in dict.fromkeys((0, size // 2, size // 4 * 3)):
        chosen = np.flatnonzero(data & (flags & MAY_BE_TABLE != 0))
        rows = max(1, _WINDOW // 4 // piece)
        for begin in range(0, len(chosen), rows):
            part = chosen[begin : begin + rows]
            raw = read_rows(image.storage, clusters[part] * size + at, piece)
            flags[part] &= _judge(shapes, raw, first=at == 0)
            step("looking into leaked clusters", begin, len(chosen))
    return flags


def whole(
    image: Image, shapes: Shapes, clusters: I64, step: Step
) -> Iterator[tuple[I64, NDArray[np.uint8], NDArray[np.uint8], U64]]:
    """Read ``clusters`` (int64, ascending) whole, in windows.

    Yields (indices into ``clusters``, uint8[k] flags, uint8[k, cluster size], uint64[k, words]).
    """
    size = shapes.geometry.cluster_size
    rows = max(1, _WINDOW // size)
    for begin in range(0, len(clusters), rows):
        step("reading possible tables", begin, len(clusters))
        part = clusters[begin : begin + rows]
        raw = read_rows(image.storage, part * size, size)
        words = raw.view(">u8").astype(np.uint64)
        flags = _judge(shapes, raw, first=True, words=words)
        yield np.arange(begin, begin + len(part)), flags, raw, words


def read_rows(storage: Storage, offsets: I64, piece: int) -> NDArray[np.uint8]:
    """``piece`` bytes from each of ``offsets`` (uint8[n, piece])."""
    raw = np.zeros((len(offsets), piece), dtype=np.uint8)
    storage.read_pieces(offsets.tolist(), piece, raw.reshape(-1).data)
    return raw


def _judge(
    shapes: Shapes, raw: NDArray[np.uint8], *, first: bool, words: U64 | None = None
) -> NDArray[np.uint8]:
    """``first``: the rows are the beginnings of clusters."""
    if words is None:
        words = raw.view(">u8").astype(np.uint64)
    flags = np.zeros(len(raw), dtype=np.uint8)
    flags[~words.any(axis=1)] |= ZEROS
    flags[uniform(raw)] |= UNIFORM
    flags[shapes.entries(words)] |= ENTRIES
    flags[shapes.pointers(words)] |= POINTERS
    flags[shapes.counts(raw)] |= COUNTS
    if first:
        flags[shapes.snapshots(raw)] |= SNAPSHOTS
    else:
        flags |= SNAPSHOTS
    return flags


def holds_data(storage: Storage, clusters: I64, size: int) -> NDArray[np.bool_]:
    """Which clusters hold any bytes that the file really has (bool[n])."""
    if not len(clusters):
        return np.zeros(0, dtype=bool)
    heads = np.concatenate(([0], np.flatnonzero(np.diff(clusters) != 1) + 1))
    if len(heads) <= _FEW_RUNS:
        last = np.append(heads[1:], len(clusters)) - 1
        runs = list(zip(clusters[heads].tolist(), clusters[last].tolist(), strict=True))
    else:
        runs = [(int(clusters[0]), int(clusters[-1]))]
    starts: list[int] = []
    ends: list[int] = []
    for first, final in runs:
        for start, length, is_data in storage.extents(first * size, (final + 1 - first) * size):
            if is_data:
                starts.append(start)
                ends.append(start + length)
    if not starts:
        return np.zeros(len(clusters), dtype=bool)
    begin, end = np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)
    offsets = clusters * size
    following = np.searchsorted(end, offsets, side="right")
    inside = following < len(begin)
    following[~inside] = 0
    found: NDArray[np.bool_] = inside & (begin[following] < offsets + size)
    return found
