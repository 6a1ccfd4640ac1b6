"""The places of L1 tables in which a lost L2 table could belong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...errors import GuestDataError
from ...image.image import Image
from ...image.state import State
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64, decode_u64
from .shapes import COMPRESSED

#: A table and its data lie between the clusters on both sides of a seam, and maybe counts.
SEAM = 4


@dataclass(frozen=True)
class Slots:
    """Free places of one state.

    ``l1``: uint64, native, as on disk.  ``free``: int64, ascending, indices of entries that name
    no readable table.  ``damaged``: those of ``free`` whose entry is not 0.  ``clusters``: guest
    clusters of the disk, and of the VM state behind it.  ``begins``, ``ends``: host cluster of the
    first and the last entry of each table in use, with its index.
    """

    label: str
    snapshot: int | None
    l1: U64
    free: I64
    damaged: I64
    disk_clusters: int
    clusters: int
    begins: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)

    def neighbours(self) -> NDArray[np.int8]:
        """For each of ``free``: 2 with a table in use before it, 3 with one behind it as well, 1
        with one behind it only, else 0 (int8)."""
        used = np.ones(len(self.l1) + 2, dtype=bool)
        used[0] = used[-1] = False
        used[self.free + 1] = False
        found: NDArray[np.int8] = used[self.free] * np.int8(2) + used[self.free + 2]
        return found


def find_slots(image: Image, geometry: Geometry) -> list[Slots]:
    """Those of the active state and of every snapshot that can be read."""
    if image.unusable is not None:
        return []
    return [_slots_of(image, geometry, state) for state in _states(image)]


def _states(image: Image) -> Iterator[State]:
    yield image.active
    for snapshot in image.snapshots:
        try:
            yield image.snapshot_state(snapshot)
        except GuestDataError:
            continue


def _slots_of(image: Image, geometry: Geometry, state: State) -> Slots:
    disk = geometry.clusters(state.virtual_size)
    entries = geometry.l1_entries(state.virtual_size)
    total = disk
    if state.snapshot is not None and state.snapshot.vm_state_size:
        behind = entries * geometry.l2_entries
        total = behind + geometry.clusters(state.snapshot.vm_state_size)
        entries = -(-total // geometry.l2_entries)
    l1 = state.l1()[:entries]
    offsets = l1 & OFFSETS
    size = np.uint64(image.storage.size())
    odd = (offsets & np.uint64(geometry.cluster_size - 1)) != 0
    free = np.flatnonzero((offsets == 0) | odd | (offsets >= size))
    slots = Slots(
        state.label,
        None if state.snapshot is None else state.snapshot.index,
        l1,
        free,
        free[l1[free] != 0],
        disk,
        total,
    )
    used = np.setdiff1d(np.arange(len(l1)), free, assume_unique=True)
    if len(free) and len(used):
        begins, ends = edges(image, geometry, offsets[used].astype(np.int64))
        slots.begins.update(_named(begins, used))
        slots.ends.update(_named(ends, used))
    return slots


def tables_in_use(geometry: Geometry, all_slots: list[Slots]) -> I64:
    """Host clusters of the L2 tables that the states name (int64, ascending, no repeats)."""
    bits = np.uint64(geometry.cluster_bits)
    found = [
        ((np.delete(slots.l1, slots.free) & OFFSETS) >> bits).astype(np.int64)
        for slots in all_slots
    ]
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *found]))


def _named(hosts: I64, indices: I64) -> dict[int, int]:
    there = hosts >= 0
    return dict(zip(hosts[there].tolist(), indices[there].tolist(), strict=True))


def edges(image: Image, geometry: Geometry, tables: I64) -> tuple[I64, I64]:
    """Host clusters of the first and the last entry of L2 tables (int64, -1 for none)."""
    width = geometry.l2_entry_size
    found = []
    for at in (0, geometry.cluster_size - width):
        raw = np.zeros(len(tables) * 8, dtype=np.uint8)
        image.storage.read_pieces((tables + at).tolist(), 8, raw.data)
        words = decode_u64(raw)
        hosts = ((words & OFFSETS) >> np.uint64(geometry.cluster_bits)).astype(np.int64)
        hosts[((words & COMPRESSED) != 0) | (hosts == 0)] = -1
        found.append(hosts)
    return found[0], found[1]
