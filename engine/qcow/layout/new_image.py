"""A qcow2 image that holds nothing yet: where everything lies, and its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..record import record
from .allocation import Allocation
from .constants import INT32_MAX, OFLAG_COPIED
from .geometry import Geometry
from .header_cluster import HeaderCluster
from .tables import encode_refcounts, encode_u64

Preallocation = Literal["off", "metadata", "falloc", "full"]


class DataRun(NamedTuple):
    """Guest clusters that have host clusters from the start; all numbers are clusters.

    The run lies within the reach of one L2 table.
    """

    guest: int
    host: int
    length: int


@record
class NewImage:
    """Where everything of a new image lies.  Offsets and lengths are bytes unless named else.

    ``l2_clusters`` has the cluster of each L2 table, or is empty; ``reserved`` is the range of the
    file that is to be allocated (preallocation falloc and full).  ``data_file_length`` is None
    without an external data file.  ``tail`` is the (start, end) of what lies behind the disk in
    its last subcluster, in the file that holds the data: zeros are written there.
    """

    geometry: Geometry
    allocation: Allocation
    size: int
    l1_cluster: int
    l1_size: int  # entries
    l2_clusters: tuple[int, ...]
    data: tuple[DataRun, ...]
    length: int
    reserved: tuple[int, int]
    data_file_length: int | None
    tail: tuple[int, int]

    @classmethod
    def lay_out(
        cls, geometry: Geometry, size: int, preallocation: Preallocation, *, data_file: bool
    ) -> NewImage:
        """As QEMU lays out a disk of ``size`` bytes.

        With ``data_file`` the guest's data lies in an external file, at its guest offset.  Raises
        :class:`~qcow.layout.allocation.TooLarge`.
        """
        return _Layout(geometry, size, preallocation, data_file=data_file).run()

    def header(self, cluster: HeaderCluster) -> HeaderCluster:
        """``cluster`` with the fields that say where everything is."""
        bits = self.geometry.cluster_bits
        return cluster.with_header(
            size=self.size,
            l1_size=self.l1_size,
            l1_table_offset=self.l1_cluster << bits,
            refcount_table_offset=self.allocation.table << bits,
            refcount_table_clusters=self.allocation.table_clusters,
        )

    @property
    def metadata_bytes(self) -> int:
        """Bytes of the header cluster and all tables."""
        tables = 1 + len(self.l2_clusters) + len(self.allocation.blocks)
        tables += self.allocation.table_clusters
        return (tables << self.geometry.cluster_bits) + self.l1_size * 8

    def tables(self) -> Iterator[tuple[int, memoryview]]:
        """(offset, bytes) of every table; of the header cluster nothing."""
        bits = self.geometry.cluster_bits
        l1 = np.array(self.l2_clusters, dtype=np.uint64) << np.uint64(bits)
        l1 |= np.uint64(OFLAG_COPIED)
        if self.l1_size:
            whole = np.zeros(self.l1_size, dtype=np.uint64)
            whole[: len(l1)] = l1
            yield self.l1_cluster << bits, encode_u64(whole).data
        yield from self._l2_tables()
        table = np.zeros(self.allocation.table_clusters << bits - 3, dtype=np.uint64)
        for index, cluster in self.allocation.blocks.items():
            table[index] = cluster << bits
        yield self.allocation.table << bits, encode_u64(table).data
        yield from self._refcount_blocks()

    def _l2_tables(self) -> Iterator[tuple[int, memoryview]]:
        geometry = self.geometry
        words = geometry.l2_entry_size // 8
        bits = np.uint64(geometry.cluster_bits)
        table = np.zeros(geometry.cluster_size // 8, dtype=np.uint64)
        current = -1
        for run in self.data:
            index, at = divmod(run.guest, geometry.l2_entries)
            if index != current:
                if current >= 0:
                    yield self._l2_table(current, table)
                current = index
                table[:] = 0
            clusters = np.arange(run.host, run.host + run.length, dtype=np.uint64)
            table[at * words : (at + run.length) * words : words] = clusters << bits | np.uint64(
                OFLAG_COPIED
            )
        if current >= 0:
            yield self._l2_table(current, table)

    def _l2_table(self, index: int, table: NDArray[np.uint64]) -> tuple[int, memoryview]:
        return self.l2_clusters[index] << self.geometry.cluster_bits, encode_u64(table).data

    def _refcount_blocks(self) -> Iterator[tuple[int, memoryview]]:
        geometry = self.geometry
        per = geometry.refcount_block_entries
        runs = iter(self.allocation.runs())
        run = next(runs, None)
        counts = np.zeros(per, dtype=np.uint8)
        for index in sorted(self.allocation.blocks):
            counts[:] = 0
            first = index * per
            while run is not None and run[0] < first + per:
                counts[max(0, run[0] - first) : run[1] - first] = 1
                if run[1] > first + per:
                    break
                run = next(runs, None)
            block = encode_refcounts(counts, geometry.refcount_order)
            yield self.allocation.blocks[index] << geometry.cluster_bits, block.data


class _Layout:
    def __init__(
        self, geometry: Geometry, size: int, preallocation: Preallocation, *, data_file: bool
    ) -> None:
        self._geometry = geometry
        self._size = size
        self._mode = preallocation
        self._data_file = data_file
        self._space = Allocation(geometry)
        self._tables: list[int] = []
        self._data: list[DataRun] = []
        self._reserved = (0, 0)
        self._tail = (0, 0)
        self._length = 3 << geometry.cluster_bits

    def run(self) -> NewImage:
        geometry, bits = self._geometry, self._geometry.cluster_bits
        l1_size = geometry.l1_entries(self._size)
        l1 = 0
        if l1_size:
            l1 = self._space.take(geometry.clusters(l1_size * 8))
            self._reach((l1 << bits) + l1_size * 8)
        if self._data_file and self._mode != "off":
            self._map_data_file()
        elif self._mode == "metadata":
            self._map_piecemeal()
        elif self._mode in ("falloc", "full"):
            self._map_at_once()
        for cluster in (*self._tables, *self._space.blocks.values()):
            self._reach(cluster + 1 << bits)
        self._reach(self._space.table + self._space.table_clusters << bits)
        return NewImage(
            geometry,
            self._space,
            self._size,
            l1,
            l1_size,
            tuple(self._tables),
            tuple(self._data),
            self._length,
            self._reserved,
            self._data_file_length(),
            self._tail,
        )

    @property
    def _mapped_size(self) -> int:
        """Where the last subcluster of the disk ends; allocated data does not end before."""
        unit = self._geometry.subcluster_size
        return -(-self._size // unit) * unit

    def _reach(self, end: int) -> None:
        self._length = max(self._length, end)

    def _data_file_length(self) -> int | None:
        if not self._data_file:
            return None
        return self._size if self._mode == "off" else self._mapped_size

    def _map_data_file(self) -> None:
        total, per = self._geometry.clusters(self._size), self._geometry.l2_entries
        for guest in range(0, total, per):
            self._tables.append(self._space.take(1))
            self._data.append(DataRun(guest, guest, min(per, total - guest)))
        self._tail = (self._size, self._mapped_size)

    def _map_piecemeal(self) -> None:
        """Tables and data take turns: each request gets adjacent clusters, or as many as are."""
        geometry, space = self._geometry, self._space
        total, per = geometry.clusters(self._size), geometry.l2_entries
        guest = 0
        while guest < total:
            end = min(total, guest + (INT32_MAX >> geometry.cluster_bits))
            at = -1
            while guest < end:
                if guest // per == len(self._tables):
                    self._tables.append(space.take(1))
                count = min(end - guest, per - guest % per)
                if at < 0:
                    at = space.take(count)
                else:
                    count = space.take_at(at, count)
                if not count:
                    break
                self._data.append(DataRun(guest, at, count))
                guest += count
                at += count
        if self._data:
            behind = (total << geometry.cluster_bits) - self._mapped_size
            end = (at << geometry.cluster_bits) - behind
            self._reach(end)
            self._tail = (end - (self._mapped_size - self._size), end)

    def _map_at_once(self) -> None:
        """New refcount structures for all, then the data in one piece, then the tables."""
        geometry, space = self._geometry, self._space
        bits = geometry.cluster_bits
        total, per = geometry.clusters(self._size), geometry.l2_entries
        tables = -(-total // per)
        start = space.new_area(space.last + 1, total + tables, exact=True)
        space.take_at(start, total)
        self._reserved = (start << bits, total << bits)
        self._reach(start + total << bits)
        for guest in range(0, total, per):
            self._tables.append(space.take(1))
            self._data.append(DataRun(guest, start + guest, min(per, total - guest)))
