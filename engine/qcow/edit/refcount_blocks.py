"""Writing the refcounts anew: the blocks that change, and the table that names them.

A changed block goes to a free cluster, which changes counts again: the old block's cluster loses
its reference and the new one gets one.  That ends, because each round adds at least one block to
those that are written anyway, and there are finitely many (reliability of the fixpoint).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import EditRefused
from ..image.refcounts import refcount_table, refcount_windows
from ..layout.constants import MAX_REFCOUNT_TABLE_BYTES, REFCOUNT_TABLE_OFFSET_MASK
from ..layout.distinct import distinct
from ..layout.tables import I64, U64, encode_refcounts, encode_u64
from .rewriting import write_scattered

if TYPE_CHECKING:
    from .transaction import Transaction


def write_refcounts(tx: Transaction, refcount_order: int, *, rebuild: bool = False) -> None:
    """Bring the refcounts in the file up to the ledger and name them in ``tx.header``.

    ``refcount_order`` may differ from the image's: then every block is written.  With ``rebuild``
    the old blocks and their table are not looked at, and the ledger does not count them.  Raises
    EditRefused when a count does not fit the width.
    """
    writer = _Writer(tx, refcount_order, rebuild)
    if writer.anything_changed:
        writer.run()


class _Writer:
    def __init__(self, tx: Transaction, order: int, rebuild: bool) -> None:
        self._tx = tx
        self._order = order
        self._rebuild = rebuild
        geometry = tx.geometry
        self._size = geometry.cluster_size
        self._per = self._size * 8 >> order
        self._table: U64 = np.zeros(0, dtype=np.uint64)
        if rebuild:
            changed = self._all_blocks()
        else:
            old = refcount_table(tx.image) & np.uint64(REFCOUNT_TABLE_OFFSET_MASK)
            if order == geometry.refcount_order:
                changed = self._changed_blocks(old)
                if tx.move_roots:
                    changed = np.concatenate((changed, np.flatnonzero(old)))
                self._table = old
            else:
                blocks = (old[old != 0] >> np.uint64(geometry.cluster_bits)).astype(np.int64)
                tx.ledger.add(blocks, -1)
                changed = self._all_blocks()
        self._waiting = set(changed.tolist())
        self._placed: dict[int, int] = {}
        self.anything_changed = bool(self._waiting)

    def _all_blocks(self) -> I64:
        """Indices of the blocks with a count, by the width wanted."""
        counts = self._tx.ledger.counts_in(0, self._tx.ledger.last_used() + 1)
        if not len(counts):
            return np.zeros(0, dtype=np.int64)
        used = np.logical_or.reduceat(counts != 0, np.arange(0, len(counts), self._per))
        return np.flatnonzero(used)

    def _changed_blocks(self, table: U64) -> I64:
        """Indices of the blocks whose counts differ from those on disk, by the image's width."""
        tx, per = self._tx, self._tx.geometry.refcount_block_entries
        ledger = tx.ledger
        found: list[I64] = [np.zeros(0, dtype=np.int64)]
        for first, stop in ledger.touched():
            for window in refcount_windows(tx.image, first, stop - first, table):
                now = ledger.counts_in(window.first, window.first + window.clusters)
                differs = now != 0 if window.counts is None else now != window.counts[: len(now)]
                if differs.any():
                    # Windows begin at the beginning of a block.
                    starts = np.arange(0, len(differs), per)
                    changed = np.logical_or.reduceat(differs, starts)
                    found.append(np.flatnonzero(changed) + window.first // per)
        return distinct(np.concatenate(found))

    def run(self) -> None:
        tx = self._tx
        header = tx.header
        ledger = tx.ledger
        # A table is never made smaller here: it costs little, and growing it again costs a copy.
        clusters = 1 if self._rebuild else header.refcount_table_clusters
        if not self._rebuild:
            self._free_run(header.refcount_table_offset >> tx.geometry.cluster_bits, clusters)
        at = 0
        while True:
            self._place_waiting()
            needed = max(len(self._used_table()), ledger.last_used() // self._per + 1)
            if not at or needed * 8 > clusters * self._size:
                if at:
                    self._free_run(at, clusters)
                clusters = max(clusters, -(-needed * 8 // self._size))
                if clusters * self._size > MAX_REFCOUNT_TABLE_BYTES:
                    raise EditRefused(
                        "The image would need a refcount table of more than 8 MiB, which QEMU does "
                        "not open: a larger cluster size is needed (convert)."
                    )
                at = ledger.allocate_run(clusters)
                ledger.add_run(at, clusters, 1)
                self._dirty(at, clusters)
            if not self._waiting:
                break
        self._write_blocks()
        table = np.zeros(clusters * self._size // 8, dtype=np.uint64)
        table[: len(self._table)] = self._table[: len(table)]
        tx.guard.write(at * self._size, encode_u64(table).data)
        tx.change_header(
            refcount_table_offset=at * self._size,
            refcount_table_clusters=clusters,
            refcount_order=self._order,
        )

    def _used_table(self) -> U64:
        used = np.flatnonzero(self._table)
        return self._table[: int(used[-1]) + 1 if len(used) else 0]

    def _free_run(self, first: int, clusters: int) -> None:
        if clusters:
            self._tx.ledger.add_run(first, clusters, -1)
            self._dirty(first, clusters)

    def _dirty(self, first: int, clusters: int) -> None:
        for index in range(first // self._per, (first + clusters - 1) // self._per + 1):
            if index not in self._placed:
                self._waiting.add(index)

    def _place_waiting(self) -> None:
        tx = self._tx
        ledger = tx.ledger
        bits = tx.geometry.cluster_bits
        indices = sorted(self._waiting)
        self._waiting.clear()
        if not indices:
            return
        if indices[-1] >= len(self._table):
            longer = np.zeros(indices[-1] + 1, dtype=np.uint64)
            longer[: len(self._table)] = self._table
            self._table = longer
        where = np.array(indices, dtype=np.int64)
        old = (self._table[where] >> np.uint64(bits)).astype(np.int64)
        # First all that is given up, so that a block nothing is left in need not be written.
        gone = old[old != 0]
        ledger.add(gone, -1)
        self._table[where] = 0
        kept = [i for i in indices if ledger.counts_in(i * self._per, (i + 1) * self._per).any()]
        new = ledger.allocate(len(kept))
        ledger.add(new, 1)
        where = np.array(kept, dtype=np.int64)
        self._table[where] = new.astype(np.uint64) << np.uint64(bits)
        self._placed.update(zip(kept, new.tolist(), strict=True))
        touched = distinct(np.concatenate((gone, new)) // self._per).tolist()
        self._waiting.update(index for index in touched if index not in self._placed)

    def _write_blocks(self) -> None:
        tx = self._tx
        highest = (1 << (1 << self._order)) - 1
        indices = sorted(self._placed)
        step = max(1, (1 << 20) // self._size)
        for at in range(0, len(indices), step):
            tx.step("writing refcounts", at, len(indices))
            part = indices[at : at + step]
            pieces = []
            for index in part:
                piece = tx.ledger.counts_in(index * self._per, (index + 1) * self._per)
                if len(piece) < self._per:
                    piece = np.concatenate(
                        (piece, np.zeros(self._per - len(piece), dtype=piece.dtype))
                    )
                if self._rebuild and self._order < 6:
                    # Owners that a repair leaves overlapping are errors either way.
                    piece = np.minimum(piece, highest)
                if self._order < 6 and int(piece.max()) > highest:
                    raise EditRefused(
                        f"A cluster would have {int(piece.max())} references, more than "
                        f"{1 << self._order}-bit refcounts can count: give the image wider ones "
                        "first (amend -o refcount_bits=16)."
                    )
                pieces.append(encode_refcounts(piece, self._order))
            clusters = np.array([self._placed[index] for index in part], dtype=np.int64)
            order = np.argsort(clusters)
            data = np.concatenate([pieces[i] for i in order.tolist()])
            write_scattered(tx, clusters[order], data.data)
        tx.step("writing refcounts", len(indices), len(indices))
