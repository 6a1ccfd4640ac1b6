"""Refcounts on disk against the references found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import StorageError
from ...findings import FindingKind
from ...image.image import Image
from ...image.refcounts import refcount_of
from ...layout.geometry import Geometry
from ...layout.tables import I64
from ...record import record
from . import kinds as K
from .codes import (
    CAUSE_HIGH,
    CAUSE_LOW,
    CAUSE_OVERFLOW,
    CAUSE_STALE,
    CAUSE_ZERO,
    ONE,
    TRUE_ONE,
    USED,
)
from .collect import MAX_EXAMPLES, Collector, Example, contained, runs_of

U64 = NDArray[np.uint64]


@record
class Expectations:
    """What the comparison has to know beside the two counts.

    ``end``: clusters that are compared; behind it a count is a leftover.  ``dirty``: the counts
    were postponed.  ``colliding``: clusters with two owners (ascending).  ``stale_bitmaps``:
    clusters of bitmaps that are no longer valid (ascending).
    """

    geometry: Geometry
    end: int
    dirty: bool
    colliding: I64
    stale_bitmaps: I64


class Comparison:
    """Judges pairs of counts.  ``highest``: the last cluster counted or referred to, or -1.

    ``mismatched``: those of the colliding clusters whose count is wrong, too.
    """

    def __init__(self, expected: Expectations, collector: Collector) -> None:
        self.expected = expected
        self.collector = collector
        self.highest = -1
        self.mismatched = 0

    def cap(self, clusters: I64 | range, references: NDArray[np.unsignedinteger]) -> U64 | None:
        """The references as far as a refcount can count them; None when all fit.

        What does not fit is a finding of its own.  ``clusters`` has the cluster of each.
        """
        most = self.expected.geometry.refcount_max
        if not len(references) or int(references.max()) <= most:
            return None
        over = np.flatnonzero(references > np.uint64(most))
        where = _chosen(clusters, over)
        beyond = sum(int(value) - most for value in references[over].tolist())
        self.collector.totals(corruptions=beyond)
        bits = self.expected.geometry.cluster_bits
        self.collector.add(
            K.REFCOUNT_OVERFLOW,
            len(over),
            hosts=runs_of(where),
            examples=[
                (cluster, f"ERROR: overflow cluster offset=0x{cluster << bits:x}")
                for cluster in where[:MAX_EXAMPLES].tolist()
            ],
        )
        return np.minimum(references.astype(np.uint64), np.uint64(most))

    def mismatches(self, clusters: I64, on_disk: U64, references: U64) -> NDArray[np.uint8]:
        """Report clusters (ascending) whose two counts differ; the cause bits of each."""
        low = on_disk < references
        self.collector.totals(
            corruptions=int(np.count_nonzero(low)), leaks=int(np.count_nonzero(~low))
        )
        causes = np.zeros(len(clusters), dtype=np.uint8)
        rest = np.ones(len(clusters), dtype=bool)
        if len(self.expected.colliding):
            double = contained(clusters, self.expected.colliding)
            self.mismatched += int(np.count_nonzero(double))
            self._report(K.OVERLAP, double, clusters, on_disk, references, count=False)
            rest &= ~double
        used = references != 0
        if len(self.expected.stale_bitmaps):
            stale = rest & ~used & contained(clusters, self.expected.stale_bitmaps)
            self._report(K.LEAK_BITMAPS, stale, clusters, on_disk, references)
            rest &= ~stale
        if self.expected.dirty:
            self._report(K.REFCOUNT_STALE, rest, clusters, on_disk, references)
            causes[rest & used] = CAUSE_STALE
            return causes
        zero = on_disk == 0
        for kind, which, cause in (
            (K.REFCOUNT_ZERO, low & zero, CAUSE_ZERO),
            (K.REFCOUNT_LOW, low & ~zero, CAUSE_LOW),
            (K.REFCOUNT_HIGH, ~low & used, CAUSE_HIGH),
            (K.LEAK, ~low & ~used, 0),
        ):
            chosen = rest & which
            self._report(kind, chosen, clusters, on_disk, references)
            causes[chosen] = cause
        return causes

    def unlisted_leaks(self, count: int) -> None:
        """Leaked clusters that are too many to be looked at one by one."""
        kind = K.REFCOUNT_STALE if self.expected.dirty else K.LEAK
        self.collector.totals(leaks=count)
        self.collector.add(kind, count)

    def beyond_end(self, clusters: I64, on_disk: U64, count: int | None = None) -> None:
        """Counts of clusters behind the end that nothing refers to."""
        found = len(clusters) if count is None else count
        self.collector.totals(extra_leaks=found)
        self.collector.add(
            K.BEYOND_END,
            found,
            hosts=runs_of(clusters),
            examples=[
                (cluster, f"cluster {cluster} refcount={value}, beyond the end of the file")
                for cluster, value in zip(
                    clusters[:MAX_EXAMPLES].tolist(), on_disk[:MAX_EXAMPLES].tolist(), strict=True
                )
            ],
        )

    def saw(self, cluster: int) -> None:
        """A cluster that is counted or referred to."""
        self.highest = max(self.highest, cluster)

    def _report(
        self,
        kind: FindingKind,
        which: NDArray[np.bool_],
        clusters: I64,
        on_disk: U64,
        references: U64,
        *,
        count: bool = True,
    ) -> None:
        index = np.flatnonzero(which)
        if not len(index):
            return
        examples: list[Example] = []
        for at in index[:MAX_EXAMPLES].tolist():
            cluster, disk, found = int(clusters[at]), int(on_disk[at]), int(references[at])
            word = "ERROR" if disk < found else "Leaked"
            examples.append(
                (cluster, f"{word} cluster {cluster} refcount={disk} reference={found}")
            )
        self.collector.add(
            kind,
            len(index) if count else 0,
            hosts=runs_of(clusters[index]) if count else None,
            examples=examples,
        )


def codes_of(
    on_disk: NDArray[np.unsignedinteger] | None, references: NDArray[np.unsignedinteger]
) -> NDArray[np.uint8]:
    """The codes of clusters, without causes.  ``on_disk`` None: all counts are 0."""
    codes: NDArray[np.uint8] = (references != 0).view(np.uint8) * np.uint8(USED)
    codes |= (references == 1).view(np.uint8) * np.uint8(TRUE_ONE)
    if on_disk is not None:
        codes |= (on_disk == 1).view(np.uint8) * np.uint8(ONE)
    return codes


def overflow_codes(
    codes: NDArray[np.uint8], references: NDArray[np.unsignedinteger], most: int
) -> None:
    """Let the owners of clusters with too many references be looked up."""
    codes[references > np.uint64(most)] |= np.uint8(CAUSE_OVERFLOW)


def shown_refcount(image: Image, cluster: int) -> str:
    """The refcount on disk of a cluster, for a message."""
    try:
        return str(refcount_of(image, cluster))
    except StorageError:
        return "?"


def _chosen(clusters: I64 | range, index: I64) -> I64:
    return index + clusters.start if isinstance(clusters, range) else clusters[index]
