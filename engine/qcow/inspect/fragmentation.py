"""How scattered a state lies in its file, and how much L2 cache QEMU needs to find its way in it.

A *run* is a stretch of allocated clusters that follow each other in the file in guest order; what
the guest has not allocated in between does not break it, since nothing is read there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..image.state import State
from ..image.tables import l2_tables
from ..jobs import CancelToken, ProgressCallback, Throttle
from ..layout.constants import OFLAG_COMPRESSED, OFLAG_COPIED, SECTOR
from ..layout.tables import I64, OFFSETS, U64, compressed_fields
from ..record import record

#: Parts the guest disk is divided into for the histogram.
REGIONS = 64
#: What QEMU takes for the L2 cache at most when nobody asks for more (Linux).
DEFAULT_L2_CACHE = 32 << 20
_TABLES_AT_A_TIME = 1 << 16

_COMPRESSED = np.uint64(OFLAG_COMPRESSED)
_COPIED = np.uint64(OFLAG_COPIED)
_SHIFT32 = np.uint64(32)


@record
class Region:
    """One part of the guest disk: ``start`` and ``length`` in bytes.

    ``breaks`` are the places in it where a reader has to go elsewhere in the file, ``jumps_back``
    those of them that lead towards its start.
    """

    start: int
    length: int
    allocated_clusters: int
    breaks: int
    jumps_back: int


@record
class L2Cache:
    """All in bytes.  ``needed`` covers the whole disk; the default covers ``default_covers``."""

    tables: int  # L2 tables of this state
    needed: int
    default: int
    default_covers: int  # of the guest disk

    @property
    def default_suffices(self) -> bool:
        return self.needed <= self.default


@record
class Fragmentation:
    """The first four count clusters as `check` does: all that the L1 table maps, VM state too.

    ``runs``, ``jumps_back`` and ``regions`` are about the guest disk alone.
    """

    total_clusters: int  # of the guest disk
    allocated_clusters: int
    fragmented_clusters: int
    compressed_clusters: int
    runs: int
    run_bytes: int  # guest bytes in all runs
    jumps_back: int
    regions: tuple[Region, ...]
    l2_cache: L2Cache

    @property
    def percentage(self) -> float:
        """QEMU's: of the allocated clusters, those that do not follow the one before them."""
        return 100.0 * self.fragmented_clusters / (self.allocated_clusters or 1)

    @property
    def mean_run(self) -> float:
        """Bytes; 0.0 when nothing is allocated."""
        return self.run_bytes / self.runs if self.runs else 0.0


