"""Changing guest data in a transaction: writing, zeroing and discarding ranges of the disk.

No cluster that the durable root counts is written: whole clusters go to free ones, and of partial
ones the rest is copied there (copy-on-write).  With an external data file, guest offset and host
offset are the same (QEMU's identity mapping), so data is written in place there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..disk import ExtentKind, check_range
from ..errors import EditRefused
from ..layout.tables import I64, OFFSETS, U64
from ..text import safe
from .counting import COMPRESSED
from .entries import Mapping, allocated, data_entries, discarded_entries, zero_entries
from .identity_file import IdentityFile
from .old_content import OldContent
from .placing import Fill, Placer

if TYPE_CHECKING:
    from .editor import Editor
    from .transaction import Transaction

#: L2 entries changed together where no data moves.
_ENTRIES = 1 << 16
_NOTHING = ExtentKind.UNALLOCATED
_ZERO_KINDS = (ExtentKind.ZERO, ExtentKind.ZERO_ALLOCATED)


def zeros(_: int, __: memoryview) -> None:
    """The :data:`Fill` of nothing but zeros."""


class GuestWriter:
    """Writes guest bytes of the active state through a transaction.

    Call :meth:`flush` before the commit and :meth:`release` after it; both matter with an external
    data file only.  In a dry run no content is read or written, and all numbers are the same.

    ``size``: bytes of the disk that may be written.  ``touched``: (start, end) guest bytes that
    were changed; :meth:`changed` gives them as a :class:`~qcow.edit.verify.View` takes them.
    """

    def __init__(self, editor: Editor, tx: Transaction, size: int | None = None) -> None:
        """``size``: None for the disk as it is.  The L1 table of ``tx`` must cover it."""
        self._editor = editor
        self._tx = tx
        self._tables = tx.tables
        self._geometry = tx.geometry
        self._bits = tx.geometry.cluster_bits
        self._cluster = tx.geometry.cluster_size
        self.size = tx.image.virtual_size if size is None else size
        self.old = OldContent(editor)
        self.touched: list[tuple[int, int]] = []
        self._external = IdentityFile(editor, self.size) if tx.image.header.has_data_file else None
        self._placer = Placer(editor, tx, self._external, self.size)

    # ---- what a caller does

    def write(self, offset: int, length: int, fill: Fill, *, detect_zeroes: bool = False) -> None:
        """Write ``length`` guest bytes from ``offset`` on.

        With ``detect_zeroes`` whole clusters of zeros are mapped as zeros (where the format can
        say so), and ``fill`` is called in dry runs too.  Raises UsageError beyond ``size``,
        EditRefused for an encrypted image.
        """
        self._begin(offset, length)
        self._require_plain()
        for cluster, clusters, low, high in self._split(offset, length, self._cluster):
            if clusters:
                self._write_whole(cluster, clusters, fill, detect_zeroes)
            else:
                self._write_part(cluster, low, high, fill)

    def zero(self, offset: int, length: int, *, keep_allocation: bool = False) -> None:
        """Make ``length`` guest bytes from ``offset`` on read as zeros.

        Where the format cannot say it (parts of subclusters, version 2 with a backing file), zeros
        are written.  ``keep_allocation`` keeps the clusters for later writes, as QEMU's ``write
        -z`` without ``-u``.  Raises as :meth:`write`.
        """
        self._begin(offset, length)
        if self._external is not None:
            self._external.zero_now(offset, length)
        for cluster, clusters, low, high in self._split(offset, length, self._cluster):
            if not clusters:
                self._zero_part(cluster, low, high)
            elif self._geometry.version < 3 and self.old.has_backing:
                self._require_plain()
                self._write_whole(cluster, clusters, zeros, detect=False)
            else:
                self._zero_whole(cluster, clusters, keep_allocation)

    def discard(self, offset: int, length: int, *, reveal_backing: bool = False) -> None:
        """Drop the whole clusters inside a range; parts of clusters at its edges stay.

        Afterwards they read as zeros, or with ``reveal_backing`` as the backing file does.  Raises
        EditRefused where version 2 cannot hide the backing file.
        """
        self._begin(offset, length)
        if self._geometry.version < 3 and self.old.has_backing and not reveal_backing:
            raise EditRefused(
                "A version 2 image cannot discard over a backing file: the old data of the backing "
                "file would come back.  Zero the range instead, or upgrade first "
                "(amend -o compat=1.1)."
            )
        for cluster, clusters, _, _ in self._split(offset, length, self._cluster):
            if clusters:
                if self._external is not None:
                    self._external.zero_now(cluster << self._bits, clusters << self._bits)
                self._discard_whole(cluster, clusters, reveal_backing)

    def changed(self) -> tuple[tuple[int, int], ...]:
        """``touched`` in ascending order, joined, for a View."""
        joined: list[tuple[int, int]] = []
        for start, end in sorted(self.touched):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        return tuple(joined)

    def flush(self) -> None:
        """Make durable what went to the data file: before the switch that makes it visible."""
        if self._external is not None:
            self._external.flush()

    def release(self) -> None:
        """Give the space of discarded ranges of the data file back: after the switch."""
        if self._external is not None:
            self._external.release()

    @property
    def data_written(self) -> int:
        """Bytes written to the data file, which are not among those of the image file."""
        return 0 if self._external is None else self._external.written

    @property
    def overwrote(self) -> bool:
        """Whether data in the data file was overwritten that an undo would need."""
        return self._external is not None and self._external.overwrote

    @property
    def releases(self) -> bool:
        """Whether :meth:`release` gives away data that an undo would need."""
        return self._external is not None and self._external.releases

    # ---- ranges

    def _begin(self, offset: int, length: int) -> None:
        check_range(offset, length, self.size)
        if self.touched and self.touched[-1][1] == offset:
            self.touched[-1] = (self.touched[-1][0], offset + length)
        elif length:
            self.touched.append((offset, offset + length))

    def _split(self, offset: int, length: int, unit: int) -> Iterator[tuple[int, int, int, int]]:
        """(first cluster, whole clusters, 0, 0) or (cluster, 0, low, high) in ascending order.

        A range that reaches the end of the disk covers the rest of the last cluster.
        """
        end = offset + length
        at = offset
        while at < end:
            cluster, low = divmod(at, unit)
            stop = (cluster + 1) * unit
            whole = end // unit - cluster
            if end == self.size and end % unit:
                whole += 1
            if low == 0 and whole > 0:
                yield cluster, whole, 0, 0
                at = (cluster + whole) * unit
            else:
                high = min(end, stop)
                yield cluster, 0, low, high - cluster * unit
                at = high

    def _require_plain(self) -> None:
        if self._tx.image.encrypted:
            raise EditRefused(
                f"'{safe(self._tx.image.name)}' is encrypted: its guest data cannot be written "
                "without the key."
            )

    # ---- writing

    def _write_whole(self, first: int, clusters: int, fill: Fill, detect: bool) -> None:
        if detect and (self._geometry.version >= 3 or not self.old.has_backing):
            self._placer.write_sparse(first, clusters, fill, self._map_zero)
        else:
            self._placer.write(first, clusters, fill)

    def _map_zero(self, first: int, clusters: int) -> None:
        """Whole clusters that shall read as zeros; what does so without an entry has none."""
        if self._external is not None:
            self._external.zero_now(first << self._bits, clusters << self._bits)
        if self.old.has_backing:
            self._zero_whole(first, clusters, False)
        else:
            self._discard_whole(first, clusters, False)

    def _write_part(self, cluster: int, low: int, high: int, fill: Fill) -> None:
        """Write bytes [low, high) of a guest cluster and keep the others."""
        entries, bitmaps = self._tables.get(cluster, 1)
        sub = self._geometry.subcluster_size
        first, stop = low // sub, -(-high // sub)
        packed = bool(entries[0] & COMPRESSED)
        if packed:
            first, stop = 0, self._geometry.subclusters
        host = self._own_host(entries, bitmaps)
        kept = [] if host is not None or packed else self._stored(cluster, entries, bitmaps)
        content = None
        if not self._editor.dry:
            content = memoryview(bytearray(self._cluster))
            spans = [(first * sub, low), (high, stop * sub), *kept]
            for begin, end in spans:
                if begin < end:
                    self.old.read_into(cluster, entries, bitmaps, begin, content[begin:end])
            # A piece that was kept may reach into what is written now.
            content[low:high] = bytes(high - low)
            fill((cluster << self._bits) + low, content[low:high])
        if self._external is not None:
            self._external.note_overwriting(entries)
            part = None if content is None else content[first * sub : stop * sub]
            start = (cluster << self._bits) + first * sub
            self._external.write(start, (stop - first) * sub, part)
            host = cluster << self._bits
        elif host is not None:
            self._put_range(host + first * sub, (stop - first) * sub, content, first * sub)
        else:
            place = self._tx.ledger.allocate(1)
            host = int(place[0]) << self._bits
            self._put_range(host, self._cluster, content, 0)
        self._map_part(cluster, host, first, stop, None if packed else bitmaps)

    def _put_range(self, at: int, length: int, content: memoryview | None, start: int) -> None:
        if content is None:
            self._tx.guard.promise(at, length)
        else:
            self._tx.guard.write(at, content[start : start + length])

    def _map_part(
        self, cluster: int, host: int, first: int, stop: int, bitmaps: U64 | None
    ) -> None:
        """Map a cluster of which subclusters [first, stop) were written."""
        places: I64 = np.array([host], dtype=np.int64)
        entries, whole = data_entries(places, self._geometry, external=self._external is not None)
        if whole is None:
            self._tables.set(cluster, entries)
            return
        written = ((1 << stop) - 1) & ~((1 << first) - 1)
        before = 0 if bitmaps is None else int(bitmaps[0])
        wanted = (before | written) & ~(written << 32)
        self._tables.set(cluster, entries, np.array([wanted], dtype=np.uint64))

    def _own_host(self, entries: U64, bitmaps: U64 | None) -> int | None:
        """Host offset of a cluster that only this transaction knows, and may write in place.

        With an external data file every cluster has its place.
        """
        if self._external is not None:
            return 0
        host = int(entries[0] & OFFSETS)
        if entries[0] & COMPRESSED or not host:
            return None
        place = host >> self._bits
        ledger = self._tx.ledger
        if not ledger.mine(place):
            return None
        return host if int(ledger.counts_in(place, place + 1)[0]) == 1 else None

    def _stored(self, cluster: int, entries: U64, bitmaps: U64 | None) -> list[tuple[int, int]]:
        """The parts of a cluster that lie in it as data and must move along with it."""
        if not self._geometry.extended_l2:
            return []
        pieces = self.old.pieces(cluster, entries, bitmaps)
        return [(start, end) for start, end, kind in pieces if kind is ExtentKind.DATA]

    # ---- zeroing

    def _zero_whole(self, first: int, clusters: int, keep_allocation: bool) -> None:
        def change(entries: U64, bitmaps: U64 | None) -> Mapping:
            return zero_entries(entries, bitmaps, self._geometry, keep_allocation=keep_allocation)

        self._change_entries(first, clusters, change, gives_up=not keep_allocation)

    def _zero_part(self, cluster: int, low: int, high: int) -> None:
        """Bytes [low, high) of a cluster: whole subclusters by their bits, the rest as it can."""
        if not self._geometry.extended_l2:
            self._zero_piece(cluster, low, high)
            return
        sub = self._geometry.subcluster_size
        packed = bool(self._tables.get(cluster, 1)[0][0] & COMPRESSED)
        first, stop = -(-low // sub), high // sub
        if packed or first >= stop:
            self._zero_piece(cluster, low, high)
            return
        if low < first * sub:
            self._zero_piece(cluster, low, first * sub)
        entries, bitmaps = self._tables.get(cluster, 1)
        self._map_zero_part(cluster, entries, bitmaps, first, stop)
        if stop * sub < high:
            self._zero_piece(cluster, stop * sub, high)

    def _zero_piece(self, cluster: int, low: int, high: int) -> None:
        """Part of a subcluster (or several subclusters of a compressed cluster)."""
        entries, bitmaps = self._tables.get(cluster, 1)
        sub = self._geometry.subcluster_size
        first, stop = low // sub, -(-high // sub)
        pieces = [
            (max(start, first * sub), min(end, stop * sub), kind)
            for start, end, kind in self.old.pieces(cluster, entries, bitmaps)
            if start < stop * sub and end > first * sub
        ]
        shown = [piece for piece in pieces if piece[2] not in _ZERO_KINDS]
        if not shown:
            return
        if self._geometry.version >= 3 and all(kind is _NOTHING for _, _, kind in shown):
            # As QEMU: a subcluster that holds nothing, and shows zeros beside the range, can say
            # that all of it is zeros.
            parts = [(start, min(end, low)) for start, end, _ in shown]
            parts += [(max(start, high), end) for start, end, _ in shown]
            if all(self._below_is_zero(cluster, *part) for part in parts):
                self._map_zero_part(cluster, entries, bitmaps, first, stop)
                return
        inside = [(max(start, low), min(end, high), kind) for start, end, kind in shown]
        if any(
            start < end and not (kind is _NOTHING and self._below_is_zero(cluster, start, end))
            for start, end, kind in inside
        ):
            self._require_plain()
            self._write_part(cluster, low, high, zeros)

    def _below_is_zero(self, cluster: int, start: int, end: int) -> bool:
        base = cluster << self._bits
        return start >= end or self.old.below_is_zero(base + start, base + end)

    def _map_zero_part(
        self, cluster: int, entries: U64, bitmaps: U64 | None, first: int, stop: int
    ) -> None:
        """Map subclusters [first, stop) as zeros."""
        if bitmaps is None:
            self._tables.set(
                cluster, *zero_entries(entries, None, self._geometry, keep_allocation=True)
            )
            return
        chosen = ((1 << stop) - 1) & ~((1 << first) - 1)
        wanted = (int(bitmaps[0]) | chosen << 32) & ~chosen
        self._tables.set(cluster, entries, np.array([wanted], dtype=np.uint64))

    # ---- discarding

    def _discard_whole(self, first: int, clusters: int, reveal: bool) -> None:
        external = self._external is not None

        def change(entries: U64, bitmaps: U64 | None) -> Mapping:
            if reveal:
                nothing = np.zeros_like(entries)
                return nothing, None if bitmaps is None else nothing
            chosen = np.ones(len(entries), dtype=np.bool_)
            if not self.old.has_backing:
                chosen = allocated(entries, external=external)
            return discarded_entries(entries, bitmaps, self._geometry, chosen)

        self._change_entries(first, clusters, change, gives_up=True)

    def _change_entries(
        self,
        first: int,
        clusters: int,
        change: Callable[[U64, U64 | None], Mapping],
        *,
        gives_up: bool,
    ) -> None:
        for at in range(first, first + clusters, _ENTRIES):
            count = min(_ENTRIES, first + clusters - at)
            self._editor.step("changing tables", at - first, clusters)
            entries, bitmaps = self._tables.get(at, count)
            if gives_up and self._external is not None:
                self._external.give_up(at, entries)
            self._tables.set(at, *change(entries, bitmaps))
