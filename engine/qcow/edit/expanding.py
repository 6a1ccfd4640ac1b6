"""Saying "zeros" without the zero flag, which version 2 does not have.

Without a backing file a cluster that is not allocated reads as zeros; with one, a cluster of zeros
has to be allocated.  Each table is changed once, for all the states that share it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..image.tables import l2_tables
from ..layout.constants import OFLAG_ZERO
from ..layout.distinct import distinct_counts
from ..layout.tables import I64, OFFSETS, U64
from .counting import COMPRESSED, table_clusters
from .rewriting import rewrite_tables

if TYPE_CHECKING:
    from .transaction import Transaction

_ZERO = np.uint64(OFLAG_ZERO)


def has_compressed_clusters(tx: Transaction) -> bool:
    """Whether the active state or any snapshot has compressed clusters."""
    for batch in l2_tables(tx.image.storage, tx.geometry, _tables(tx)[0]):
        if bool((batch.entries & COMPRESSED).any()):
            return True
    return False


def expand_zero_clusters(tx: Transaction, *, is_device: bool) -> tuple[int, int]:
    """Leave no zero flag in the tables of the active state and the snapshots.

    All states show what they showed.  The image has no extended L2 entries and its data lies in
    it.  Returns (entries changed, clusters of zeros allocated).
    """
    expansion = _Expansion(tx)
    offsets, _ = expansion.tables
    rewrite_tables(tx, offsets, expansion.change, [tx.l1, *(d.l1 for d in tx.snapshots)])
    end = tx.ledger.last_used() + 1 << tx.geometry.cluster_bits
    if expansion.allocated and not is_device and end > tx.guard.size():
        tx.guard.truncate(end)  # what was never written there reads as zeros
    return expansion.changed, expansion.allocated


def _tables(tx: Transaction) -> tuple[I64, I64]:
    """(host offsets of all L2 tables, ascending; how often L1 tables name each)."""
    every = [tx.l1, *(draft.l1 for draft in tx.snapshots)]
    named = np.concatenate([table_clusters(l1, tx.geometry) for l1 in every])
    clusters, times = distinct_counts(named)
    return clusters << tx.geometry.cluster_bits, times


class _Expansion:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._backed = tx.image.backing is not None
        self.tables = _tables(tx)
        self.changed = self.allocated = 0

    def change(self, offsets: I64, entries: U64, bitmaps: U64 | None) -> tuple[U64, U64 | None]:
        """What :func:`rewrite_tables` asks for."""
        zero = ((entries & _ZERO) != 0) & ((entries & COMPRESSED) == 0)
        if not zero.any():
            return entries, bitmaps
        tx, bits = self._tx, self._tx.geometry.cluster_bits
        # Each path from an L1 table to a cluster counts.
        places, times = self.tables
        paths = np.broadcast_to(times[np.searchsorted(places, offsets)][:, None], zero.shape)[zero]
        reserved = (entries[zero] & OFFSETS) >> np.uint64(bits)
        given_up = np.repeat(reserved.astype(np.int64), np.where(reserved != 0, paths, 0))
        tx.ledger.add(given_up, -1)
        tx.settle_all |= bool((tx.ledger.counts_of(given_up) == 1).any())
        new = entries.copy()
        new[zero] = self._zeros(paths) if self._backed else np.uint64(0)
        self.changed += len(paths)
        return new, bitmaps

    def _zeros(self, paths: NDArray[np.integer]) -> U64:
        """Entries for clusters that read as zeros, each with as many references."""
        tx, bits = self._tx, self._tx.geometry.cluster_bits
        clusters = tx.ledger.allocate(len(paths))
        tx.ledger.add(np.repeat(clusters, paths), 1)
        # Free clusters may hold anything; a hole needs no room, and is as good.
        breaks = (np.flatnonzero(np.diff(clusters) != 1) + 1).tolist()
        for low, high in zip([0, *breaks], [*breaks, len(clusters)], strict=True):
            tx.guard.punch(int(clusters[low]) << bits, (high - low) << bits)
        self.allocated += len(clusters)
        tx.settle_all = True
        entries: U64 = clusters.astype(np.uint64) << np.uint64(bits)
        return entries
