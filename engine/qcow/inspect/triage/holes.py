"""The mapping that is there: is anything of it missing, and which leaks fit its holes exactly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...image.image import Image
from ...image.tables import l2_tables
from ...jobs import CancelToken
from ...layout.distinct import distinct
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64
from ..classes import ClusterClass
from .leaks import ClusterSet, Leaks
from .shapes import COMPRESSED, Shapes
from .slots import Slots

#: Entries of a table that lie in one sector: what a single bad write takes.
_SECTOR_BYTES = 512


class Holes(NamedTuple):
    """``fitting``: int64, leaked clusters that fit exactly between the clusters of their
    neighbours on the disk.  ``tables``, ``numbers``, ``hosts``: int64[n], the holes they fit, entry
    by entry.  ``missing``: sentences about what of the mapping is damaged or lost."""

    fitting: I64
    tables: I64
    numbers: I64
    hosts: I64
    missing: tuple[str, ...]


def find_holes(
    image: Image,
    geometry: Geometry,
    shapes: Shapes,
    leaks: Leaks,
    unexplained: I64,
    slots: list[Slots],
    cancel: CancelToken | None,
) -> Holes:
    """Walk every L2 table in use once.  ``unexplained``: int64, ascending, leaked clusters."""
    missing: dict[str, None] = {}
    if image.unusable is not None:
        missing["The mapping of the disk cannot be read."] = None
    if len(image.snapshots) < image.header.nb_snapshots:
        missing["Not every snapshot can be read."] = None
    if any(len(state.damaged) for state in slots):
        missing["An L1 table has damaged entries."] = None
    walk = _Walk(geometry, shapes, leaks, ClusterSet(unexplained))
    tables = [
        np.flatnonzero(classes == ClusterClass.L2) + first
        for first, classes in leaks.owners.classes.chunks()
    ]
    if leaks.owners.counts.get(ClusterClass.OVERLAPPING):
        missing["Clusters have two owners that cannot share them."] = None
    if tables and not image.header.has_data_file:
        offsets = np.concatenate(tables)
        offsets = offsets[offsets < leaks.owners.total] << geometry.cluster_bits
        for window in l2_tables(image.storage, geometry, offsets):
            if cancel is not None:
                cancel.check()
            walk.take(window.offsets, window.entries, window.bitmaps)
    for text in walk.missing:
        missing[text] = None
    return walk.result(tuple(missing))


class _Walk:
    def __init__(
        self, geometry: Geometry, shapes: Shapes, leaks: Leaks, unexplained: ClusterSet
    ) -> None:
        self._geometry = geometry
        self._shapes = shapes
        self._leaks = leaks
        self._unexplained = unexplained
        self._found: list[tuple[I64, I64, I64]] = []
        self.missing: dict[str, None] = {}

    def take(self, offsets: I64, entries: U64, bitmaps: U64 | None) -> None:
        if not entries.any(axis=1).all():
            self.missing["An L2 table in use is empty."] = None
        words = entries
        if bitmaps is not None:
            words = np.stack((entries, bitmaps), axis=2).reshape(len(entries), -1)
        if not self._shapes.entries(words).all():
            self.missing["Entries of L2 tables are damaged."] = None
        self._sectors(entries)
        per_table = entries.shape[1]
        flat = entries.reshape(-1)
        hosts = ((flat & OFFSETS) >> np.uint64(self._geometry.cluster_bits)).astype(np.int64)
        mapped = np.flatnonzero(((flat & COMPRESSED) == 0) & (hosts != 0))
        if len(mapped) < 2:
            return
        gap = np.diff(mapped)
        apart = (gap > 1) & (np.diff(hosts[mapped]) == gap)
        apart &= mapped[1:] // per_table == mapped[:-1] // per_table
        for at in np.flatnonzero(apart).tolist():
            self._hole(offsets, flat, hosts, int(mapped[at]), int(gap[at]), per_table)

    def _hole(
        self, offsets: I64, flat: U64, hosts: I64, before: int, gap: int, per_table: int
    ) -> None:
        between = slice(before + 1, before + gap)
        wanted = hosts[before] + np.arange(1, gap)
        if flat[between].any() or not self._unexplained.holds(wanted).all():
            return
        numbers = np.arange(before + 1, before + gap) % per_table
        tables = np.full(gap - 1, offsets[before // per_table])
        self._found.append((tables, numbers, wanted))

    def _sectors(self, entries: U64) -> None:
        """A whole sector of zeros between sectors without any empty entry."""
        width = _SECTOR_BYTES // self._geometry.l2_entry_size
        if entries.shape[1] < 3 * width:
            return
        sectors = entries.reshape(len(entries), -1, width)
        empty: NDArray[np.bool_] = ~(sectors != 0).any(axis=2)
        full: NDArray[np.bool_] = (sectors != 0).all(axis=2)
        if (empty[:, 1:-1] & full[:, :-2] & full[:, 2:]).any():
            self.missing["An L2 table has a sector of zeros amid full ones."] = None

    def result(self, missing: tuple[str, ...]) -> Holes:
        if not self._found:
            nothing = np.zeros(0, dtype=np.int64)
            return Holes(nothing, nothing, nothing, nothing, missing)
        tables, numbers, hosts = (
            np.concatenate(column) for column in zip(*self._found, strict=True)
        )
        return Holes(distinct(hosts), tables, numbers, hosts, missing)
