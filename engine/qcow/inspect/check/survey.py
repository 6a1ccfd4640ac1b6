"""Before the L2 tables are walked: every other structure, found, judged and claimed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...findings import Severity
from ...image.image import Image
from ...layout.constants import REFCOUNT_TABLE_OFFSET_MASK
from ...layout.geometry import Geometry
from ...layout.tables import I64, U64
from ...record import record
from . import structures
from .blocks import read_table
from .claims import Claims, Owner
from .collect import Collector
from .l1 import L1Tables, l1_regions, read_l1_tables
from .presence import DataMap
from .regions import TableRegion
from .space import HostSpace
from .tables import L2TableSet

#: Refcount blocks are followed this many times as far as the file goes.
_FAR = 4


@record
class Survey:
    """What an image consists of, but for what its L2 tables refer to.

    ``regions``: the L1 tables that can be walked; ``wrong_l1`` others are counted as corruptions.
    ``refcount_table``: uint64, native; ``counts_known`` is False when there is none to be had.
    ``stale_bitmaps``: int64, clusters of bitmaps that are no longer valid, ascending.
    """

    space: HostSpace
    data: DataMap
    claims: Claims
    regions: tuple[TableRegion, ...]
    wrong_l1: int
    l1: L1Tables
    refcount_table: U64
    counts_known: bool
    stale_bitmaps: I64

    def limit(self, geometry: Geometry) -> int:
        """Clusters to keep counts for: a little more than the file has.

        Refcount blocks may go on behind the end of a file that was cut; what they say is needed
        for the flags of entries that point there.
        """
        offsets = self.refcount_table & np.uint64(REFCOUNT_TABLE_OFFSET_MASK)
        inside = np.flatnonzero((offsets != 0) & (offsets < np.uint64(self.space.length)))
        per_block = geometry.refcount_block_entries
        covered = (int(inside[-1]) + 1) * per_block if len(inside) else 0
        own = self.space.clusters + 1
        return max(own, min(covered, _FAR * (own + per_block)))


def survey(
    image: Image, geometry: Geometry, collector: Collector, cancelled: Callable[[], None]
) -> Survey:
    """Read all small structures and all L1 tables.  ``cancelled`` may raise to stop."""
    for problem in image.problems:
        if problem.severity is Severity.ERROR:
            collector.totals(check_errors=1)
    space = HostSpace.of(image.storage, geometry)
    data = DataMap(image.storage, space)
    claims = Claims(space, collector)
    structures.claim_header(claims, geometry)
    regions, wrong_l1 = l1_regions(image, geometry, claims, collector)
    structures.claim_snapshot_table(image, geometry, claims, collector)
    table = read_table(image, geometry, claims, collector)
    structures.claim_luks_header(image, claims, collector)
    bitmaps = structures.Bitmaps(image, geometry, space, data, collector)
    bitmaps.claim(claims, cancelled)
    l1 = read_l1_tables(image, geometry, regions, space, data, collector, cancelled)
    _claim_tables(l1.tables, geometry, claims)
    return Survey(
        space,
        data,
        claims,
        regions,
        wrong_l1,
        l1,
        np.zeros(0, dtype=np.uint64) if table is None else table,
        table is not None,
        bitmaps.stale_clusters(),
    )


def _claim_tables(tables: L2TableSet, geometry: Geometry, claims: Claims) -> None:
    bits = geometry.cluster_bits
    claims.clusters(Owner.L2, tables.offset, tables.times, bits)
    split = tables.offset & (geometry.cluster_size - 1) != 0
    if split.any():
        behind = tables.offset[split] + geometry.cluster_size
        claims.clusters(Owner.L2, behind, tables.times[split], bits)
