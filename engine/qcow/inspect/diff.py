"""What differs between two states: snapshots, the active disk, layers of a chain.

By default the mappings are compared, which reads tables only: where both states take a range from
the same place of the same file, or both read it as zeros without having looked, it is equal;
anything else counts as different.  That is exact at the granularity of clusters (subclusters), and
never misses a difference.  By content, the ranges found that way are read and compared in sectors
of 512 bytes, the smallest unit a guest writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..chain import Chain
from ..chain.intersect import aligned, end_of
from ..disk import ExtentBatch, ExtentKind
from ..image.state import State
from ..jobs import CancelToken, ProgressCallback, Throttle
from ..layout.constants import SECTOR
from .identity import Identities, compressed_differences, l1_differences

I64 = NDArray[np.int64]

#: Guest bytes read at a time when contents are compared.
PIECE = 4 << 20
#: Different ranges this near each other are read together.
_NEAR = 64 << 10


class Ranges(NamedTuple):
    """Guest ranges in ascending order: ``start`` and ``length``, int64 bytes."""

    start: I64
    length: I64


def diff(
    a: Chain,
    b: Chain,
    *,
    by_content: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[Ranges]:
    """Ranges that differ, ascending, neighbours joined (also across batches).

    Where one disk is longer, what lies beyond the other's end is different unless it reads as zeros
    (by its mapping, or by its content).

    Raises GuestDataError when a state's tables cannot be used; by content also EncryptedError,
    ReferenceRefused and ReferenceMissing when a range to be read cannot be.  Cancelled.
    """
    found = _mapped_differences(a, b, _Steps(progress, cancel, max(a.virtual_size, b.virtual_size)))
    if by_content:
        found = _differing_sectors(a, b, found, cancel)
    yield from _coalesced(found)


class _Steps:
    """Progress and cancel of one walk along the disk."""

    def __init__(
        self, progress: ProgressCallback | None, cancel: CancelToken | None, total: int
    ) -> None:
        self._report = Throttle(progress)
        self._cancel = cancel
        self._total = total

    def at(self, offset: int) -> None:
        if self._cancel is not None:
            self._cancel.check()
        self._report("comparing", offset, self._total, "bytes")


def _mapped_differences(a: Chain, b: Chain, steps: _Steps) -> Iterator[Ranges]:
    identities = Identities(a, b)
    common = min(a.virtual_size, b.virtual_size)
    for start, length in _candidates(a, b, identities, common):
        for one, other in aligned(a.runs(start, length), b.runs(start, length)):
            yield _batch_differences(a, b, identities, one, other)
            steps.at(end_of(one))
    longer = a if a.virtual_size > common else b
    for batch in longer.runs(common):
        differs = ~identities.reads_zero(longer, batch)
        yield Ranges(batch.start[differs], batch.length[differs])
        steps.at(end_of(batch))
    steps.at(max(a.virtual_size, b.virtual_size))


def _candidates(
    a: Chain, b: Chain, identities: Identities, common: int
) -> Iterator[tuple[int, int]]:
    """Where the two can differ at all; states of one image share L2 tables that need no reading."""
    one, other = a.layers[0].disk, b.layers[0].disk
    if isinstance(one, State) and isinstance(other, State) and identities.same_below_top(a, b):
        yield from l1_differences(one, other, common)
    elif common:
        yield 0, common


def _batch_differences(
    a: Chain, b: Chain, identities: Identities, one: ExtentBatch, other: ExtentBatch
) -> Ranges:
    """The differing runs of two batches with the same starts."""
    equal = identities.same_table(one, other)
    equal |= identities.reads_zero(a, one) & identities.reads_zero(b, other)
    same_file = identities.same_file(one, other)
    stored = (one.kind == ExtentKind.DATA) & (other.kind == ExtentKind.DATA)
    equal |= same_file & stored & (one.host == other.host)
    packed = (one.kind == ExtentKind.COMPRESSED) & (other.kind == ExtentKind.COMPRESSED)
    packed &= same_file & ~equal
    differs = ~equal & ~packed
    start, length = one.start[differs], one.length[differs]
    if not packed.any():
        return Ranges(start, length)
    depths = np.stack((one.depth[packed], other.depth[packed]), axis=1)
    for upper, lower in np.unique(depths, axis=0).tolist():
        pair = packed & (one.depth == upper) & (other.depth == lower)
        states = a.layers[upper].disk, b.layers[lower].disk
        clusters = compressed_differences(*states, one.start[pair], one.length[pair])
        start, length = np.append(start, clusters[0]), np.append(length, clusters[1])
    order = np.argsort(start, kind="stable")
    return Ranges(start[order], length[order])


def _differing_sectors(
    a: Chain, b: Chain, found: Iterator[Ranges], cancel: CancelToken | None
) -> Iterator[Ranges]:
    longest = max(a.virtual_size, b.virtual_size)
    # Two buffers for all pieces: new ones would cost a page fault for every page.
    one, other = (np.zeros(PIECE // 8, dtype=np.uint64) for _ in range(2))
    for ranges in _coalesced(found):
        # Runs of a raw file need not end at a sector.
        start = ranges.start & -SECTOR
        end = np.minimum((ranges.start + ranges.length + SECTOR - 1) & -SECTOR, longest)
        gaps = np.flatnonzero(start[1:] - end[:-1] > _NEAR)
        firsts = start[np.concatenate(([0], gaps + 1))].tolist()
        lasts = end[np.concatenate((gaps, [len(end) - 1]))].tolist()
        for first, last in zip(firsts, lasts, strict=True):
            for at in range(first, last, PIECE):
                if cancel is not None:
                    cancel.check()
                length = min(PIECE, last - at)
                words = length // 8
                read_padded(a, at, one[:words])
                read_padded(b, at, other[:words])
                yield _sector_runs(at, one[:words], other[:words])


def read_padded(disk: Chain, offset: int, words: NDArray[np.uint64]) -> None:
    """Fill ``words`` with the guest bytes from ``offset`` on, zeros beyond the end of the disk."""
    words[:] = 0
    present = min(words.nbytes, disk.virtual_size - offset)
    if present > 0:
        with words.data.cast("B") as view:
            disk.read_into(offset, view[:present])


def _sector_runs(offset: int, one: NDArray[np.uint64], other: NDArray[np.uint64]) -> Ranges:
    """Runs of different sectors of two buffers of whole sectors that start at guest ``offset``."""
    unequal = one != other
    if not unequal.any():
        empty = np.zeros(0, dtype=np.int64)
        return Ranges(empty, empty)
    differs = unequal.reshape(-1, SECTOR // 8).any(axis=1)
    edges = np.flatnonzero(np.diff(differs, prepend=False, append=False))
    start = offset + edges[0::2].astype(np.int64) * SECTOR
    return Ranges(start, offset + edges[1::2].astype(np.int64) * SECTOR - start)


def _coalesced(found: Iterator[Ranges]) -> Iterator[Ranges]:
    """Join ranges that touch, within batches and across them."""
    held: Ranges | None = None
    for ranges in found:
        start, length = ranges
        if held is not None:
            start, length = np.append(held.start, start), np.append(held.length, length)
        if not len(start):
            continue
        heads = np.flatnonzero(np.concatenate(([True], start[1:] != start[:-1] + length[:-1])))
        start, length = start[heads], np.add.reduceat(length, heads)
        if len(start) > 1:
            yield Ranges(start[:-1], length[:-1])
        held = Ranges(start[-1:], length[-1:])
    if held is not None:
        yield held