def fragmentation(
    state: State,
    *,
    regions: int = REGIONS,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Fragmentation:
    """Walk the L2 tables of ``state`` once.  Raises Cancelled.

    Tables that cannot be read count as empty.
    """
    geometry = state.geometry
    walk = _Walk(state, regions)
    l1 = state.l1()
    report = Throttle(progress)
    tables = 0
    for first in range(0, max(1, len(l1)), _TABLES_AT_A_TIME):
        part = l1[first : first + _TABLES_AT_A_TIME] & OFFSETS
        index = np.flatnonzero(_readable(part, state))
        tables += len(index)
        index += first
        at = 0
        for window in l2_tables(
            state.image.storage, geometry, part[index - first].astype(np.int64)
        ):
            if cancel is not None:
                cancel.check()
            walk.add(index[at : at + len(window.offsets)], window.entries, window.bitmaps)
            at += len(window.offsets)
            report("fragmentation", int(index[at - 1]), len(l1), "L2 tables")
    report("fragmentation", len(l1), len(l1), "L2 tables")
    return walk.result(tables)


def _readable(offsets: U64, state: State) -> NDArray[np.bool_]:
    aligned = (offsets & np.uint64(state.geometry.cluster_size - 1)) == 0
    size = state.image.storage.size()
    return np.asarray((offsets != 0) & aligned & (offsets < np.uint64(size)))


class _Places(NamedTuple):
    """Allocated clusters in guest order: guest cluster, and where they lie in the file."""

    guest: I64
    start: I64
    end: I64


class _Walk:
    def __init__(self, state: State, regions: int) -> None:
        self._state = state
        self._geometry = state.geometry
        self._data_file = state.image.header.has_data_file
        self._columns = np.arange(state.geometry.l2_entries, dtype=np.int64)
        self._total = state.geometry.clusters(state.virtual_size)
        self._regions = min(regions, self._total)
        #: First guest cluster of each region, and where the last one ends.
        self._bounds = -(-np.arange(self._regions + 1) * self._total // max(1, self._regions))
        self._per_region = np.zeros((3, self._regions), dtype=np.int64)
        self._last: int | None = None  # where the place read before ends in the file
        self.allocated = self.fragmented = self.compressed = 0

    def add(self, tables: I64, entries: U64, bitmaps: U64 | None) -> None:
        """L2 tables (k, entries) with the L1 indices ``tables``, ascending, in guest order."""
        packed = (entries & _COMPRESSED) != 0
        offsets = entries & OFFSETS
        plain = ~packed & (offsets != 0)
        if self._data_file:
            plain |= ~packed & (entries & _COPIED != 0)
            packed[:] = False  # nonsense there
        if bitmaps is not None:
            packed &= bitmaps == 0
            plain &= (bitmaps >> _SHIFT32) & bitmaps == 0
        self._count(offsets, plain, packed)
        used = plain | packed
        guest = (tables[:, None] * self._geometry.l2_entries + self._columns)[used]
        start = offsets[used].astype(np.int64)
        end = start + self._geometry.cluster_size
        if packed.any():
            which = packed[used]
            start[which], length = compressed_fields(entries[packed], self._geometry)
            end[which] = start[which] + length
        self._follow(_Places(guest, start, end))

    def _count(self, offsets: U64, plain: NDArray[np.bool_], packed: NDArray[np.bool_]) -> None:
        """As QEMU: plain clusters against the plain one before them in the same table."""
        place = offsets[plain]
        apart = place[1:] != place[:-1] + np.uint64(self._geometry.cluster_size)
        in_table = np.count_nonzero(plain, axis=1)
        firsts = np.cumsum(in_table[:-1])
        firsts = firsts[(firsts > 0) & (firsts < len(place))]
        apart[firsts - 1] = False  # the first of a table is not compared with the table before
        compressed = int(np.count_nonzero(packed))
        self.allocated += len(place) + compressed
        self.compressed += compressed
        self.fragmented += compressed + int(np.count_nonzero(apart))

    def _follow(self, places: _Places) -> None:
        """Where reading the disk in guest order has to go elsewhere in the file."""
        on_disk = int(np.searchsorted(places.guest, self._total))
        guest, start, end = (part[:on_disk] for part in places)
        if not len(guest):
            return
        before = np.concatenate(([0 if self._last is None else self._last], end[:-1]))
        # Compressed clusters share sectors, so the next may start in the last sector of this one.
        distance = start - before
        breaks = (distance > 0) | (distance <= -SECTOR)
        back = breaks & (distance < 0)
        if self._last is None:
            breaks[0], back[0] = True, False
        for row, ascending in enumerate((guest, guest[breaks], guest[back])):
            self._per_region[row] += np.diff(np.searchsorted(ascending, self._bounds))
        self._last = int(end[-1])

    def result(self, tables: int) -> Fragmentation:
        geometry, size = self._geometry, self._state.virtual_size
        sums = self._per_region.sum(axis=1).tolist()
        needed = self._total * geometry.l2_entry_size
        cluster = geometry.cluster_size
        return Fragmentation(
            total_clusters=self._total,
            allocated_clusters=self.allocated,
            fragmented_clusters=self.fragmented,
            compressed_clusters=self.compressed,
            runs=sums[1],
            run_bytes=sums[0] * cluster,
            jumps_back=sums[2],
            regions=tuple(self._region_values()),
            l2_cache=L2Cache(
                tables=tables * cluster,
                needed=-(-needed // cluster) * cluster,
                default=DEFAULT_L2_CACHE,
                default_covers=min(size, DEFAULT_L2_CACHE // geometry.l2_entry_size * cluster),
            ),
        )

    def _region_values(self) -> Iterator[Region]:
        size = self._state.virtual_size
        columns = self._per_region.T.tolist()
        bounds = self._bounds.tolist()
        for first, last, column in zip(bounds[:-1], bounds[1:], columns, strict=True):
            start = first << self._geometry.cluster_bits
            stop = min(size, last << self._geometry.cluster_bits)
            yield Region(start, stop - start, *column)
