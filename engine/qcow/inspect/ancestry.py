"""The snapshot tree: qcow2 records no parents; shared clusters and time tell them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ..image.image import Image
from ..layout.tables import I64
from ..record import record
from .sharing import ACTIVE, Sharing

#: Above this many snapshots all pairs are too many to compare; time alone orders them.
_MAX_COMPARED = 1024


@record
class Ancestry:
    """``parents[i]`` is the state index of the parent of state ``i``; None for a root.

    State 0 is the active state ("you are here"); snapshot number n of the table is state n + 1.
    ``inferred`` is False when there were too many snapshots to compare their contents.
    """

    parents: tuple[int | None, ...]
    inferred: bool

    def children(self, parent: int | None) -> tuple[int, ...]:
        """States whose parent is ``parent``, in order of their index; the active state last."""
        found = [i for i, p in enumerate(self.parents) if p == parent and i != ACTIVE]
        if self.parents[ACTIVE] == parent:
            found.append(ACTIVE)
        return tuple(found)


def ancestry(image: Image, shares: Sharing) -> Ancestry:
    """The likeliest tree: a state descends from the earlier snapshot it differs least from.

    Among equals the latest wins; a snapshot that shares nothing with any earlier one is a root.
    """
    snapshots = image.snapshots
    order = sorted(
        range(1, len(snapshots) + 1),
        key=lambda i: (snapshots[i - 1].date_sec, snapshots[i - 1].date_nsec, i),
    )
    parents: list[int | None] = [None] * (len(snapshots) + 1)
    if len(snapshots) > _MAX_COMPARED:
        for before, after in pairwise(order):
            parents[after] = before
        parents[ACTIVE] = order[-1]
        return Ancestry(tuple(parents), inferred=False)
    shared = _shared_clusters(shares)
    referenced = shared.diagonal()
    for place, state in [*enumerate(order), (len(order), ACTIVE)]:
        earlier = [i for i in order[:place] if shared[state, i] > 0]
        if earlier:
            apart = [int(referenced[state] + referenced[i] - 2 * shared[state, i]) for i in earlier]
            least = min(apart)
            parents[state] = next(
                i
                for i, distance in zip(reversed(earlier), reversed(apart), strict=True)
                if distance == least
            )
    return Ancestry(tuple(parents), inferred=True)


def _shared_clusters(shares: Sharing) -> I64:
    """int64[states, states]: clusters that both states refer to."""
    members = np.zeros((len(shares.sets), shares.states), dtype=np.int64)
    counts = np.zeros(len(shares.sets), dtype=np.int64)
    for row, (mask, clusters) in enumerate(shares.sets):
        counts[row] = clusters
        bits = np.frombuffer(mask.to_bytes(-(-shares.states // 8), "little"), dtype=np.uint8)
        members[row] = np.unpackbits(bits, bitorder="little")[: shares.states]
    return members.T @ (members * counts[:, None])
