"""Reverse lookup: who points at one host cluster."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import GuestDataError
from ..image.image import Image
from ..image.refcounts import refcount_of, refcount_table
from ..image.state import State
from ..image.tables import l2_tables
from ..jobs import CancelToken
from ..layout.constants import (
    BITMAP_TABLE_OFFSET_MASK,
    OFLAG_COMPRESSED,
    REFCOUNT_TABLE_OFFSET_MASK,
)
from ..layout.geometry import Geometry
from ..layout.tables import I64, OFFSETS, U64, compressed_fields, decode_u64
from ..record import record

#: More references than this to one cluster are counted, not listed.
MAX_LISTED = 256


@record
class Reference:
    """One pointer at a cluster (or the fixed place that makes it part of a structure).

    ``states`` are labels such as ``active`` or ``snapshot:2`` (raw image text).  ``entry_offset``
    is the host offset of the pointer itself.  Offsets in bytes; None where the kind has none.
    """

    owner: str  # "header", "L1 table", "L2 table", "data", "compressed data", "refcount block", ...
    states: tuple[str, ...] = ()
    l1_index: int | None = None
    l2_index: int | None = None
    guest_offset: int | None = None
    entry_offset: int | None = None


@record
class ClusterReferences:
    """Everything that refers to one host cluster.  ``total`` counts also what is not listed."""

    cluster: int
    refcount: int
    references: tuple[Reference, ...]
    total: int


def references_to(
    image: Image, cluster: int, *, cancel: CancelToken | None = None
) -> ClusterReferences:
    """Find every reference to host cluster ``cluster`` by walking all tables once.

    Raises GuestDataError when no table can be interpreted.
    """
    listed: list[Reference] = []
    total = 0
    for reference, times in _references(image, cluster, cancel):
        total += times
        if len(listed) < MAX_LISTED:
            listed.append(reference)
    return ClusterReferences(cluster, refcount_of(image, cluster), tuple(listed), total)


def _references(
    image: Image, cluster: int, cancel: CancelToken | None
) -> Iterator[tuple[Reference, int]]:
    geometry = image.usable_geometry_for_tables()
    for reference in _fixed(image, geometry, cluster):
        yield reference, 1
    for reference in _bitmaps(image, geometry, cluster):
        yield reference, 1
    if image.unusable is not None:
        return
    tables: dict[int, list[tuple[State, int]]] = {}
    for state in _readable_states(image):
        first = state.l1_table_offset >> geometry.cluster_bits
        if first <= cluster < first + geometry.clusters(state.l1_size * 8):
            yield Reference("L1 table", (state.label,), entry_offset=None), 1
        offsets = state.l1() & OFFSETS
        for index in np.flatnonzero(offsets).tolist():
            tables.setdefault(int(offsets[index]), []).append((state, index))
    for offset, users in tables.items():
        if offset >> geometry.cluster_bits == cluster:
            for state, index in users:
                yield (
                    Reference(
                        "L2 table",
                        (state.label,),
                        l1_index=index,
                        guest_offset=index * geometry.l2_span,
                        entry_offset=state.l1_table_offset + 8 * index,
                    ),
                    1,
                )
    size = image.storage.size()
    readable = np.array(
        sorted(o for o in tables if o < size and not o & (geometry.cluster_size - 1)),
        dtype=np.int64,
    )
    for window in l2_tables(image.storage, geometry, readable):
        if cancel is not None:
            cancel.check()
        rows, columns, compressed = _pointing(window.entries, cluster, image, geometry)
        for row, column, packed in zip(
            rows.tolist(), columns.tolist(), compressed.tolist(), strict=True
        ):
            offset = int(window.offsets[row])
            users = tables[offset]
            by_index: dict[int, list[str]] = {}
            for state, index in users:
                by_index.setdefault(index, []).append(state.label)
            for index, labels in by_index.items():
                yield (
                    Reference(
                        "compressed data" if packed else "data",
                        tuple(labels),
                        index,
                        column,
                        index * geometry.l2_span + (column << geometry.cluster_bits),
                        offset + column * geometry.l2_entry_size,
                    ),
                    len(labels),
                )


def _readable_states(image: Image) -> list[State]:
    states = [image.active]
    for snapshot in image.snapshots:
        try:
            states.append(image.snapshot_state(snapshot))
        except GuestDataError:
            continue
    return states


def _pointing(entries: U64, cluster: int, image: Image, geometry: Geometry) -> tuple[I64, I64, I64]:
    """(rows, columns, 1 if compressed) of the entries that point into ``cluster``."""
    compressed = (entries & np.uint64(OFLAG_COMPRESSED)) != 0
    hit = np.zeros(entries.shape, dtype=bool)
    if not image.header.has_data_file:
        hit = (entries & OFFSETS) >> np.uint64(geometry.cluster_bits) == np.uint64(cluster)
        hit &= ~compressed
        if cluster == 0:
            hit[:] = False
    if compressed.any():
        offsets, lengths = compressed_fields(entries[compressed], geometry)
        hit[compressed] = (offsets >> geometry.cluster_bits <= cluster) & (
            (offsets + lengths - 1) >> geometry.cluster_bits >= cluster
        )
    rows, columns = np.nonzero(hit)
    return rows, columns, compressed[rows, columns].astype(np.int64)


def _fixed(image: Image, geometry: Geometry, cluster: int) -> Iterator[Reference]:
    header = image.header
    bits = geometry.cluster_bits

    def within(offset: int, length: int) -> bool:
        return length > 0 and offset >> bits <= cluster <= (offset + length - 1) >> bits

    if cluster == 0:
        yield Reference("header")
    if within(header.refcount_table_offset, header.refcount_table_clusters << bits):
        yield Reference("refcount table")
    blocks = refcount_table(image) & np.uint64(REFCOUNT_TABLE_OFFSET_MASK)
    for index in np.flatnonzero(blocks >> np.uint64(bits) == np.uint64(cluster)).tolist():
        if cluster or blocks[index]:
            yield Reference(
                "refcount block",
                l1_index=index,
                entry_offset=header.refcount_table_offset + 8 * index,
            )
    if within(header.snapshots_offset, image.snapshot_table_length):
        yield Reference("snapshot table")
    if image.crypto is not None and within(image.crypto.offset, image.crypto.length):
        yield Reference("LUKS header")


def _bitmaps(image: Image, geometry: Geometry, cluster: int) -> Iterator[Reference]:
    bits = geometry.cluster_bits
    if image.bitmap_directory is not None:
        offset, length = image.bitmap_directory
        if offset >> bits <= cluster <= (offset + length - 1) >> bits:
            yield Reference("bitmap directory")
    for bitmap in image.bitmaps:
        length = bitmap.table_size * 8
        if not length:
            continue
        if bitmap.table_offset >> bits <= cluster <= (bitmap.table_offset + length - 1) >> bits:
            yield Reference("bitmap table", entry_offset=bitmap.table_offset)
        table = decode_u64(image.storage.read(bitmap.table_offset, length))
        data = (table & np.uint64(BITMAP_TABLE_OFFSET_MASK)) >> np.uint64(bits)
        for index in np.flatnonzero(data == np.uint64(cluster)).tolist():
            if cluster:
                yield Reference(
                    "bitmap data", l2_index=index, entry_offset=bitmap.table_offset + 8 * index
                )
