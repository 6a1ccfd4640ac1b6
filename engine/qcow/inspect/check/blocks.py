"""The refcount table and the blocks it names, as structures of the image."""

from __future__ import annotations

from typing import Final

import numpy as np

from ...errors import StorageError
from ...findings import FindingKind
from ...image.image import Image
from ...image.refcounts import refcount_table
from ...layout.constants import REFCOUNT_TABLE_RESERVED_MASK
from ...layout.distinct import distinct_counts
from ...layout.geometry import Geometry
from ...layout.header_rules import refcount_table_fault
from ...layout.tables import I64, U64
from ...record import record
from . import kinds as K
from .claims import Claims, Owner
from .collect import MAX_EXAMPLES, Collector, Example, runs_of
from .counts import Counts

#: Above this QEMU's block layer refuses to read.
LAST_BLOCK_OFFSET: Final = (1 << 63) - (1 << 30)
#: Blocks looked at together.
_PIECE = 1 << 16


@record
class RefcountBlocks:
    """The refcount blocks that count as used themselves, in the order of the table.

    int64[n] ``cluster``: host cluster; ``place``: number of the entry that names it.
    """

    cluster: I64
    place: I64


def read_table(
    image: Image, geometry: Geometry, claims: Claims, collector: Collector
) -> U64 | None:
    """The refcount table (uint64, native), claimed; None when the counts cannot be known."""
    header = image.header
    if not header.refcount_table_clusters:
        return np.zeros(0, dtype=np.uint64)  # no table: nothing is counted
    if refcount_table_fault(header, geometry) is not None:
        return None
    length = header.refcount_table_clusters << geometry.cluster_bits
    claims.region(Owner.REFCOUNT_TABLE, header.refcount_table_offset, length)
    try:
        return refcount_table(image)
    except StorageError:
        collector.totals(check_errors=1)
        collector.add(
            K.UNREADABLE, place=(header.refcount_table_offset, length), note="the refcount table"
        )
        return None


def judge_table(
    image: Image, geometry: Geometry, table: U64, end: int, collector: Collector
) -> RefcountBlocks:
    """Find the entries that cannot be right; ``end``: clusters the file has."""
    start = image.header.refcount_table_offset
    left = np.flatnonzero(table)
    for mask, kind, text in (
        (
            REFCOUNT_TABLE_RESERVED_MASK,
            K.REFBLOCK_RESERVED,
            "refcount table entry {} has reserved bits set",
        ),
        (
            geometry.cluster_size - 1,
            K.REFBLOCK_UNALIGNED,
            "refcount block {} is not cluster aligned; refcount table entry corrupted",
        ),
    ):
        wrong = table[left] & np.uint64(mask) != 0
        _note(kind, left[wrong], start, text, collector)
        left = left[~wrong]
    outside = table[left] >= np.uint64(end << geometry.cluster_bits)
    text = "refcount block {} is outside image"
    _note(K.REFBLOCK_OUTSIDE, left[outside], start, text, collector)
    left = left[~outside]
    clusters = (table[left] >> np.uint64(geometry.cluster_bits)).astype(np.int64)
    return RefcountBlocks(clusters, left)


def claim_blocks(blocks: RefcountBlocks, claims: Claims) -> None:
    claims.clusters(Owner.REFCOUNT_BLOCK, blocks.cluster, 1)


def judge_sharing(
    blocks: RefcountBlocks, counts: Counts, geometry: Geometry, start: int, collector: Collector
) -> None:
    """Blocks in the range of ``counts`` that are used for anything else, too.

    QEMU counts the blocks one after the other and looks at the sum so far: of several blocks in one
    cluster that nothing else refers to, the first is still fine.  ``start``: the host offset of the
    refcount table.
    """
    if geometry.refcount_max == 1:
        return  # the sum never gets beyond 1: what is too much is an overflow
    suspect: list[I64] = []
    for at in range(0, len(blocks.cluster), _PIECE):
        clusters = blocks.cluster[at : at + _PIECE]
        inside = (clusters >= counts.low) & (clusters < counts.high)
        suspect.append(np.flatnonzero(inside & (counts.at(clusters) > 1)) + at)
    rows = np.concatenate(suspect) if suspect else np.zeros(0, dtype=np.int64)
    if not len(rows):
        return
    clusters, blocks_there = distinct_counts(blocks.cluster[rows])
    alone = counts.at(clusters) == blocks_there.astype(np.uint64)
    wrong = int(blocks_there.sum()) - int(np.count_nonzero(alone))
    if not wrong:
        return
    collector.totals(corruptions=wrong)
    collector.add(
        K.REFBLOCK_SHARED,
        wrong,
        hosts=runs_of(clusters[~alone | (blocks_there > 1)]),
        place=(start + 8 * int(blocks.place[rows[0]]), 8),
        examples=_sharing_examples(blocks, rows, counts, geometry.refcount_max),
    )


def _sharing_examples(
    blocks: RefcountBlocks, rows: I64, counts: Counts, most: int
) -> list[Example]:
    """The first blocks that qemu-img names, with the sums it has reached there."""
    found: list[Example] = []
    total: dict[int, int] = {}
    seen: dict[int, int] = {}
    for row in rows[: 4 * MAX_EXAMPLES].tolist():
        cluster, place = int(blocks.cluster[row]), int(blocks.place[row])
        if cluster not in total:
            here = np.array([cluster])
            others = int(np.count_nonzero(blocks.cluster[rows] == cluster))
            total[cluster] = int(counts.at(here)[0]) - others
        seen[cluster] = seen.get(cluster, 0) + 1
        reached = min(most, total[cluster] + seen[cluster])
        if reached != 1 and len(found) < MAX_EXAMPLES:
            found.append((place, f"ERROR refcount block {place} refcount={reached}"))
    return found


def _note(kind: FindingKind, index: I64, start: int, text: str, collector: Collector) -> None:
    if not len(index):
        return
    collector.totals(corruptions=len(index))
    listed = index[:MAX_EXAMPLES].tolist()
    collector.add(kind, len(index), examples=[(at, "ERROR " + text.format(at)) for at in listed])
    for at in index[:1000].tolist():
        collector.add(kind, 0, place=(start + 8 * at, 8))
