"""After the comparison: collisions of metadata, the L1 table's COPIED flags, names of owners."""

from __future__ import annotations

import numpy as np

from ...image.image import Image
from ...image.refcounts import refcount_of
from ...layout.constants import OFLAG_COPIED
from ...layout.geometry import Geometry
from ...layout.tables import I64
from . import kinds as K
from .claims import Owned, owner_names
from .codes import CAUSE, CAUSE_OVERLAP, ONE, TRUE_ONE, UNKNOWN
from .collect import MAX_EXAMPLES, Collector, EntryRuns, runs_of
from .counts import Counts
from .l1 import ACTIVE, ActiveL1
from .second_look import KIND_OF_CAUSE
from .tables import L2TableSet


def mark_collisions(
    colliding: I64, owned: Owned, counts: Counts, mismatched: int, collector: Collector
) -> None:
    """Report metadata clusters with a second owner and let it be looked up.

    ``mismatched`` of them were counted already, because their refcounts do not fit.
    """
    if not len(colliding):
        return
    masks = owned.owners[np.searchsorted(owned.cluster, colliding)]
    collector.totals(extra_corruptions=len(colliding) - mismatched)
    collector.add(
        K.OVERLAP,
        len(colliding),
        hosts=runs_of(colliding),
        examples=[
            (cluster, f"cluster {cluster}: {', '.join(owner_names(mask))}")
            for cluster, mask in zip(
                colliding[:MAX_EXAMPLES].tolist(), masks[:MAX_EXAMPLES].tolist(), strict=True
            )
        ],
    )
    for mask in np.unique(masks).tolist():
        for name in owner_names(mask):
            collector.add(K.OVERLAP, 0, note=f"the {name}")
    counts.mark(colliding, CAUSE_OVERLAP, CAUSE)


def name_metadata(owned: Owned, counts: Counts, collector: Collector) -> None:
    """Say which structures lie in clusters with wrong refcounts."""
    causes = counts.codes_at(owned.cluster) & CAUSE
    for cause, kind in KIND_OF_CAUSE.items():
        if cause == CAUSE_OVERLAP:
            continue
        where = causes == cause
        if where.any():
            for mask in np.unique(owned.owners[where]).tolist():
                for name in owner_names(mask):
                    collector.add(kind, 0, note=f"the {name}")


def name_tables(
    tables: L2TableSet, counts: Counts, geometry: Geometry, collector: Collector
) -> None:
    """What an L2 table in a cluster with a wrong refcount maps is at risk as a whole."""
    causes = counts.codes_at(tables.offset >> geometry.cluster_bits) & CAUSE
    if not causes.any():
        return
    for cause, kind in KIND_OF_CAUSE.items():
        offsets = tables.offset[causes == cause]
        if len(offsets):
            whole = np.full(len(offsets), geometry.l2_entries, dtype=np.int64)
            collector.add(kind, 0, entries=EntryRuns(offsets, np.zeros_like(whole), whole))


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
    clusters = active.offset >> geometry.cluster_bits
    mine = clusters >= counts.low
    if not last:
        mine &= clusters < counts.high
    if not mine.any():
        return
    index, entries, clusters = active.number[mine], active.entry[mine], clusters[mine]
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
                collector.add(kind, length, guest=(ACTIVE, start * per_table, length * per_table))
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
                    f"refcount={refcount_of(image, int(clusters[at]))}",
                )
                for at in where[:MAX_EXAMPLES].tolist()
            ],
        )
