"""Which clusters are counted more often than anything refers to them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...image.image import Image
from ...jobs import CancelToken, ProgressCallback
from ...layout.tables import I64
from ..owners import OwnerMap, scan_owners

_WINDOW_BITS = 20


class ClusterSet:
    """Host clusters (int64, ascending, no repeats) that can be asked for quickly."""

    def __init__(self, clusters: I64) -> None:
        self.clusters = clusters
        self._first = int(clusters[0]) if len(clusters) else 0
        span = int(clusters[-1]) - self._first + 1 if len(clusters) else 0
        self._dense: NDArray[np.bool_] | None = None
        if span <= 16 * len(clusters) + (1 << 20):
            self._dense = np.zeros(span, dtype=bool)
            self._dense[clusters - self._first] = True
        self._index: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.clusters)

    def holds(self, clusters: I64) -> NDArray[np.bool_]:
        """For each of ``clusters`` (int64[n]) whether it is in the set (bool[n])."""
        if self._dense is None:
            place = np.searchsorted(self.clusters, clusters)
            place[place == len(self.clusters)] = 0
            found: NDArray[np.bool_] = self.clusters[place] == clusters
            return found
        at = clusters - self._first
        inside = (at >= 0) & (at < len(self._dense))
        if not inside.any():
            return inside
        at[~inside] = 0
        inside &= self._dense[at]
        return inside

    def places(self, clusters: I64) -> I64:
        """Indices into ``self.clusters`` of clusters that are in the set."""
        if self._dense is not None and len(clusters) > 1024:
            if self._index is None:
                self._index = np.cumsum(self._dense, dtype=np.int32) - np.int32(1)
            return self._index[clusters - self._first].astype(np.int64)
        found: I64 = np.searchsorted(self.clusters, clusters)
        return found


class Leaks(NamedTuple):
    """``leaked``: counted, and nothing refers to them.  ``surplus``: those, and what is referred
    to less often than it is counted.  ``crowded``: referred to more than once, and more often than
    counted.  ``owners``: the class of every host cluster."""

    leaked: ClusterSet
    surplus: ClusterSet
    crowded: ClusterSet
    owners: OwnerMap

    def classes_at(self, clusters: I64) -> NDArray[np.uint8]:
        """The :class:`ClusterClass` of each of ``clusters``, 0 outside of the file."""
        found = np.zeros(len(clusters), dtype=np.uint8)
        inside = np.flatnonzero((clusters >= 0) & (clusters < self.owners.total))
        for chunk, at, where in self.owners.classes.grouped(clusters[inside]):
            found[inside[where]] = chunk[at]
        return found


def find_leaks(
    image: Image, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> Leaks:
    """Compare all references with the counts on disk.  Raises GuestDataError, Cancelled."""
    parts: list[I64] = []
    counts: list[NDArray[np.uint16]] = []

    def note(first: int, counted: NDArray[np.uint16], mismatch: NDArray[np.bool_]) -> None:
        at = np.flatnonzero(mismatch)
        if len(at):
            parts.append(at + first)
            counts.append(counted[at])

    owners = scan_owners(
        image, publish_counts=note, keep_references=True, progress=progress, cancel=cancel
    )
    assert owners.references is not None
    if not parts:
        nothing = ClusterSet(np.zeros(0, dtype=np.int64))
        return Leaks(nothing, nothing, nothing, owners)
    clusters = np.concatenate(parts)
    counted = np.concatenate(counts)
    referred = np.empty(len(clusters), dtype=np.uint8)
    breaks = np.flatnonzero(np.diff(clusters >> _WINDOW_BITS)) + 1
    at = 0
    for stop in [*breaks.tolist(), len(clusters)]:
        first = int(clusters[at])
        window = owners.references.read(first, int(clusters[stop - 1]) + 1)
        referred[at:stop] = window[clusters[at:stop] - first]
        at = stop
    more = (counted > referred) & (clusters < owners.total)
    leaked = clusters[more & (referred == 0)]
    crowded = clusters[(counted < referred) & (referred > 1)]
    nobodys = ClusterSet(leaked)
    surplus = nobodys if np.count_nonzero(more) == len(leaked) else ClusterSet(clusters[more])
    return Leaks(nobodys, surplus, ClusterSet(crowded), owners)
