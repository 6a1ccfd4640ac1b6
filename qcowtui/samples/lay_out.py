"""From the model of an image to its bytes: refcounts counted, COPIED flags set, header written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set as AbstractSet
from functools import partial

from qcow.layout.constants import (
    BITMAPS_VALID,
    COMPRESSION_TYPE,
    COMPRESSION_ZLIB,
    EXTENDED_L2,
    LAZY_REFCOUNTS,
    OFLAG_COPIED,
)

from .built import BuiltImage
from .header import encode_header_cluster
from .model import ImageModel
from .space import RefcountLayout, place_refcounts
from .tables import L2Table, encode_refcount_block, encode_table


def lay_out(model: ImageModel) -> BuiltImage:
    """The whole image.  Raises ValueError when a refcount exceeds its width."""
    geometry = model.geometry
    counts = model.references()
    layout = place_refcounts(geometry, counts)
    counts.update(layout.table)
    counts.update(layout.blocks.values())
    if max(counts.values()) > geometry.refcount_max:
        raise ValueError(f"a refcount exceeds {geometry.refcount_bits} bits")

    last = max(max(counts), max(model.contents, default=0))
    image = BuiltImage(geometry, dict(model.contents), last + 1 + model.trailing_clusters)
    image.patch(0, _header(model, layout))
    _write_tables(image, model, counts)
    _write_at(image, model.snapshot_table.start, model.encode_snapshot_table())
    _write_at(image, model.bitmap_directory.start, model.encode_bitmap_directory())
    for bitmap in model.bitmaps:
        _write_at(image, bitmap.table_cluster, encode_table(bitmap.table))
    _write_refcounts(image, layout, counts)
    return image


def _write_at(image: BuiltImage, cluster: int, data: bytes) -> None:
    """Put a structure where it goes, over whatever stale content is there."""
    geometry = image.geometry
    for number in range(cluster, cluster + geometry.clusters(len(data))):
        image.clusters.pop(number, None)
    image.patch(cluster << geometry.cluster_bits, data)


def _write_tables(image: BuiltImage, model: ImageModel, counts: Counter[int]) -> None:
    single = {cluster for cluster, count in counts.items() if count == 1}
    in_use = {id(table): table for l1 in model.l1_tables() for table in l1.values()}
    active = {id(table) for table in model.l1.values()}
    for identity, table in in_use.items():
        # The flag has a meaning in the active state's tables only.
        owned: AbstractSet[int] = single if identity in active else frozenset()
        _write_at(image, table.cluster, table.encode(image.geometry, owned.__contains__))
    owned_tables = {index for index, table in model.l1.items() if table.cluster in single}
    write_l1 = partial(_write_l1, image)
    write_l1(model.l1_cluster, model.l1_size, model.l1, owned_tables)
    for snapshot in model.snapshots:
        write_l1(snapshot.l1_cluster, snapshot.l1_size, snapshot.l1, snapshot.l1_copied)


def _write_l1(
    image: BuiltImage, cluster: int, size: int, l1: dict[int, L2Table], copied: AbstractSet[int]
) -> None:
    words = [0] * size
    for index, table in l1.items():
        flag = OFLAG_COPIED if index in copied else 0
        words[index] = table.cluster << image.geometry.cluster_bits | flag
    _write_at(image, cluster, encode_table(words))


def _write_refcounts(image: BuiltImage, layout: RefcountLayout, counts: Counter[int]) -> None:
    geometry = image.geometry
    words = [0] * (max(layout.blocks) + 1)
    for block, cluster in layout.blocks.items():
        first = block * geometry.refcount_block_entries
        _write_at(image, cluster, encode_refcount_block(geometry, counts, first))
        words[block] = cluster << geometry.cluster_bits
    _write_at(image, layout.table.start, encode_table(words))


def _header(model: ImageModel, layout: RefcountLayout) -> bytes:
    geometry = model.geometry
    bits = geometry.cluster_bits
    incompatible = EXTENDED_L2 if geometry.extended_l2 else 0
    if geometry.compression_type != COMPRESSION_ZLIB:
        incompatible |= COMPRESSION_TYPE
    bitmaps = None
    if model.bitmaps:
        size = len(model.encode_bitmap_directory())
        bitmaps = (len(model.bitmaps), size, model.bitmap_directory.start << bits)
    fields = {
        "version": geometry.version,
        "cluster_bits": bits,
        "size": model.virtual_size,
        "crypt_method": 0,
        "l1_size": model.l1_size,
        "l1_table_offset": model.l1_cluster << bits,
        "refcount_table_offset": layout.table.start << bits,
        "refcount_table_clusters": len(layout.table),
        "nb_snapshots": len(model.snapshots),
        "snapshots_offset": model.snapshot_table.start << bits,
        "incompatible_features": incompatible,
        "compatible_features": LAZY_REFCOUNTS if model.lazy_refcounts else 0,
        "autoclear_features": BITMAPS_VALID if model.bitmaps else 0,
        "refcount_order": geometry.refcount_order,
        "compression_type": geometry.compression_type,
    }
    return encode_header_cluster(
        fields,
        backing_file=model.backing_file,
        backing_format=model.backing_format,
        bitmaps=bitmaps,
        extensions=model.extensions,
    )
