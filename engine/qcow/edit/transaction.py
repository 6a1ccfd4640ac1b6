"""A transaction: the roots of an image under change, and the switch that makes the change live.

Everything goes to free clusters (shadow paging); the file's live bytes are untouched until the
switch.  Actions edit the public attributes and call the methods; :meth:`Transaction.finish` places
what they left behind and says which bytes of the header cluster must change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from ..image.image import Image
from ..image.tables import read_l1
from ..jobs import CancelToken, Throttle
from ..layout.bitmaps import BitmapEntry, encode_bitmap_directory
from ..layout.constants import (
    BITMAP_IN_USE,
    BITMAPS_VALID,
    KNOWN_AUTOCLEAR,
    OFLAG_COPIED,
)
from ..layout.extensions import BitmapsExtension
from ..layout.header import Header
from ..layout.header_cluster import HeaderCluster
from ..layout.header_switch import HeaderSwitch, plan_switch
from ..layout.snapshots import Snapshot, encode_snapshot_table
from ..layout.tables import I64, OFFSETS, U64, encode_u64
from ..record import replace
from ..storage.base import ReadableBuffer, WritableStorage
from .counting import count_entries, count_tree, table_clusters
from .guard import WriteGuard
from .guest_tables import GuestTables
from .ledger import MINE, Ledger
from .refcount_blocks import write_refcounts
from .rewriting import settle
from .verify import View

_NOT_COPIED = np.uint64(OFLAG_COPIED - 1)


class SnapshotDraft:
    """A snapshot under change: its table entry, and its L1 table (uint64, native)."""

    def __init__(self, entry: Snapshot, l1: U64 | None, image: Image | None) -> None:
        self.entry = entry
        self._image = image  # None for a snapshot this transaction makes
        self._l1 = l1
        #: What the L1 table was when it was read, to see whether it must be written.
        self._read: U64 | None = None

    @property
    def is_new(self) -> bool:
        return self._image is None

    @property
    def l1(self) -> U64:
        """The L1 table; changing it in place changes the snapshot."""
        if self._l1 is None:
            assert self._image is not None
            storage = self._image.storage
            self._read = read_l1(storage, self.entry.l1_table_offset, self.entry.l1_size)
            self._l1 = self._read.copy()
        return self._l1

    def give_up_l1(self) -> None:
        """Take the L1 table, which cannot be read, for empty; the entry stays as it is."""
        self._l1 = np.zeros(0, dtype=np.uint64)
        self._read = self._l1.copy()

    @property
    def changed(self) -> bool:
        """Whether the L1 table must be written anew."""
        if self.is_new:
            return True
        if self._l1 is None or self._read is None:
            return False
        return not np.array_equal(self._l1, self._read)


class Transaction:
    """One switch in the making.  Offsets are host bytes unless a name says otherwise.

    ``l1``: the active L1 table (uint64, native); ``snapshots``: in table order; ``bitmaps``: the
    entries of the bitmap directory; ``header``: change it with :meth:`change_header`.
    ``settle_all``: whether COPIED may be stale in tables that were not touched.  ``move_roots``:
    whether everything above the L2 tables and all refcounts go to new places, changed or not.
    """

    MINE: Final = MINE

    def __init__(
        self,
        image: Image,
        storage: WritableStorage,
        *,
        held: Iterable[Image] = (),
        held_below: int = 0,
        device_size: int | None = None,
        tell: Throttle | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        """``image`` is read over the same bytes as ``storage`` writes.

        ``held``: roots for undo and redo, whose clusters stay as they are, as do the first
        ``held_below`` bytes.  ``device_size``: bytes of a device, which cannot grow.
        """
        self.image = image
        self.geometry = image.usable_geometry_for_tables()
        self._cluster_0 = image.storage.read(0, self.geometry.cluster_size)
        #: What the header cluster shall say.
        self.header_cluster = HeaderCluster.parse(self._cluster_0)
        bits = self.geometry.cluster_bits
        end = None if device_size is None else device_size >> bits
        self.ledger = self._new_ledger(end)
        for root in held:
            self.ledger.hold(root)
        self.ledger.hold_below(self.geometry.clusters(held_below))
        self.guard = WriteGuard(storage, self.ledger, bits)
        header = image.header
        #: The active L1 table as it is on disk.
        self.l1_before: U64 = read_l1(image.storage, header.l1_table_offset, header.l1_size)
        self.l1: U64 = self.l1_before.copy()
        self.snapshots = [SnapshotDraft(entry, None, image) for entry in image.snapshots]
        # Stale bitmaps (their feature bit is gone) are not ours to keep, nor to free: whoever
        # cleared the bit may have given their clusters to something else.
        self._bitmaps_before = tuple(image.bitmaps) if image.bitmaps_valid else ()
        self.bitmaps: list[BitmapEntry] = list(self._bitmaps_before)
        # Made on demand: it refers back here, and the circle would keep the memory of the ledger.
        self._tables: GuestTables | None = None
        self.settle_all = False
        self.move_roots = False
        self._snapshots_before = tuple(image.snapshots)
        self._tell = tell or Throttle(None)
        self._cancel = cancel

    def _new_ledger(self, end: int | None) -> Ledger:
        return Ledger(self.image, end)

    # ---- for actions

    def step(self, phase: str, done: int, total: int, unit: str = "clusters") -> None:
        """Tell how far it got; a safe point to stop: raises Cancelled."""
        if self._cancel is not None:
            self._cancel.check()
        self._tell(phase, done, total, unit)

    @property
    def tables(self) -> GuestTables:
        """What guest clusters of the active state map to."""
        if self._tables is None:
            self._tables = GuestTables(self)
        return self._tables

    @property
    def header(self) -> Header:
        """The header as it shall be."""
        return self.header_cluster.header

    def change_header(self, **fields: int) -> None:
        """Set header fields, by their names in the spec."""
        self.header_cluster = self.header_cluster.with_header(**fields)

    def place(self, data: ReadableBuffer) -> int:
        """Write ``data``, filled up with zeros, to adjacent free clusters; their host offset."""
        size = self.geometry.cluster_size
        clusters = self.geometry.clusters(len(data))
        first = self.ledger.allocate_run(clusters)
        self.ledger.add_run(first, clusters, 1)
        missing = clusters * size - len(data)
        self.guard.write(first * size, bytes(data) + bytes(missing) if missing else data)
        return first * size

    def release(self, offset: int, length: int) -> None:
        """Take one reference from each cluster of ``[offset, offset + length)``."""
        clusters = self.geometry.clusters(length)
        if clusters:
            self.ledger.add_run(offset >> self.geometry.cluster_bits, clusters, -1)

    def count_tree(self, l1: U64, change: int) -> None:
        """Count all that an L1 table reaches (not its own clusters)."""
        count_tree(self.ledger, self.image, self.geometry, l1, change)

    def count_entries(self, entries: U64, change: int) -> None:
        """Count what L2 entries refer to."""
        if count_entries(self.ledger, self.image, self.geometry, entries, change):
            self.settle_all = True

    def mark_bitmaps_stale(self) -> None:
        """Guest content changes without the bitmaps recording it: mark each as inconsistent."""
        self.bitmaps = [replace(entry, flags=entry.flags | BITMAP_IN_USE) for entry in self.bitmaps]

    # ---- the end

    def finish(self) -> HeaderSwitch:
        """Place all tables and tell how the header cluster makes them live.

        All writes but those of the header cluster have been made and wait for a flush.
        """
        if self._tables is not None:
            self._tables.flush()
        self._settle()
        self._place_snapshots()
        self._place_active()
        self._place_bitmaps()
        self._write_refcounts()
        return self._switch()

    def _write_refcounts(self) -> None:
        write_refcounts(self, self.header.refcount_order)

    def _settle(self) -> int:
        """Set COPIED; how many tables had to be written anew for that."""
        if self.settle_all:
            offsets = table_clusters(self.l1, self.geometry) << self.geometry.cluster_bits
            self.settle_all = False
        elif self._tables is not None:
            touched = np.array(sorted(self._tables.written), dtype=np.int64)
            named = (self.l1[touched] & OFFSETS).astype(np.int64)
            offsets = named[named != 0]
        else:
            return 0
        followers = [self.l1, *(draft.l1 for draft in self.snapshots if draft.is_new)]
        return settle(self, offsets, followers)

    def _place_snapshots(self) -> None:
        for draft in self.snapshots:
            if not (draft.changed or self.move_roots):
                continue
            entry = draft.entry
            if not draft.is_new:
                self.release(entry.l1_table_offset, entry.l1_size * 8)
            l1 = draft.l1 & _NOT_COPIED
            offset = self.place(encode_u64(l1).data) if len(l1) else 0
            draft.entry = replace(entry, l1_table_offset=offset, l1_size=len(l1))
        entries = tuple(draft.entry for draft in self.snapshots)
        if entries == self._snapshots_before and not (entries and self.move_roots):
            return
        if self._snapshots_before:
            self.release(self.image.header.snapshots_offset, self.image.snapshot_table_length)
        table = encode_snapshot_table(entries)
        self.change_header(
            nb_snapshots=len(entries), snapshots_offset=self.place(table) if entries else 0
        )

    def _place_active(self) -> None:
        """Write the active L1 table anew if it differs from the one on disk, COPIED computed."""
        geometry, ledger, header = self.geometry, self.ledger, self.image.header
        clusters = ((self.l1 & OFFSETS) >> np.uint64(geometry.cluster_bits)).astype(np.int64)
        plain = self.l1 & _NOT_COPIED
        self.l1 = np.where(ledger.single(clusters), plain | np.uint64(OFLAG_COPIED), plain)
        if np.array_equal(self.l1, self.l1_before) and not self.move_roots:
            return
        self.release(header.l1_table_offset, header.l1_size * 8)
        self.change_header(
            l1_size=len(self.l1),
            l1_table_offset=self.place(encode_u64(self.l1).data) if len(self.l1) else 0,
        )

    def _place_bitmaps(self) -> None:
        same = tuple(self.bitmaps) == self._bitmaps_before
        if same and not (self.bitmaps and self.move_roots):
            return
        old = self.image.bitmap_directory
        if old is not None and self._bitmaps_before:
            self.release(*old)
        autoclear = self.header.autoclear_features
        if self.bitmaps:
            directory = encode_bitmap_directory(self.bitmaps)
            offset = self.place(directory)
            self.header_cluster = self.header_cluster.with_bitmaps(
                BitmapsExtension(len(self.bitmaps), 0, len(directory), offset)
            )
            self.change_header(autoclear_features=autoclear | BITMAPS_VALID)
        else:
            self.header_cluster = self.header_cluster.with_bitmaps(None)
            self.change_header(autoclear_features=autoclear & ~BITMAPS_VALID)

    def _switch(self) -> HeaderSwitch:
        if self.header.version >= 3:
            self.change_header(autoclear_features=self.header.autoclear_features & KNOWN_AUTOCLEAR)
        return plan_switch(self._cluster_0, self.header_cluster)

    def kept_views(self, *, moved: bool = False) -> list[View]:
        """That the active state and every snapshot kept show what they showed before."""
        views = [View(None, None, moved=moved)]
        return views + self.kept_snapshots(moved=moved)

    def kept_snapshots(self, *, moved: bool = False) -> list[View]:
        """The same for the snapshots alone."""
        return [
            View(place, draft.entry.index, moved=moved)
            for place, draft in enumerate(self.snapshots)
            if not draft.is_new
        ]

    # ---- what it amounts to

    def taken(self) -> I64:
        """Host clusters the transaction wrote or reserved, ascending."""
        found = [np.flatnonzero(taken) + first for first, taken in self.ledger.taken()]
        return np.concatenate([np.zeros(0, dtype=np.int64), *found])
