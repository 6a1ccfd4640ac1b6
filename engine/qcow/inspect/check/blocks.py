"""The refcount table and the blocks it names, as structures of the image."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import StorageError
from ...findings import FindingKind
from ...image.image import Image
from ...image.refcounts import refcount_table
from ...layout.constants import REFCOUNT_TABLE_OFFSET_MASK, REFCOUNT_TABLE_RESERVED_MASK
from ...layout.geometry import Geometry
from ...layout.header_rules import refcount_table_fault
from ...layout.tables import I64, U64
from . import kinds as K
from .claims import Claims, Owner
from .collect import MAX_EXAMPLES, Collector

#: Above this QEMU's block layer refuses to read.
LAST_BLOCK_OFFSET: Final = (1 << 63) - (1 << 30)
_OFFSETS = np.uint64(REFCOUNT_TABLE_OFFSET_MASK)


class RefcountBlocks(NamedTuple):
    """``table``: all entries of the refcount table in the file (uint64, native).

    ``cluster``, ``place``: int64, the host clusters of the blocks that count as used themselves and
    where the table names them, in its order.
    """

    table: U64
    cluster: I64
    place: I64


def read_table(image: Image, geometry: Geometry, claims: Claims, collector: Collector) -> U64:
    """The refcount table, claimed; empty when it cannot be used."""
    header = image.header
    if refcount_table_fault(header, geometry) is not None:
        return np.zeros(0, dtype=np.uint64)
    length = header.refcount_table_clusters << geometry.cluster_bits
    claims.region(Owner.REFCOUNT_TABLE, header.refcount_table_offset, length)
    try:
        return refcount_table(image)
    except StorageError:
        collector.totals(check_errors=1)
        collector.add(
            K.UNREADABLE, place=(header.refcount_table_offset, length), note="the refcount table"
        )
        return np.zeros(0, dtype=np.uint64)


def judge_table(
    image: Image, geometry: Geometry, table: U64, end: int, collector: Collector
) -> RefcountBlocks:
    """Find the entries that cannot be right; ``end``: clusters the file has."""
    used = np.flatnonzero(table)
    entries = table[used]
    offsets = entries & _OFFSETS
    reserved = (entries & np.uint64(REFCOUNT_TABLE_RESERVED_MASK)) != 0
    misaligned = ~reserved & (offsets & np.uint64(geometry.cluster_size - 1) != 0)
    clusters = offsets >> np.uint64(geometry.cluster_bits)
    outside = ~reserved & ~misaligned & (clusters >= np.uint64(end))
    start = image.header.refcount_table_offset
    for kind, which, text in (
        (K.REFBLOCK_RESERVED, reserved, "refcount table entry {} has reserved bits set"),
        (
            K.REFBLOCK_UNALIGNED,
            misaligned,
            "refcount block {} is not cluster aligned; refcount table entry corrupted",
        ),
        (K.REFBLOCK_OUTSIDE, outside, "refcount block {} is outside image"),
    ):
        _note(kind, used[which], start, text, collector)
    sound = ~reserved & ~misaligned & ~outside
    return RefcountBlocks(table, clusters[sound].astype(np.int64), used[sound])


def claim_blocks(blocks: RefcountBlocks, claims: Claims) -> None:
    once = np.ones(len(blocks.cluster), dtype=np.int64)
    claims.clusters(Owner.REFCOUNT_BLOCK, blocks.cluster, once)


def judge_sharing(
    blocks: RefcountBlocks,
    references: NDArray[np.uint64],
    inside: NDArray[np.bool_],
    geometry: Geometry,
    start: int,
    collector: Collector,
) -> None:
    """Blocks that are used for anything else, too.

    ``references``: all references to the cluster of each block.  ``inside``: the blocks they are
    known for.  QEMU counts the blocks one after the other and looks at the sum so far.
    """
    # A block with one reference in all has no other owner.
    inside = inside & (references != 1)
    index, clusters, found = blocks.place[inside], blocks.cluster[inside], references[inside]
    if not len(index):
        return
    order = np.argsort(clusters, kind="stable")
    heads = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    repeats = np.diff(heads, append=len(order))
    turn = np.empty(len(order), dtype=np.int64)
    turn[order] = np.arange(len(order)) - np.repeat(heads, repeats)
    times = np.empty(len(order), dtype=np.int64)
    times[order] = np.repeat(repeats, repeats)
    sum_so_far = found - times.astype(np.uint64) + (turn + 1).astype(np.uint64)
    sum_so_far = np.minimum(sum_so_far, np.uint64(geometry.refcount_max))
    wrong = np.flatnonzero(sum_so_far != 1)
    if not len(wrong):
        return
    collector.totals(corruptions=len(wrong))
    collector.add(
        K.REFBLOCK_SHARED,
        len(wrong),
        hosts=(clusters[wrong], np.ones(len(wrong), dtype=np.int64)),
        place=(start + 8 * int(index[wrong[0]]), 8),
        examples=[
            (int(index[at]), f"ERROR refcount block {index[at]} refcount={sum_so_far[at]}")
            for at in wrong[:MAX_EXAMPLES].tolist()
        ],
    )


def _note(kind: FindingKind, index: I64, start: int, text: str, collector: Collector) -> None:
    if not len(index):
        return
    collector.totals(corruptions=len(index))
    listed = index[:MAX_EXAMPLES].tolist()
    collector.add(kind, len(index), examples=[(at, "ERROR " + text.format(at)) for at in listed])
    for at in index[:1000].tolist():
        collector.add(kind, 0, place=(start + 8 * at, 8))
