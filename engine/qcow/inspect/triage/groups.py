"""Telling of leaked clusters in groups: what they are, how sure that is, and what speaks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...findings import Range
from ...layout.tables import I64
from ...text import plural
from .classes import LeakClass
from .report import CERTAIN, LIKELY, POSSIBLE, Fit, LeakGroup, Orphan

#: Places and ranges that are told of a group, at most.
_RANGES = 1000
#: The order in which groups are told.
_GRAVEST = (
    LeakClass.ORPHAN_L2,
    LeakClass.GUEST_DATA,
    LeakClass.SNAPSHOT_REMNANT,
    LeakClass.HOLE_DATA,
    LeakClass.COMPRESSED,
    LeakClass.UNKNOWN,
    LeakClass.OLD_L1,
    LeakClass.OLD_L2,
    LeakClass.OLD_SNAPSHOT_TABLE,
    LeakClass.OLD_REFCOUNT_TABLE,
    LeakClass.OLD_REFCOUNT_BLOCK,
    LeakClass.GARBAGE,
    LeakClass.EMPTY,
)


class Grouping:
    """Makes groups of leaked clusters.

    ``size``: bytes of a cluster.  ``orphans``: the lost tables, placed.  ``evidence``: sentences
    that speak for a class.
    """

    def __init__(
        self,
        size: int,
        orphans: Sequence[Orphan],
        evidence: Mapping[LeakClass, Sequence[str]],
    ) -> None:
        self._size = size
        self._orphans = orphans
        self._evidence = evidence

    def groups(
        self, clusters: I64, classes: NDArray[np.uint8], sure: NDArray[np.bool_]
    ) -> tuple[LeakGroup, ...]:
        """The groups of ``clusters``, the gravest first; arrays of one length."""
        groups = []
        for kind in sorted(LeakClass, key=_GRAVEST.index):
            for certain in (True, False):
                chosen = (classes == kind) & (sure == certain)
                if chosen.any():
                    groups.append(self._group(kind, clusters[chosen], certain))
        return tuple(groups)

    def _group(self, kind: LeakClass, clusters: I64, certain: bool) -> LeakGroup:
        fits: list[Fit] = []
        evidence = list(self._evidence.get(kind, ()))
        confidence = CERTAIN if certain else POSSIBLE
        if kind is LeakClass.EMPTY:
            evidence = ["They hold nothing but zeros."]
        elif kind is LeakClass.ORPHAN_L2:
            fits = [orphan.fits[0] for orphan in self._orphans if orphan.fits][:_RANGES]
            named = sum(orphan.claimed for orphan in self._orphans)
            evidence = [
                f"Can be read as L2 tables: {plural(len(clusters), 'cluster')}, which name "
                f"{plural(named, 'other leaked cluster')}."
            ]
            for fit in fits[:1]:
                evidence += fit.evidence
        elif kind is LeakClass.GUEST_DATA:
            evidence = ["The lost L2 tables name them."]
            confidence = LIKELY
        elif kind in (LeakClass.HOLE_DATA, LeakClass.COMPRESSED, LeakClass.SNAPSHOT_REMNANT):
            confidence = LIKELY
        ranges, truncated = _ranges(clusters, self._size)
        return LeakGroup(
            kind,
            len(clusters),
            len(clusters) * self._size,
            confidence,
            tuple(evidence),
            tuple(fits),
            ranges,
            truncated,
        )


def _ranges(clusters: I64, size: int) -> tuple[tuple[Range, ...], bool]:
    heads = np.concatenate(([0], np.flatnonzero(np.diff(clusters) != 1) + 1))
    ends = np.append(heads[1:], len(clusters))
    ranges = tuple(
        Range(first * size, count * size)
        for first, count in zip(
            clusters[heads[:_RANGES]].tolist(), (ends - heads)[:_RANGES].tolist(), strict=True
        )
    )
    return ranges, len(heads) > _RANGES
