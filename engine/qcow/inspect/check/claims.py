"""Which metadata structures own which host clusters, and where two of them collide."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from ...layout.distinct import distinct
from ...layout.tables import I64
from ...record import record
from . import kinds as K
from .collect import Collector, exceeding
from .counts import Adder, Counts
from .space import HostSpace

#: Clusters that the sizes of small structures may claim in all, however little the file holds.
_LEAST_CLAIMED = 1 << 21
#: Claims handled at a time.
_PIECE = 1 << 17


class Owner(IntEnum):
    """What a host cluster can belong to."""

    HEADER = 0
    L1 = 1
    SNAPSHOT_L1 = 2
    L2 = 3
    REFCOUNT_TABLE = 4
    REFCOUNT_BLOCK = 5
    SNAPSHOT_TABLE = 6
    LUKS_HEADER = 7
    BITMAP_DIRECTORY = 8
    BITMAP_TABLE = 9
    BITMAP_DATA = 10

    @property
    def label(self) -> str:
        return _LABELS[self]


_LABELS = (
    "header",
    "active L1 table",
    "snapshot L1 table",
    "L2 table",
    "refcount table",
    "refcount block",
    "snapshot table",
    "LUKS header",
    "bitmap directory",
    "bitmap table",
    "bitmap data",
)


class Piece(NamedTuple):
    """Claimed clusters, one row for each claim: int64[n] ``cluster``, ``owner`` (:class:`Owner`)
    and ``times``, the references that belong to the claim."""

    cluster: I64
    owner: I64
    times: I64


@record
class Collisions:
    """Metadata clusters with a second owner, ascending: int64[n] ``cluster``, and ``owners``, a bit
    mask of :class:`Owner`."""

    cluster: I64
    owners: I64


class Claims:
    """Collects the clusters of metadata structures."""

    def __init__(self, space: HostSpace, collector: Collector) -> None:
        self._space = space
        self._collector = collector
        self._runs: list[tuple[int, int, int]] = []  # first cluster, stop, owner
        self._parts: list[tuple[Owner, I64, int, I64 | int]] = []  # owner, numbers, shift, times
        self._left = max(_LEAST_CLAIMED, space.present >> 6)

    def region(self, owner: Owner, offset: int, size: int) -> bool:
        """A structure of ``size`` bytes at ``offset``.

        False, with a finding, when it is not in the file or cannot be that large.
        """
        if size <= 0:
            return True
        if self._space.outside(offset, size):
            self._collector.totals(corruptions=1)
            self._collector.add(
                K.TABLE_OUTSIDE,
                note=f"the {owner.label}",
                place=(offset, size),
                examples=[(offset, exceeding(offset, size))],
            )
            return False
        first, stop = self._space.run(offset, size)
        if stop - first > self._left:
            self._collector.totals(check_errors=1)
            self._collector.add(K.TOO_LARGE, place=(offset, size), note=f"the {owner.label}")
            return False
        self._left -= stop - first
        self._runs.append((first, stop, owner))
        return True

    def clusters(self, owner: Owner, numbers: I64, times: I64 | int, shift: int = 0) -> None:
        """Clusters ``numbers >> shift``; each is one structure with ``times`` references."""
        if len(numbers):
            self._parts.append((owner, numbers, shift, times))

    def pieces(self) -> Iterator[Piece]:
        """Everything claimed, in bounded pieces and no order."""
        runs = np.array(self._runs, dtype=np.int64).reshape(-1, 3)
        ends = np.cumsum(runs[:, 1] - runs[:, 0])
        total = int(ends[-1]) if len(ends) else 0
        for at in range(0, total, _PIECE):
            row = np.arange(at, min(total, at + _PIECE), dtype=np.int64)
            which = np.searchsorted(ends, row, side="right")
            # Rows count backwards from the end of their run.
            cluster = runs[which, 1] - (ends[which] - row)
            yield Piece(cluster, runs[which, 2], np.ones_like(row))
        for owner, numbers, shift, times in self._parts:
            for at in range(0, len(numbers), _PIECE):
                cluster = numbers[at : at + _PIECE] >> shift
                count = (
                    np.full_like(cluster, times)
                    if isinstance(times, int)
                    else times[at : at + _PIECE]
                )
                yield Piece(cluster, np.full_like(cluster, owner), count)

    def add_to(self, adder: Adder) -> None:
        """Add the references of everything claimed."""
        for piece in self.pieces():
            for number in distinct(piece.times).tolist():
                adder.many(piece.cluster[piece.times == number], number)

    def spill(self) -> int:
        """References to the cluster just behind the last one of the file.

        QEMU counts them for structures of which less than a cluster is missing.
        """
        end = self._space.clusters
        return sum(int(p.times[p.cluster >= end].sum()) for p in self.pieces())

    def collisions(self, counts: Counts, end: int) -> Collisions:
        """The claimed clusters before ``end`` that more refers to than the claim itself."""
        none = np.zeros(0, dtype=np.int64)
        found: list[tuple[I64, I64]] = [(none, none)]
        for piece in self.pieces():
            inside = (piece.cluster >= counts.low) & (piece.cluster < min(counts.high, end))
            piece = Piece(*(column[inside] for column in piece))
            more = counts.at(piece.cluster) > piece.times.astype(np.uint64)
            found.append((piece.cluster[more], np.int64(1) << piece.owner[more]))
        cluster, owners = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(cluster, kind="stable")
        cluster = cluster[order]
        heads = np.flatnonzero(np.diff(cluster, prepend=-1))
        if len(heads):
            owners = np.bitwise_or.reduceat(owners[order], heads)
        return Collisions(cluster[heads], owners)


def owner_names(mask: int) -> list[str]:
    """The labels of the owners in a bit mask."""
    return [owner.label for owner in Owner if mask >> owner & 1]
