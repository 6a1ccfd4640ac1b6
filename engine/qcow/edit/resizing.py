"""Making the disk of a transaction larger or smaller (qcow2 spec, "Guest data addressing")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import EditRefused, UsageError
from ..layout.constants import MAX_L1_BYTES, OFLAG_ZERO, SECTOR
from ..layout.tables import I64, U64
from ..record import replace
from ..text import exact, safe, size_and_bytes
from ..text import size as size_of
from .bitmap_marks import resize_bitmaps
from .counting import COPIED
from .guest_data import GuestWriter, zeros

if TYPE_CHECKING:
    from .editor import Editor
    from .transaction import Transaction

Preallocation = Literal["off", "metadata", "falloc", "full"]

#: Clusters that are preallocated together.
_BATCH = 1 << 16
_ZEROS = bytes(4 << 20)


def require_size(tx: Transaction, size: int) -> None:
    """Raise unless the image can have a disk of ``size`` bytes: UsageError, EditRefused."""
    image = tx.image
    if size <= 0:
        raise UsageError("New image size must be positive")
    if size % SECTOR:
        raise UsageError(
            f"The new size must be a multiple of {SECTOR}, which {exact(size)} is not."
        )
    if tx.geometry.l1_entries(size) * 8 > MAX_L1_BYTES:
        most = MAX_L1_BYTES // 8 * tx.geometry.l2_span
        raise EditRefused(
            f"With clusters of {size_of(tx.geometry.cluster_size)} the disk can have "
            f"{size_and_bytes(most)} at most: a larger cluster size is needed (convert)."
        )
    if image.snapshots and tx.geometry.version < 3:
        raise EditRefused(
            "Can't resize a v2 image which has snapshots: version 2 does not record their sizes. "
            "Upgrade it first (amend -o compat=1.1) or delete them."
        )
    if image.bitmaps_valid:
        for entry in image.bitmaps:
            if entry.in_use or entry.fault(tx.geometry.cluster_size, image.virtual_size):
                raise EditRefused(
                    f'Bitmap "{safe(entry.name, 60)}" is inconsistent and cannot be resized: '
                    "remove it first (bitmap --remove)."
                )


def grow(
    editor: Editor,
    tx: Transaction,
    writer: GuestWriter,
    size: int,
    preallocation: Preallocation = "off",
) -> bool:
    """Make the disk ``size`` bytes long; the new area reads as zeros.

    ``writer`` was made with this ``size`` and can write all of it afterwards.  True when bytes of
    an external data file behind the old end were dropped, which no undo brings back.  Raises as
    :func:`require_size`, and EditRefused where version 2 cannot hide a longer backing file.
    """
    require_size(tx, size)
    old = tx.image.virtual_size
    _resize_structures(tx, size)
    dropped = False
    if size > old:
        growth = _Growth(editor, tx, writer, old, size)
        growth.run(preallocation)
        dropped = growth.dropped
    writer.old.end = size
    return dropped


def shrink(tx: Transaction, writer: GuestWriter, size: int) -> None:
    """Cut the disk to ``size`` bytes; what lies behind in its last cluster becomes zeros.

    ``writer`` was made for the present size.  Raises as :func:`require_size`.
    """
    require_size(tx, size)
    geometry, old = tx.geometry, tx.image.virtual_size
    first = geometry.clusters(size)
    boundary = min(first << geometry.cluster_bits, old)
    if size < boundary and not tx.image.encrypted:
        writer.zero(size, boundary - size)
    entries = geometry.l1_entries(size)
    rest = min(geometry.clusters(old), entries * geometry.l2_entries) - first
    if rest > 0:
        nothing = np.zeros(rest, dtype=np.uint64)
        tx.tables.set(first, nothing, nothing if geometry.extended_l2 else None)
    tx.tables.flush()
    tx.count_tree(tx.l1[entries:], -1)
    tx.settle_all |= bool(tx.snapshots)
    _resize_structures(tx, size)
    tx.l1 = tx.l1[:entries].copy()


def _resize_structures(tx: Transaction, size: int) -> None:
    """What else states the size: the header, L1, bitmaps, and snapshots that rely on the header."""
    entries = tx.geometry.l1_entries(size)
    if entries > len(tx.l1):
        tx.l1 = np.pad(tx.l1, (0, entries - len(tx.l1)))
    for draft in tx.snapshots:
        if draft.entry.disk_size is None and tx.geometry.version >= 3:
            extra = draft.entry.extra[:8].ljust(8, b"\0") + tx.header.size.to_bytes(8, "big")
            extra += draft.entry.extra[16:]
            draft.entry = replace(
                draft.entry, disk_size=tx.header.size, extra=extra, extra_size=len(extra)
            )
    resize_bitmaps(tx, size)
    tx.change_header(size=size)


class _Growth:
    def __init__(
        self, editor: Editor, tx: Transaction, writer: GuestWriter, old: int, new: int
    ) -> None:
        self._editor, self._tx, self._writer = editor, tx, writer
        self._old, self._new = old, new
        self._bits = tx.geometry.cluster_bits
        self._external = tx.image.header.has_data_file
        self.dropped = False
        # As QEMU: only a backing file that reaches into the new area would show there.
        self._hide = writer.old.has_backing and editor.chain().at_layer(1).virtual_size > old

    def run(self, preallocation: Preallocation) -> None:
        if self._hide and self._tx.geometry.version < 3:
            raise EditRefused(
                "The backing file is longer than the disk, and its data would show in the new "
                "area: version 2 cannot hide it.  Upgrade first (amend -o compat=1.1)."
            )
        if self._external:
            self._extend_data_file(preallocation)
            if self._tx.image.data_file_raw and preallocation == "off":
                # A raw data file shows all of the disk, so all of the disk is mapped to it.
                preallocation = "metadata"
        end = self._end_of_last_cluster()
        first = self._tx.geometry.clusters(self._old)
        if self._old < end:
            if preallocation != "off" and self._boundary_is_empty():
                first -= 1
            else:
                self._clear_tail(end, allocate=preallocation != "off")
        if preallocation != "off":
            self._preallocate(first, preallocation)
        elif self._hide and end < self._new:
            self._writer.zero(end, self._new - end)

    def _end_of_last_cluster(self) -> int:
        """Guest byte up to which the old last cluster lies on the new disk."""
        return min(self._tx.geometry.clusters(self._old) << self._bits, self._new)

    def _boundary_is_empty(self) -> bool:
        """Whether the old last cluster holds nothing, so that it may be one of the new ones."""
        cluster = self._old >> self._bits
        entries, bitmaps = self._tx.tables.get(cluster, 1)
        if int(entries[0]) or (bitmaps is not None and int(bitmaps[0])):
            return False
        return self._writer.old.below_is_zero(cluster << self._bits, self._old)

    def _clear_tail(self, end: int, *, allocate: bool) -> None:
        """Make the part of the last cluster that was behind the end of the disk read as zeros."""
        writer, length = self._writer, end - self._old
        cluster = self._old >> self._bits
        entries, bitmaps = self._tx.tables.get(cluster, 1)
        if self._tx.image.encrypted:
            return  # ciphertext nobody can judge without the key; QEMU leaves it, too
        if allocate and not self._external and not int(entries[0] & ~COPIED):
            writer.write(self._old, length, zeros)
        elif self._hide:
            writer.zero(self._old, length)
        elif not self._external:
            tail = memoryview(bytearray(length))
            writer.old.end = end
            writer.old.read_into(
                cluster, entries, bitmaps, self._old - (cluster << self._bits), tail
            )
            writer.old.end = self._old
            if any(tail):
                writer.zero(self._old, length)

    # ---- preallocation

    def _preallocate(self, first: int, mode: Preallocation) -> None:
        """Give every cluster from ``first`` on its place; what is there reads as zeros."""
        stop = self._tx.geometry.clusters(self._new)
        for at in range(first, stop, _BATCH):
            self._editor.step("preallocating", at - first, stop - first)
            count = min(_BATCH, stop - at)
            if self._external:
                places: I64 = np.arange(at, at + count, dtype=np.int64)
            else:
                places = self._tx.ledger.allocate(count)
                self._prepare(places, mode)
            self._map(at, places, mode)
        size = self._tx.guard.size()
        end = self._tx.ledger.last_used() + 1 << self._bits
        if end > size and not self._external and not self._editor.is_device:
            self._tx.guard.truncate(end)

    def _map(self, first: int, places: I64, mode: Preallocation) -> None:
        entries: U64 = (places << self._bits).astype(np.uint64)
        if self._external:
            entries |= COPIED
        if self._tx.geometry.extended_l2:
            # No subcluster is allocated: only the cluster has its place.
            shown = np.uint64(0xFFFFFFFF00000000 if self._hide else 0)
            self._tx.tables.set(first, entries, np.full(len(places), shown, dtype=np.uint64))
            return
        if self._hide and mode == "metadata":
            entries |= np.uint64(OFLAG_ZERO)
        self._tx.tables.set(first, entries)

    def _prepare(self, places: I64, mode: Preallocation) -> None:
        """Make free clusters, which may hold anything, read as zeros."""
        guard, size = self._tx.guard, self._tx.geometry.cluster_size
        breaks = (np.flatnonzero(np.diff(places) != 1) + 1).tolist()
        for low, high in zip([0, *breaks], [*breaks, len(places)], strict=True):
            start, length = int(places[low]) * size, (high - low) * size
            if mode == "full":
                self._write_zeros(start, length)
                continue
            guard.punch(start, length)
            if mode == "falloc":
                guard.allocate(start, length)

    def _write_zeros(self, start: int, length: int) -> None:
        guard = self._tx.guard
        if self._editor.dry:
            guard.promise(start, length)
            return
        done = 0
        while done < length:
            self._editor.step("writing zeros", done, length, "bytes")
            part = memoryview(_ZEROS)[: length - done]
            guard.write(start + done, part)
            done += len(part)

    def _extend_data_file(self, mode: Preallocation) -> None:
        """The data file has the length of the disk; what it held behind the old end is dropped."""
        file = self._editor.data_file
        found = file or self._editor.chain().layers[0].data_file
        self.dropped = found is not None and found.size() > self._old
        if self._editor.dry:
            return
        if file is None:
            raise EditRefused(
                f"The external data file of '{safe(self._tx.image.name)}' is not open for writing: "
                "allow references to be followed."
            )
        if file.size() > self._old:
            file.punch(self._old, file.size() - self._old)
        if file.size() < self._new:
            file.truncate(self._new)
        if mode in ("falloc", "full"):
            file.allocate(self._old, self._new - self._old)
        at = self._old
        while mode == "full" and at < self._new:
            part = memoryview(_ZEROS)[: self._new - at]
            file.write(at, part)
            at += len(part)
        file.flush()
