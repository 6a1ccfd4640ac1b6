"""Which metadata structures own which host clusters, and where two of them collide."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...layout.tables import I64
from . import kinds as K
from .collect import Collector, exceeding
from .counts import Adder
from .space import HostSpace

#: Clusters that the sizes of small structures may claim in all; nothing real comes close.
_MAX_CLAIMED = 1 << 22


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


class Owned(NamedTuple):
    """Metadata clusters, ascending, one row for each cluster.

    ``cluster`` int64.  ``owners``: bit mask of :class:`Owner`, int64.  ``structures``: how many
    structures hold it (an L2 table that several states share is one).  ``times``: references.
    """

    cluster: I64
    owners: I64
    structures: I64
    times: I64


class Claims:
    """Collects the clusters of metadata structures and adds them to the references.

    ``spill``: references to the cluster just behind the last one of the file, which QEMU counts for
    structures that end less than a cluster behind the end.
    """

    def __init__(self, space: HostSpace, collector: Collector) -> None:
        self._space = space
        self._collector = collector
        self._runs: list[tuple[int, int, int]] = []  # first cluster, stop, owner
        self._parts: list[tuple[I64, Owner, I64]] = []
        self._claimed = 0

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
        if self._claimed + stop - first > _MAX_CLAIMED:
            self._collector.totals(check_errors=1)
            self._collector.add(K.TOO_LARGE, place=(offset, size), note=f"the {owner.label}")
            return False
        self._claimed += stop - first
        self._runs.append((first, stop, owner))
        return True

    def clusters(self, owner: Owner, clusters: I64, times: I64) -> None:
        """Clusters that are one structure each, with ``times`` references."""
        if len(clusters):
            self._parts.append((clusters, owner, times))

    def add_to(self, adder: Adder) -> None:
        """Add the references of everything claimed."""
        clusters, _, times = self._flat()
        for number in np.unique(times).tolist():
            adder.many(clusters[times == number], number)

    @property
    def spill(self) -> int:
        clusters, _, times = self._flat()
        return int(times[clusters >= self._space.clusters].sum())

    def owned(self) -> Owned:
        clusters, owners, times = self._flat()
        order = np.argsort(clusters, kind="stable")
        clusters = clusters[order]
        heads = np.flatnonzero(np.diff(clusters, prepend=-1))
        return Owned(
            clusters[heads],
            np.bitwise_or.reduceat(np.int64(1) << owners[order], heads),
            np.diff(heads, append=len(clusters)),
            np.add.reduceat(times[order], heads),
        )

    def _flat(self) -> tuple[I64, I64, I64]:
        """(cluster, owner, references) of everything claimed, in no order."""
        runs = np.array(self._runs, dtype=np.int64).reshape(-1, 3)
        counts = runs[:, 1] - runs[:, 0]
        before = np.cumsum(counts) - counts
        inside = np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(before, counts)
        clusters = [np.repeat(runs[:, 0], counts) + inside]
        owners = [np.repeat(runs[:, 2], counts)]
        times = [np.ones(len(inside), dtype=np.int64)]
        for part, owner, references in self._parts:
            clusters.append(part)
            owners.append(np.full(len(part), owner, dtype=np.int64))
            times.append(references)
        return np.concatenate(clusters), np.concatenate(owners), np.concatenate(times)


def colliding(owned: Owned, references: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """bool[n]: which metadata clusters have a second owner, given all references to each."""
    return (owned.structures > 1) | (references > owned.times.astype(np.uint64))


def owner_names(mask: int) -> list[str]:
    """The labels of the owners in a bit mask."""
    return [owner.label for owner in Owner if mask >> owner & 1]
