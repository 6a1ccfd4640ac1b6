"""Changing what guest clusters of the active state map to, table by table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..image.tables import l2_tables
from ..layout.tables import I64, OFFSETS, U64
from .counting import COPIED, count_entries
from .rewriting import encode_tables, with_copied, write_scattered

if TYPE_CHECKING:
    from .transaction import Transaction

#: Bytes of changed tables that are kept in memory before they are written.
_KEPT = 16 << 20


@dataclass(slots=True)
class _Table:
    """One L2 table in memory: ``entries`` uint64[n], ``bitmaps`` the same for extended L2."""

    entries: U64
    bitmaps: U64 | None
    cluster: int = 0  # where it will be written; 0 while it is unchanged


class GuestTables:
    """The active state's L2 tables under change.

    Every changed table moves to a cluster of the transaction.  References are counted here: a
    caller takes clusters from the ledger and names them in entries, no more.
    """

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._tables: dict[int, _Table] = {}
        self._changed: set[int] = set()
        # With an external data file COPIED is the caller's: it tells offset 0 from "unallocated".
        everything = np.uint64(0xFFFFFFFFFFFFFFFF)
        self._counted = everything if tx.image.header.has_data_file else ~COPIED
        #: L1 indices whose tables this transaction wrote.
        self.written: set[int] = set()

    def get(self, first: int, clusters: int) -> tuple[U64, U64 | None]:
        """Entries (and bitmaps of extended L2) of guest clusters, as they are now: new arrays."""
        entries = np.zeros(clusters, dtype=np.uint64)
        bitmaps = np.zeros(clusters, dtype=np.uint64) if self._tx.geometry.extended_l2 else None
        for index, low, high, at in self._pieces(first, clusters):
            if int(self._l1_entry(index) & OFFSETS) == 0 and index not in self._tables:
                continue
            table = self._load(index)
            entries[at : at + high - low] = table.entries[low:high]
            if bitmaps is not None and table.bitmaps is not None:
                bitmaps[at : at + high - low] = table.bitmaps[low:high]
        return entries, bitmaps

    def set(self, first: int, entries: U64, bitmaps: U64 | None = None) -> None:
        """Map guest clusters from ``first`` on to ``entries`` (uint64[n], COPIED is computed).

        The L1 table must be long enough.  ``bitmaps`` belong to extended L2 (None: all zero).
        """
        tx = self._tx
        old, old_bitmaps = self.get(first, len(entries))
        differs = (old ^ entries) & self._counted != 0
        touched = differs
        if old_bitmaps is not None:
            touched = differs | (old_bitmaps != (0 if bitmaps is None else bitmaps))
        if count_entries(tx.ledger, tx.image, tx.geometry, old[differs], -1):
            tx.settle_all = True
        count_entries(tx.ledger, tx.image, tx.geometry, entries[differs], 1)
        for index, low, high, at in self._pieces(first, len(entries)):
            part = slice(at, at + high - low)
            if not touched[part].any():
                continue
            table = self._load(index)
            self._claim(index, table)
            table.entries[low:high] = entries[part]
            if table.bitmaps is not None:
                table.bitmaps[low:high] = 0 if bitmaps is None else bitmaps[part]
            if len(self._changed) * tx.geometry.cluster_size > _KEPT:
                self.flush()

    def flush(self) -> None:
        """Write every changed table to its cluster, and forget the tables."""
        tx = self._tx
        ordered = sorted(self._changed, key=lambda index: self._tables[index].cluster)
        step = max(1, (1 << 20) // tx.geometry.cluster_size)
        for at in range(0, len(ordered), step):
            part = [self._tables[index] for index in ordered[at : at + step]]
            entries = np.stack([table.entries for table in part])
            bitmaps = None
            if tx.geometry.extended_l2:
                bitmaps = np.stack([t.bitmaps for t in part if t.bitmaps is not None])
            if not tx.image.header.has_data_file:
                entries = with_copied(entries, tx.ledger, tx.geometry)
            clusters: I64 = np.array([table.cluster for table in part], dtype=np.int64)
            write_scattered(tx, clusters, encode_tables(entries, bitmaps))
        self.written |= self._changed
        self._changed.clear()
        self._tables.clear()

    # ---- the inside

    def _pieces(self, first: int, clusters: int) -> list[tuple[int, int, int, int]]:
        """(L1 index, first entry, end entry, offset into the range) of each table touched."""
        per = self._tx.geometry.l2_entries
        pieces = []
        at = 0
        while at < clusters:
            index, low = divmod(first + at, per)
            high = min(per, low + clusters - at)
            pieces.append((index, low, high, at))
            at += high - low
        return pieces

    def _l1_entry(self, index: int) -> np.uint64:
        l1 = self._tx.l1
        return l1[index] if index < len(l1) else np.uint64(0)

    def _load(self, index: int) -> _Table:
        table = self._tables.get(index)
        if table is not None:
            return table
        tx = self._tx
        if len(self._tables) * tx.geometry.cluster_size > 2 * _KEPT:
            self.flush()
        offset = int(self._l1_entry(index) & OFFSETS)
        if offset:
            where = np.array([offset], dtype=np.int64)
            found = next(l2_tables(tx.image.storage, tx.geometry, where))
            bitmaps = None if found.bitmaps is None else found.bitmaps[0]
            table = _Table(found.entries[0], bitmaps)
        else:
            size = tx.geometry.l2_entries
            empty = np.zeros(size, dtype=np.uint64)
            table = _Table(empty, empty.copy() if tx.geometry.extended_l2 else None)
        self._tables[index] = table
        return table

    def _claim(self, index: int, table: _Table) -> None:
        """See to it that the table has a cluster this transaction may write."""
        if table.cluster:
            return
        tx = self._tx
        bits = tx.geometry.cluster_bits
        old = int(self._l1_entry(index) & OFFSETS) >> bits
        if old and tx.ledger.mine(old):
            table.cluster = old
        else:
            # What the entries refer to is counted for each path to it, and the path stays.
            new = int(tx.ledger.allocate(1)[0])
            if old:
                tx.ledger.add_run(old, 1, -1)
            tx.ledger.add_run(new, 1, 1)
            tx.l1[index] = np.uint64(new << bits)
            table.cluster = new
        self._changed.add(index)
