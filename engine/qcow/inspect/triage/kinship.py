"""L2 tables of other states as evidence: states of one disk share tables, and copies of tables."""

from __future__ import annotations

import numpy as np

from ...image.image import Image
from ...image.tables import l2_tables
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64
from ...text import safe
from .report import Fit, Orphan
from .shapes import COMPRESSED, COPIED
from .slots import Slots

#: Tables looked at.
_MOST = 64


class Kin:
    """Finds the table of another state that a lost table was copied from, or to."""

    def __init__(self, image: Image, geometry: Geometry, slots: list[Slots]) -> None:
        self._image = image
        self._geometry = geometry
        self._slots = slots
        self._tables: dict[int, U64] = {}

    def places(self, orphan: Orphan, slots: Slots) -> dict[int, str]:
        """Free places of ``slots`` where another state has a table with mostly the same entries."""
        own: U64 | None = None
        found: dict[int, str] = {}
        for other in self._slots:
            if other is slots:
                continue
            index = slots.free[slots.free < len(other.l1)]
            index = index[~np.isin(index, other.free)]
            for at in index[:_MOST].tolist():
                if own is None:
                    own = _entries(self._image, self._geometry, orphan.offset) & ~COPIED
                same = int(np.count_nonzero((own == self._table(other, at)) & (own != 0)))
                if 2 * same >= orphan.entries:
                    found[at] = (
                        f"{same} of its {orphan.entries} entries are those of the table that "
                        f"{safe(other.label)} has there."
                    )
        return found if len(found) == 1 else {}

    def _table(self, slots: Slots, index: int) -> U64:
        offset = int(slots.l1[index] & OFFSETS)
        if offset not in self._tables:
            if len(self._tables) >= _MOST:
                self._tables.clear()
            self._tables[offset] = _entries(self._image, self._geometry, offset) & ~COPIED
        return self._tables[offset]


def shared_tables(
    image: Image, geometry: Geometry, all_slots: list[Slots], surplus: I64
) -> list[Orphan]:
    """L2 tables of one state that are counted once more than they are named, while another state
    has a free place where they lie.  Their fits are complete."""
    found: list[Orphan] = []
    size = np.uint64(geometry.cluster_bits)
    for slots in all_slots:
        for other in all_slots:
            if other is slots or not len(slots.free):
                continue
            index = slots.free[slots.free < len(other.l1)]
            clusters = ((other.l1[index] & OFFSETS) >> size).astype(np.int64)
            named = (clusters != 0) & ~np.isin(index, other.free) & np.isin(clusters, surplus)
            for at, cluster in zip(index[named].tolist(), clusters[named].tolist(), strict=True):
                found += _shared(image, geometry, slots, other, at, cluster, surplus)
                if len(found) >= _MOST:
                    return found
    return found


def _shared(
    image: Image,
    geometry: Geometry,
    slots: Slots,
    other: Slots,
    index: int,
    cluster: int,
    surplus: I64,
) -> list[Orphan]:
    offset = cluster << geometry.cluster_bits
    entries = _entries(image, geometry, offset)
    plain = ((entries & COMPRESSED) == 0) & ((entries & OFFSETS) != 0)
    hosts = ((entries[plain] & OFFSETS) >> np.uint64(geometry.cluster_bits)).astype(np.int64)
    if not np.isin(hosts, surplus).all():
        return []
    used = np.flatnonzero(entries)
    raw = int(slots.l1[index])
    aligned = raw & int(OFFSETS) & ~(geometry.cluster_size - 1)
    meant = raw != 0 and aligned == offset
    bits, per_table = geometry.cluster_bits, geometry.l2_entries
    end = min((index + 1) * per_table, slots.clusters)
    fit = Fit(
        slots.label,
        slots.snapshot,
        index,
        (index * per_table) << bits,
        (end - index * per_table) << bits,
        2 if meant else 1,
        meant,
        (
            f"{safe(other.label)} has this table at the same place, and the table and all that it "
            "names are counted once more than they are used.",
        ),
    )
    return [
        Orphan(
            offset,
            len(used),
            0,
            int(used[0]) if len(used) else 0,
            int(used[-1]) if len(used) else 0,
            False,
            0,
            shared_with=other.label,
            fits=(fit,),
            choices=1,
        )
    ]


def _entries(image: Image, geometry: Geometry, offset: int) -> U64:
    (table,) = l2_tables(image.storage, geometry, np.array([offset], dtype=np.int64))
    entries: U64 = table.entries[0]
    return entries
