"""After the comparison: collisions of metadata, the L1 table's COPIED flags, names of owners."""

from __future__ import annotations

import numpy as np

from ...image.image import Image
from ...layout.constants import OFLAG_COPIED
from ...layout.distinct import distinct
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64
from . import kinds as K
from .claims import Claims, Collisions, Owner, owner_names
from .codes import CAUSE, CAUSE_OVERLAP, ONE, TRUE_ONE, UNKNOWN
from .collect import MAX_EXAMPLES, Collector, EntryRuns, runs_of
from .compare import shown_refcount
from .counts import Counts
from .l1 import ACTIVE, ActiveL1
from .second_look import KIND_OF_CAUSE
from .tables import L2TableSet

#: Tables looked at together.
_PIECE = 1 << 19


def mark_collisions(
    double: Collisions, counts: Counts, mismatched: int, collector: Collector
) -> None:
    """Report metadata clusters with a second owner and let it be looked up.

    ``mismatched`` of them were counted already, because their refcounts do not fit.
    """
    clusters = double.cluster
    if not len(clusters):
        return
    collector.totals(extra_corruptions=len(clusters) - mismatched)
    collector.add(
        K.OVERLAP,
        len(clusters),
        hosts=runs_of(clusters),
        examples=[
            (cluster, f"cluster {cluster}: {', '.join(owner_names(mask))}")
            for cluster, mask in zip(
                clusters[:MAX_EXAMPLES].tolist(), double.owners[:MAX_EXAMPLES].tolist(), strict=True
            )
        ],
    )
    for mask in distinct(double.owners).tolist():
        for name in owner_names(mask):
            collector.add(K.OVERLAP, 0, note=f"the {name}")
    counts.mark(clusters, CAUSE_OVERLAP, CAUSE)


def name_metadata(claims: Claims, counts: Counts, collector: Collector) -> None:
    """Say which structures lie in clusters with wrong refcounts."""
    for piece in claims.pieces():
        causes = counts.codes_at(piece.cluster) & CAUSE
        if not causes.any():
            continue
        for cause, kind in KIND_OF_CAUSE.items():
            if cause != CAUSE_OVERLAP:
                for owner in distinct(piece.owner[causes == cause]).tolist():
                    collector.add(kind, 0, note=f"the {Owner(owner).label}")


def name_tables(
    tables: L2TableSet, counts: Counts, geometry: Geometry, collector: Collector
) -> None:
    """What an L2 table in a cluster with a wrong refcount maps is at risk as a whole."""
    for at in range(0, len(tables.offset), _PIECE):
        offsets = tables.offset[at : at + _PIECE]
        causes = counts.codes_at(offsets >> geometry.cluster_bits) & CAUSE
        if not causes.any():
            continue
        for cause, kind in KIND_OF_CAUSE.items():
            mine = offsets[causes == cause]
            if len(mine):
                whole = np.full(len(mine), geometry.l2_entries, dtype=np.int64)
                collector.add(kind, 0, entries=EntryRuns(mine, np.zeros_like(whole), whole))


def compare_l1_flags(
    image: Image,
    geometry: Geometry,
    active: ActiveL1,
    counts: Counts,
    collector: Collector,
    *,
    last: bool,
) -> None:
    """COPIED of active L1 entries against the refcounts of their L2 tables."""
    for at in range(0, len(active.number), _PIECE):
        number, entry = active.number[at : at + _PIECE], active.entry[at : at + _PIECE]
        cluster = ((entry & OFFSETS) >> np.uint64(geometry.cluster_bits)).astype(np.int64)
        mine = cluster >= counts.low
        if not last:
            mine &= cluster < counts.high
        if mine.any():
            _compare_l1_flags(
                image,
                geometry,
                number[mine].astype(np.int64),
                entry[mine],
                cluster[mine],
                counts,
                collector,
            )


def _compare_l1_flags(
    image: Image,
    geometry: Geometry,
    index: I64,
    entries: U64,
    clusters: I64,
    counts: Counts,
    collector: Collector,
) -> None:
    codes = counts.codes_at(clusters)
    copied = entries >= np.uint64(OFLAG_COPIED)
    wrong = (copied != (codes & ONE != 0)) & (codes & UNKNOWN == 0)
    if not wrong.any():
        return
    collector.totals(corruptions=int(np.count_nonzero(wrong)))
    # Where the flag says what the count should be, the wrong count is the cause.
    own = wrong & (copied != (codes & TRUE_ONE != 0))
    per_table = geometry.l2_entries
    causes = [(K.COPIED_SET, own & copied), (K.COPIED_MISSING, own & ~copied)]
    causes += [
        (kind, wrong & ~own & (codes & CAUSE == cause)) for cause, kind in KIND_OF_CAUSE.items()
    ]
    for turn, (kind, which) in enumerate(causes):
        where = np.flatnonzero(which)
        if not len(where):
            continue
        places = index[where]
        if turn < 2:
            first, count = runs_of(places)
            for start, length in zip(first[:1000].tolist(), count[:1000].tolist(), strict=True):
                collector.add(
                    kind,
                    length,
                    guest=(ACTIVE, start * per_table, length * per_table),
                    place=(image.header.l1_table_offset + 8 * start, 8 * length),
                )
        collector.add(
            kind,
            0,
            note="the L2 table",
            flags=0 if turn < 2 else len(where),
            examples=[
                (
                    int(clusters[at]),
                    f"ERROR OFLAG_COPIED L2 cluster: l1_index={index[at]} "
                    f"l1_entry={int(entries[at]):x} "
                    f"refcount={shown_refcount(image, int(clusters[at]))}",
                )
                for at in where[:MAX_EXAMPLES].tolist()
            ],
        )
