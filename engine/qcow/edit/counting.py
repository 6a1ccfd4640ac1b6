"""What L2 entries refer to, and counting it in the ledger (qcow2 spec, "Cluster mapping")."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..image.image import Image
from ..image.tables import l2_tables
from ..layout.constants import OFLAG_COMPRESSED, OFLAG_COPIED
from ..layout.geometry import Geometry
from ..layout.tables import I64, OFFSETS, U64, compressed_fields
from .ledger import Ledger

COPIED = np.uint64(OFLAG_COPIED)
COMPRESSED = np.uint64(OFLAG_COMPRESSED)


def plain_clusters(entries: U64, geometry: Geometry) -> I64:
    """Host clusters of the entries that name one and are not compressed (int64, in order).

    That is data and reserved zero clusters.
    """
    offsets = entries & OFFSETS
    plain = offsets[(entries & COMPRESSED == 0) & (offsets != 0)]
    return _touched(plain, geometry)


def _touched(offsets: U64, geometry: Geometry) -> I64:
    """The clusters that a cluster's length from each offset touches: two where it is damaged."""
    clusters: I64 = (offsets >> np.uint64(geometry.cluster_bits)).astype(np.int64)
    odd = (offsets & np.uint64(geometry.cluster_size - 1)) != 0
    return np.concatenate((clusters, clusters[odd] + 1)) if odd.any() else clusters


def compressed_clusters(entries: U64, geometry: Geometry) -> Iterator[I64]:
    """Host clusters that compressed entries touch: the first of each, the second, ..."""
    packed = entries[(entries & COMPRESSED) != 0]
    if not len(packed):
        return
    offsets, lengths = compressed_fields(packed, geometry)
    first = offsets >> geometry.cluster_bits
    last = (offsets + lengths - 1) >> geometry.cluster_bits
    yield first
    step = 1
    while bool((more := first + step <= last).any()):
        yield (first + step)[more]
        step += 1


def count_entries(
    ledger: Ledger, image: Image, geometry: Geometry, entries: U64, change: int
) -> bool:
    """Count ``change`` references for each of ``entries`` (any shape).

    True when a plain cluster is left with a single reference, whose COPIED flag may be stale now.
    """
    flat = entries.reshape(-1)
    for clusters in compressed_clusters(flat, geometry):
        ledger.add(clusters, change)
    if image.header.has_data_file:  # its clusters are not counted anywhere
        return False
    clusters = plain_clusters(flat, geometry)
    ledger.add(clusters, change)
    return change < 0 and bool(ledger.single(clusters).any())


def table_clusters(l1: U64, geometry: Geometry) -> I64:
    """Host clusters of the L2 tables an L1 table names (int64, in L1 order, repeats kept)."""
    offsets = l1 & OFFSETS
    clusters: I64 = (offsets[offsets != 0] >> np.uint64(geometry.cluster_bits)).astype(np.int64)
    return clusters


def count_tree(ledger: Ledger, image: Image, geometry: Geometry, l1: U64, change: int) -> None:
    """Count ``change`` references for all that an L1 table reaches: its tables and their entries.

    (The clusters of the L1 table itself are counted by who places it.)
    """
    tables = table_clusters(l1, geometry)
    named = l1[(l1 & OFFSETS) != 0] & OFFSETS
    ledger.add(_touched(named, geometry), change)
    # A table may be named twice by one L1 table, and then counts twice.
    offsets = np.sort(tables) << geometry.cluster_bits
    for batch in l2_tables(image.storage, geometry, offsets):
        count_entries(ledger, image, geometry, batch.entries, change)
