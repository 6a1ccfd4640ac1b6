"""How QEMU hands out the clusters of an image that is being created, step by step.

A new image has the tables and data where QEMU would put them, so that both make the same file.
What matters for that: the search for free clusters goes on from where it ended; a refcount block
is made when the first cluster it covers is taken, which starts the taking over; a refcount table
that is full is moved behind everything, with blocks that count it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from .constants import MAX_REFCOUNT_TABLE_BYTES
from .geometry import Geometry


class TooLarge(Exception):
    """The refcount table would be larger than any reader accepts."""


class Allocation:
    """Which clusters are taken (each once), and where refcount blocks and table lie.

    All numbers are clusters.  It starts with the header in 0, the table in 1, a block in 2.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._per_block = geometry.refcount_block_entries
        self._per_table = geometry.cluster_size // 8
        self._table_limit = MAX_REFCOUNT_TABLE_BYTES // geometry.cluster_size
        self._starts = [0]  # of runs of taken clusters, ascending and apart from each other
        self._ends = [3]
        self._free = 3  # where the search for free clusters goes on
        self.table = 1
        self.table_clusters = 1
        self.blocks = {0: 2}  # index in the table -> cluster

    @property
    def last(self) -> int:
        """The highest cluster taken."""
        return self._ends[-1] - 1

    def runs(self) -> list[tuple[int, int]]:
        """(first, end) of the taken clusters, ascending."""
        return list(zip(self._starts, self._ends, strict=True))

    def take(self, count: int) -> int:
        """Take ``count`` adjacent clusters; the first of them."""
        while True:
            first = self._search(count)
            if self._count(first, count):
                return first

    def take_at(self, first: int, count: int) -> int:
        """Take up to ``count`` clusters from ``first``, as many as are free; how many."""
        while True:
            index = bisect_right(self._starts, first) - 1
            if self._ends[index] > first:
                return 0
            following = self._starts[index + 1 : index + 2]
            free = min(count, *(start - first for start in following)) if following else count
            if self._count(first, free):
                return free

    def new_area(
        self, first: int, more: int, *, exact: bool, block: tuple[int, int] | None = None
    ) -> int:
        """Put a new refcount table to ``first``, behind all that is taken; the cluster behind it.

        With it come blocks that count it and ``more`` clusters behind.  ``block`` is an
        (index, cluster) to be named in it.  Raises TooLarge.
        """
        total = self._blocks_for(first + more, generous=not exact)
        entries = total if exact else total + -(-total // 2)
        clusters = -(-entries // self._per_table)
        if clusters > self._table_limit:
            raise TooLarge
        if block is not None:
            self.blocks[block[0]] = block[1]
        at = first
        for index in range(first // self._per_block, total):
            if index not in self.blocks:
                self.blocks[index] = at
                at += 1
        old, old_clusters = self.table, self.table_clusters
        self.table, self.table_clusters = at, clusters
        self._mark(first, at + clusters)
        self._unmark(old, old + old_clusters)
        return at + clusters

    def _blocks_for(self, clusters: int, *, generous: bool) -> int:
        """Refcount blocks that count ``clusters``, themselves and their table."""
        blocks = table = 0
        while True:
            more_blocks = -(-(clusters + table + blocks) // self._per_block)
            more_table = -(-more_blocks // self._per_table)
            if (more_blocks, more_table) != (blocks, table):
                blocks, table = more_blocks, more_table
            elif generous:
                clusters += -(-table // 2)
                generous = False
            else:
                return blocks

    def _search(self, count: int) -> int:
        """The next ``count`` adjacent free clusters; the next search goes on behind them."""
        first = self._free
        index = max(0, bisect_right(self._starts, first) - 1)
        for start, end in zip(self._starts[index:], self._ends[index:], strict=True):
            if start >= first + count:
                break
            first = max(first, end)
        self._free = first + count
        return first

    def _count(self, first: int, count: int) -> bool:
        """Take the clusters; False when a block had to be made and the search starts over."""
        if not count:
            return True
        for index in range(first // self._per_block, (first + count - 1) // self._per_block + 1):
            if index not in self.blocks:
                reached = max(first, index * self._per_block)
                self._mark(first, reached)
                self._new_block(reached)
                self._unmark(first, reached)
                self._free = min(self._free, first)  # these are tried again first
                return False
        self._mark(first, first + count)
        return True

    def _new_block(self, cluster: int) -> None:
        """Make the block that counts ``cluster``."""
        index = cluster // self._per_block
        block = self._search(1)
        if block // self._per_block == index:
            self._mark(block, block + 1)
        elif not self._count(block, 1):
            return  # the block that counts this one was made; all starts over
        if index < self.table_clusters * self._per_table:
            self.blocks[index] = block
            return
        behind = -(-(max(cluster, block) + 1) // self._per_block) * self._per_block
        self.new_area(behind, 0, exact=False, block=(index, block))

    def _mark(self, first: int, end: int) -> None:
        if first >= end:
            return
        index = bisect_left(self._starts, first)
        if index and self._ends[index - 1] == first:
            index -= 1
            first = self._starts[index]
            del self._starts[index], self._ends[index]
        if index < len(self._starts) and self._starts[index] == end:
            end = self._ends[index]
            del self._starts[index], self._ends[index]
        self._starts.insert(index, first)
        self._ends.insert(index, end)

    def _unmark(self, first: int, end: int) -> None:
        if first >= end:
            return
        index = bisect_right(self._starts, first) - 1
        start, stop = self._starts[index], self._ends[index]
        kept = [(a, b) for a, b in ((start, first), (end, stop)) if a < b]
        self._starts[index : index + 1] = [a for a, _ in kept]
        self._ends[index : index + 1] = [b for _, b in kept]
        self._free = min(self._free, first)
