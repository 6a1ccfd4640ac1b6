"""Every structure of an image that is no guest data, with the clusters it lies in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ...image.image import Image
from ...image.refcounts import refcount_table
from ...layout.constants import REFCOUNT_TABLE_OFFSET_MASK
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS
from ...text import safe
from .scan import L1Table, l1_name


class Structure(NamedTuple):
    """Host clusters of one structure (int64) with a noun phrase for it."""

    name: str
    clusters: I64


def structures_of(
    image: Image, geometry: Geometry, tables: Iterable[L1Table]
) -> Iterator[Structure]:
    """Every structure that is no guest data, with the clusters it lies in."""
    header = image.header
    bits = np.uint64(geometry.cluster_bits)

    def run(offset: int, length: int) -> I64:
        first = offset >> geometry.cluster_bits
        last = min(offset + length, image.storage.size())
        return np.arange(first, max(first, geometry.clusters(last)))

    yield Structure("the header", run(0, 1))
    yield Structure(l1_name("active"), run(header.l1_table_offset, header.l1_size * 8))
    blocks = refcount_table(image)
    if len(blocks):
        length = header.refcount_table_clusters * geometry.cluster_size
        yield Structure("the refcount table", run(header.refcount_table_offset, length))
        offsets = blocks & np.uint64(REFCOUNT_TABLE_OFFSET_MASK)
        used = offsets[(offsets != 0) & (offsets < np.uint64(image.storage.size()))]
        yield Structure("a refcount block", (used >> bits).astype(np.int64))
    if image.snapshots:
        length = image.snapshot_table_length
        yield Structure("the snapshot table", run(header.snapshots_offset, length))
    for snapshot in image.snapshots:
        where = run(snapshot.l1_table_offset, snapshot.l1_size * 8)
        yield Structure(l1_name(snapshot.label), where)
    if image.bitmap_directory is not None and image.bitmaps_valid:
        yield Structure("the bitmap directory", run(*image.bitmap_directory))
        for bitmap in image.bitmaps:
            yield Structure("a bitmap table", run(bitmap.table_offset, bitmap.table_size * 8))
    if image.crypto is not None:
        yield Structure("the LUKS header", run(image.crypto.offset, image.crypto.length))
    for state, entries, _ in tables:
        offsets = entries & OFFSETS
        odd = (offsets & np.uint64(geometry.cluster_size - 1)) != 0
        named = offsets[(offsets != 0) & ~odd & (offsets < np.uint64(image.storage.size()))]
        yield Structure(f"an L2 table of {safe(state)}", (named >> bits).astype(np.int64))
