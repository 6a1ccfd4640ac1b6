"""What a triage found: groups of leaked clusters, and lost tables with the places they fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...findings import Range
from ...layout.tables import I64
from ...record import record
from ...text import safe
from .classes import LeakClass

#: How sure a statement is.
CERTAIN, LIKELY, POSSIBLE = "certain", "likely", "possible"


@record
class Fit:
    """A place in an L1 table where a lost L2 table fits.

    ``state``: "active" or "snapshot:ID" (raw image text).  ``snapshot``: its index, None for the
    active state.  ``index``: the L1 entry.  ``start``, ``length``: the guest bytes behind it.
    ``score``: larger is better, comparable for one table only.  ``evidence``: sentences.
    """

    state: str
    snapshot: int | None
    index: int
    start: int
    length: int
    score: int
    certain: bool
    evidence: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "state": safe(self.state),
            "l1-index": self.index,
            "start": self.start,
            "length": self.length,
            "certain": self.certain,
            "evidence": list(self.evidence),
        }


@record
class Orphan:
    """An L2 table that lost an L1 entry.

    ``offset``: host bytes.  ``entries``: those in use.  ``claimed``: leaked clusters that it
    names.  ``first``, ``last``: the lowest and the highest entry in use.  ``copied``: whether any
    entry carries COPIED, as only those of the active state do.  ``conflicts``: clusters that
    another lost table names as well.  ``shared_with``: the state that still names it, "" for a
    table that is leaked itself.  ``fits``: best first, at most a few.  ``choices``: how many
    places fit in all.
    """

    offset: int
    entries: int
    claimed: int
    first: int
    last: int
    copied: bool
    conflicts: int
    shared_with: str = ""
    fits: tuple[Fit, ...] = ()
    choices: int = 0

    @property
    def best(self) -> Fit | None:
        """The place that fits better than all others, or None."""
        if not self.fits:
            return None
        if len(self.fits) > 1 and self.fits[0].score <= self.fits[1].score:
            return None
        return self.fits[0]

    def to_json(self) -> dict[str, Any]:
        return {
            "offset": self.offset,
            "entries": self.entries,
            "leaked-clusters-named": self.claimed,
            "shared-with": safe(self.shared_with) or None,
            "places": self.choices,
            "would-fit": [fit.to_json() for fit in self.fits],
        }


@record
class LeakGroup:
    """Leaked clusters of one class.

    ``confidence``: CERTAIN, LIKELY or POSSIBLE.  ``evidence``: sentences, safe to show.
    ``would_fit``: where the tables among them would fit.  ``ranges``: host bytes, coalesced, at
    most a thousand (``truncated`` says if there are more).
    """

    kind: LeakClass
    clusters: int
    bytes: int
    confidence: str
    evidence: tuple[str, ...]
    would_fit: tuple[Fit, ...] = ()
    ranges: tuple[Range, ...] = ()
    truncated: bool = False

    @property
    def reclaimable(self) -> bool:
        """Whether it is certain that freeing them loses no guest data."""
        return self.confidence == CERTAIN and not self.kind.may_be_guest_data

    def to_json(self) -> dict[str, Any]:
        return {
            "class": self.kind.label,
            "clusters": self.clusters,
            "bytes": self.bytes,
            "confidence": self.confidence,
            "reclaimable": self.reclaimable,
            "evidence": list(self.evidence),
            "would-fit": [fit.to_json() for fit in self.would_fit],
            "host-ranges": [{"start": r.start, "length": r.length} for r in self.ranges],
            "truncated": self.truncated,
        }


@record
class Triage:
    """``leaked``: int64, ascending, host clusters that are counted and that nothing refers to;
    ``classes``: uint8 (:class:`LeakClass`) and ``sure`` bool of each.  ``groups``: gravest first.
    ``orphans``: the lost L2 tables.  ``lost_l1``: host offsets of L1 tables that nothing names and
    that reach leaked tables."""

    cluster_size: int
    leaked: I64
    classes: NDArray[np.uint8]
    sure: NDArray[np.bool_]
    groups: tuple[LeakGroup, ...] = ()
    orphans: tuple[Orphan, ...] = ()
    lost_l1: tuple[int, ...] = ()

    def of(self, *kinds: LeakClass) -> I64:
        """The leaked clusters of these classes (int64, ascending)."""
        found: I64 = self.leaked[np.isin(self.classes, np.array(kinds, dtype=np.uint8))]
        return found

    @property
    def reclaimable(self) -> I64:
        """The leaked clusters that certainly are no guest data (int64, ascending)."""
        harmless = [kind for kind in LeakClass if not kind.may_be_guest_data]
        chosen = np.isin(self.classes, np.array(harmless, dtype=np.uint8)) & self.sure
        found: I64 = self.leaked[chosen]
        return found

    @property
    def locked(self) -> I64:
        """The others: what may be guest data (int64, ascending)."""
        found: I64 = np.setdiff1d(self.leaked, self.reclaimable, assume_unique=True)
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "leaked-clusters": len(self.leaked),
            "bytes": len(self.leaked) * self.cluster_size,
            "reclaimable-clusters": len(self.reclaimable),
            "groups": [group.to_json() for group in self.groups],
            "lost-l2-tables": [orphan.to_json() for orphan in self.orphans],
            "lost-l1-tables": list(self.lost_l1),
        }
