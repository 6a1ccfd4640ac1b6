"""A transaction on a damaged image: append only, and every refcount counted anew at its end.

A repair edits the same things as any other transaction (L1 tables, L2 tables by
:func:`~qcow.edit.rewriting.rewrite_tables`, the snapshot table, bitmaps, the header).  It differs
in that no count on disk is believed: new clusters are taken behind everything that is there, and
:meth:`Repair.finish` counts what the repaired image refers to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import EditRefused
from ..image.image import Image
from ..image.tables import l2_tables
from ..inspect.classes import ClusterClass
from ..inspect.owners import scan_owners
from ..jobs import CancelToken
from ..layout.constants import (
    BITMAP_TABLE_OFFSET_MASK,
    CORRUPT,
    CRYPT_LUKS,
    DIRTY,
    EXT_CRYPTO,
)
from ..layout.extensions import CryptoExtension
from ..layout.header_rules import l1_fault
from ..layout.header_switch import HeaderSwitch
from ..layout.tables import I64, OFFSETS, U64, decode_u64
from .counting import COMPRESSED
from .ledger import Ledger
from .refcount_blocks import write_refcounts
from .rewriting import rewrite_tables
from .transaction import SnapshotDraft, Transaction
from .verify import View

#: Pointers further than this behind the end of the file are damage, not space to keep free.
_FAR = 1 << 20


class EntryChange(NamedTuple):
    """New values of L2 entries.

    int64[n] ``tables``: host offsets of their tables, as the L1 tables name them when the repair
    ends; int64[n] ``numbers``: indices within the table; uint64[n] ``entries``; uint64[n]
    ``bitmaps`` of extended L2, else None.
    """

    tables: I64
    numbers: I64
    entries: U64
    bitmaps: U64 | None = None


class Repair(Transaction):
    """See the module.

    ``kept``: leaked clusters that keep a count of one, because what they hold may be guest data
    (int64, ascending); None for all that are leaked now.  Everything else that nothing refers to
    becomes free.
    """

    kept: I64 | None = None
    #: Whether the snapshot table is written anew although its entries are those that are seen.
    new_snapshot_table = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._changes: list[EntryChange] = []
        #: Snapshots whose L1 tables cannot be read: they stay as they are, and count nothing.
        self.unreadable: list[SnapshotDraft] = []
        size = self.image.storage.size()
        for draft in self.snapshots:
            place = draft.entry.l1_table_offset, draft.entry.l1_size
            if l1_fault(*place, self.geometry, size) is not None:
                draft.give_up_l1()
                self.unreadable.append(draft)
        self.ledger.skip_to(self._highest())

    @property
    def l1_tables(self) -> list[U64]:
        """The L1 arrays of the active state and of every snapshot kept, to be changed in place."""
        return [self.l1, *(draft.l1 for draft in self.snapshots)]

    def change_entries(self, change: EntryChange) -> None:
        """Note that single entries of L2 tables get other values; made at the end, together."""
        if len(change.tables):
            self._changes.append(change)

    def _highest(self) -> int:
        """The cluster behind the last one that any table names.

        What they name behind the end of the file reads as zeros; with something new there, undo
        would show that to the guest.
        """
        bits = self.geometry.cluster_bits
        size = self.image.storage.size()
        # What is written will not reach further than the ledger has room for at first.
        far = self.ledger.capacity << bits
        entries = np.concatenate([l1 & OFFSETS for l1 in self.l1_tables]).astype(np.int64)
        highest = int(entries[entries < far].max(initial=0))
        inside = (entries != 0) & (entries % self.geometry.cluster_size == 0) & (entries < size)
        for batch in l2_tables(self.image.storage, self.geometry, np.unique(entries[inside])):
            offsets = np.where((batch.entries & COMPRESSED) != 0, 0, batch.entries & OFFSETS)
            near = offsets[offsets < np.uint64(far)]
            highest = max(highest, int(near.max(initial=0)))
        # A table in the middle of a cluster reaches into the next one.
        return self.geometry.clusters(highest) + 1 if highest >= size else 0

    def _new_ledger(self, end: int | None) -> Ledger:
        size = self.image.storage.size()
        return Ledger.appending(self.image, end, self.geometry.clusters(size))

    def finish(self) -> HeaderSwitch:
        """See :meth:`Transaction.finish`; clears the dirty and the corrupt bit."""
        self.tables.flush()
        self._make_changes()
        self.ledger.reset()
        self._count_all()
        self.settle_all = True
        if self.header.version >= 3:
            features = self.header.incompatible_features & ~(DIRTY | CORRUPT)
            self.change_header(incompatible_features=features)
        return super().finish()

    def _make_changes(self) -> None:
        if not self._changes:
            return
        tables = np.concatenate([change.tables for change in self._changes])

        def apply(offsets: I64, entries: U64, bitmaps: U64 | None) -> tuple[U64, U64 | None]:
            entries = entries.copy()
            bitmaps = None if bitmaps is None else bitmaps.copy()
            for change in self._changes:
                row = np.searchsorted(offsets, change.tables)
                row[row == len(offsets)] = 0
                here = offsets[row] == change.tables
                where = row[here], change.numbers[here]
                entries[where] = change.entries[here]
                if bitmaps is not None and change.bitmaps is not None:
                    bitmaps[where] = change.bitmaps[here]
            return entries, bitmaps

        rewrite_tables(self, tables, apply, self.l1_tables)
        self._changes.clear()

    def _settle(self) -> int:
        # A table that leaves a cluster where guest data lies too changes the count of that data.
        done = 0
        while moved := super()._settle():
            done += moved
            self.settle_all = True
        return done

    def _place_snapshots(self) -> None:
        before = self._snapshots_before
        if self.new_snapshot_table and before:
            # As if another table had been there: what stands there now is what was damaged.
            self.release(self.image.header.snapshots_offset, self.image.snapshot_table_length)
            self._snapshots_before = ()
        super()._place_snapshots()
        if self.new_snapshot_table and not self.snapshots:
            self.change_header(nb_snapshots=0, snapshots_offset=0)

    def kept_snapshots(self, *, moved: bool = False) -> list[View]:
        unreadable = {draft.entry.index for draft in self.unreadable}
        return [v for v in super().kept_snapshots(moved=moved) if v.before not in unreadable]

    def _write_refcounts(self) -> None:
        write_refcounts(self, self.header.refcount_order, rebuild=True)

    def _count_all(self) -> None:
        """Count every structure where it lies on disk now, and every tree as it shall be."""
        ledger, header = self.ledger, self.image.header
        ledger.add_run(0, 1, 1)
        self._count_run(header.l1_table_offset, header.l1_size * 8)
        self.count_tree(self.l1, 1)
        for draft in self.snapshots:
            if draft in self.unreadable:
                continue
            if not draft.is_new:
                self._count_run(draft.entry.l1_table_offset, draft.entry.l1_size * 8)
            self.count_tree(draft.l1, 1)
        if self._snapshots_before:
            self._count_run(header.snapshots_offset, self.image.snapshot_table_length)
        if self.image.bitmap_directory is not None:
            self._count_run(*self.image.bitmap_directory)
        for bitmap in self.bitmaps:
            self._count_run(bitmap.table_offset, bitmap.table_size * 8)
            table = decode_u64(self.image.storage.read(bitmap.table_offset, bitmap.table_size * 8))
            offsets = table & np.uint64(BITMAP_TABLE_OFFSET_MASK)
            used = offsets[offsets != 0] >> np.uint64(self.geometry.cluster_bits)
            ledger.add(used.astype(np.int64), 1)
        crypto = self.header_cluster.extension(EXT_CRYPTO)
        if crypto is not None and self.header.crypt_method == CRYPT_LUKS:
            place = CryptoExtension.decode(crypto)
            self._count_run(place.offset, place.length)
        kept = leaked_clusters(self.image) if self.kept is None else self.kept
        ledger.add(kept[ledger.counts_of(kept) == 0], 1)

    def _count_run(self, offset: int, length: int) -> None:
        clusters = self.geometry.clusters(length)
        if not clusters:
            return
        if offset + length > self.image.storage.size() + (_FAR << self.geometry.cluster_bits):
            raise EditRefused(
                f"A structure at {offset:#x} lies far beyond the end of the file: it has to be "
                "repaired by a choice of its own first."
            )
        self.ledger.add_run(offset >> self.geometry.cluster_bits, clusters, 1)


def leaked_clusters(image: Image, cancel: CancelToken | None = None) -> I64:
    """Host clusters that are counted as used and that nothing refers to (int64, ascending)."""
    owners = scan_owners(image, cancel=cancel)
    found = [
        np.flatnonzero(classes == ClusterClass.LEAKED) + first
        for first, classes in owners.classes.chunks()
    ]
    clusters: I64 = np.concatenate([np.zeros(0, dtype=np.int64), *found])
    return clusters[clusters < owners.total]
