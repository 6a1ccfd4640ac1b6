"""Which states share which clusters: what deleting a snapshot frees, exactly.

Every host cluster gets the *set of states* (active, each snapshot) that refer to it, as a small set
id.  Few different sets exist in practice, so one count for each set answers every question: what
is exclusive to one state, to any selection of them, what two states share and how far they are
apart.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import GuestDataError
from ..image.image import Image
from ..image.state import State
from ..image.tables import l2_tables
from ..jobs import CancelToken, ProgressCallback, Throttle
from ..layout.constants import OFLAG_COMPRESSED, OFLAG_ZERO
from ..layout.distinct import distinct
from ..layout.geometry import Geometry
from ..layout.tables import I64, OFFSETS, U64, compressed_fields
from ..record import record
from .cluster_array import ClusterArray

#: Index of the active state; snapshot number i of the table has index i + 1.
ACTIVE = 0


@record
class Sharing:
    """Cluster counts by the set of states that refer to them, tables included.

    ``sets``: (bit mask of state indices, clusters).  ``unreadable``: indices of snapshots whose L1
    table cannot be used; they are counted as referring to nothing.
    """

    cluster_size: int
    states: int
    sets: tuple[tuple[int, int], ...]
    unreadable: tuple[int, ...] = ()

    def exclusive(self, members: int | Iterable[int]) -> int:
        """Bytes that only the given state(s) refer to: what goes when all of them go."""
        mask = self._mask(members)
        return self.cluster_size * sum(n for states, n in self.sets if not states & ~mask)

    def referenced(self, member: int) -> int:
        """Bytes the state refers to, shared or not."""
        return self.cluster_size * sum(n for states, n in self.sets if states >> member & 1)

    def apart(self, one: int, other: int) -> int:
        """Bytes that exactly one of the two states refers to."""
        return self.cluster_size * sum(
            n for states, n in self.sets if (states >> one ^ states >> other) & 1
        )

    def shared(self, one: int, other: int) -> int:
        """Bytes both states refer to."""
        return self.cluster_size * sum(
            n for states, n in self.sets if states >> one & states >> other & 1
        )

    @staticmethod
    def _mask(members: int | Iterable[int]) -> int:
        if isinstance(members, int):
            return 1 << members
        mask = 0
        for member in members:
            mask |= 1 << member
        return mask


def sharing(
    image: Image,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Sharing:
    """Walk every L2 table once.  Raises GuestDataError when no table can be interpreted."""
    geometry = image.usable_geometry()
    states, unreadable = _readable_states(image)
    sets = _StateSets(len(image.snapshots) + 1)
    clusters = _file_clusters(image, geometry)
    tables = sets.mark_l1(states, geometry, clusters)
    tell = Throttle(progress)
    done = 0
    for set_id, offsets in sets.tables_by_set(tables, geometry):
        for window in l2_tables(image.storage, geometry, offsets):
            if cancel is not None:
                cancel.check()
            found = _data_clusters(window.entries.reshape(-1), image, geometry, clusters)
            sets.add(found, set_id)
            done += len(window.offsets)
            tell("comparing states", done, len(tables), "L2 tables")
    return Sharing(geometry.cluster_size, sets.states, sets.totals(), tuple(unreadable))


def _readable_states(image: Image) -> tuple[list[tuple[int, State]], list[int]]:
    states: list[tuple[int, State]] = [(ACTIVE, image.active)]
    unreadable: list[int] = []
    for snapshot in image.snapshots:
        try:
            states.append((snapshot.index + 1, image.snapshot_state(snapshot)))
        except GuestDataError:
            unreadable.append(snapshot.index + 1)
    return states, unreadable


def _file_clusters(image: Image, geometry: Geometry) -> int:
    return geometry.clusters(image.storage.size())


def _data_clusters(entries: U64, image: Image, geometry: Geometry, limit: int) -> I64:
    """Host clusters that the entries refer to (with repeats), inside the file."""
    compressed = (entries & np.uint64(OFLAG_COMPRESSED)) != 0
    parts: list[I64] = []
    packed = entries[compressed]
    if len(packed):
        offsets, lengths = compressed_fields(packed, geometry)
        first = offsets >> geometry.cluster_bits
        last = (offsets + lengths - 1) >> geometry.cluster_bits
        for step in range(int((last - first).max()) + 1):
            parts.append((first + step)[first + step <= last])
        entries = entries[~compressed]
    if not image.header.has_data_file:
        plain = entries & OFFSETS & ~np.uint64(OFLAG_ZERO)
        parts.append((plain[plain != 0] >> np.uint64(geometry.cluster_bits)).astype(np.int64))
    found = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    return found[found < limit]


class _StateSets:
    """Set ids of clusters.  Id 0 is the empty set; ``_masks[id]`` is the set as a bit mask."""

    def __init__(self, states: int) -> None:
        self.states = states
        # Up to 8 states cannot form more sets than 8 bits can number.
        self._ids = ClusterArray(
            np.uint8 if states <= 8 else np.uint16 if states <= 16 else np.uint32
        )
        self._masks: list[int] = [0]
        self._by_mask: dict[int, int] = {0: 0}
        self._unions: dict[tuple[int, int], int] = {}

    def mark_l1(self, states: list[tuple[int, State]], geometry: Geometry, limit: int) -> I64:
        """Mark L1 and L2 table clusters of every state; the L2 tables' clusters, ascending."""
        found: list[I64] = []
        for index, state in states:
            own = self._id_of(1 << index)
            first = state.l1_table_offset >> geometry.cluster_bits
            count = geometry.clusters(state.l1_size * 8)
            self.add(np.arange(first, min(first + count, limit), dtype=np.int64), own)
            offsets = state.l1() & OFFSETS
            usable = (offsets != 0) & ((offsets & np.uint64(geometry.cluster_size - 1)) == 0)
            tables = distinct(
                (offsets[usable] >> np.uint64(geometry.cluster_bits)).astype(np.int64)
            )
            tables = tables[tables < limit]
            self.add(tables, own)
            found.append(tables)
        return distinct(np.concatenate(found))

    def tables_by_set(self, tables: I64, geometry: Geometry) -> list[tuple[int, I64]]:
        """(set id, byte offsets of the L2 tables with it, ascending)."""
        ids = np.empty(len(tables), dtype=np.int64)
        for chunk, index, where in self._ids.grouped(tables):
            ids[where] = chunk[index]
        return [
            (number, tables[ids == number] << geometry.cluster_bits)
            for number in distinct(ids).tolist()
        ]

    def add(self, clusters: I64, set_id: int) -> None:
        """Join the set ``set_id`` to the sets of ``clusters`` (repeats are fine)."""
        for chunk, index, _where in self._ids.grouped(clusters):
            old = chunk[index]
            present = distinct(old).tolist()
            joined = [self._union(number, set_id) for number in present]
            if len(present) == 1:
                chunk[index] = joined[0]
            else:
                chunk[index] = np.array(joined, dtype=chunk.dtype)[np.searchsorted(present, old)]

    def totals(self) -> tuple[tuple[int, int], ...]:
        """(mask, clusters) of every set that occurs."""
        counts = np.zeros(len(self._masks), dtype=np.int64)
        for _first, chunk in self._ids.chunks():
            for at in range(0, len(chunk), 1 << 20):
                counts += np.bincount(chunk[at : at + (1 << 20)], minlength=len(self._masks))
        return tuple(
            (self._masks[number], int(count))
            for number, count in enumerate(counts.tolist())
            if number and count
        )

    def _union(self, one: int, other: int) -> int:
        key = (one, other)
        found = self._unions.get(key)
        if found is None:
            found = self._unions[key] = self._id_of(self._masks[one] | self._masks[other])
        return found

    def _id_of(self, mask: int) -> int:
        found = self._by_mask.get(mask)
        if found is None:
            found = self._by_mask[mask] = len(self._masks)
            self._masks.append(mask)
        return found
