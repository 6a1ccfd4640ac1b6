"""Which host clusters of an image under construction are taken, and where the next one goes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qcow.layout.geometry import Geometry

#: Where QEMU puts the first structures of a new image (host cluster numbers).
HEADER_CLUSTER = 0
REFCOUNT_TABLE_CLUSTER = 1
REFCOUNT_BLOCK_CLUSTER = 2
FIRST_FREE_CLUSTER = 3


class HostSpace:
    """First-fit allocation from a moving cursor, as QEMU does, with a way to say where instead."""

    def __init__(self, geometry: Geometry) -> None:
        self._span = geometry.refcount_block_entries
        self._taken: set[int] = set(range(FIRST_FREE_CLUSTER))
        self.cursor = FIRST_FREE_CLUSTER

    def take(self, at: int | None = None) -> int:
        """One free cluster: the next one, or ``at``.  Raises ValueError when that is taken.

        The first cluster of each area that one refcount block counts is only given away by name:
        QEMU keeps it for that block.
        """
        if at is None:
            at = self.cursor
            while at in self._taken or at % self._span == 0:
                at += 1
            self.cursor = at + 1
        elif at in self._taken:
            raise ValueError(f"host cluster {at} is taken")
        self._taken.add(at)
        return at

    def take_run(self, count: int) -> int:
        """The first of ``count`` adjacent free clusters from the cursor on."""
        at = self.cursor
        run = range(at, at + count)
        while not self._taken.isdisjoint(run) or (count == 1 and at % self._span == 0):
            at += 1
            run = range(at, at + count)
        self._taken.update(run)
        self.cursor = at + count
        return at

    def taken_from(self, clusters: Iterable[int]) -> None:
        """Forget what was freed: only ``clusters`` and the first structures stay taken."""
        self._taken = {*range(FIRST_FREE_CLUSTER), *clusters}
        self.cursor = FIRST_FREE_CLUSTER


@dataclass(frozen=True)
class RefcountLayout:
    """Where the refcount structures go: block number -> host cluster, and the table's run."""

    blocks: dict[int, int]
    table: range


def place_refcounts(geometry: Geometry, used: Iterable[int]) -> RefcountLayout:
    """Find places for the refcount table and blocks that count ``used`` and themselves."""
    taken = {*used, *range(FIRST_FREE_CLUSTER)}
    span = geometry.refcount_block_entries
    blocks = {0: REFCOUNT_BLOCK_CLUSTER}
    table = range(REFCOUNT_TABLE_CLUSTER, REFCOUNT_TABLE_CLUSTER + 1)
    while True:
        missing = {cluster // span for cluster in taken} - blocks.keys()
        if missing:
            for block in sorted(missing):
                blocks[block] = _free_in(taken, block * span, span)
                taken.add(blocks[block])
            continue
        entries = max(blocks) + 1
        if entries * 8 <= len(table) * geometry.cluster_size:
            return RefcountLayout(blocks, table)
        taken.difference_update(table)
        # One more than needed now: the blocks that count the table itself need entries, too.
        count = geometry.clusters(entries * 8) + 1
        first = max(taken) + 1
        table = range(first, first + count)
        taken.update(table)


def _free_in(taken: set[int], first: int, span: int) -> int:
    """A free cluster inside the area a refcount block counts, else one behind everything."""
    for cluster in range(first, first + span):
        if cluster not in taken:
            return cluster
    return max(taken) + 1
