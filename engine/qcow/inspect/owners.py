"""Whose each host cluster is: the class map behind the allocation map and the space breakdown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import GuestDataError
from ..image.image import Image
from ..image.mapping import stretches
from ..image.refcounts import refcount_table, refcount_windows
from ..image.state import State
from ..image.tables import l2_tables
from ..jobs import CancelToken, ProgressCallback, Throttle
from ..layout.constants import (
    BITMAP_TABLE_OFFSET_MASK,
    OFLAG_COMPRESSED,
    OFLAG_ZERO,
    REFCOUNT_TABLE_OFFSET_MASK,
)
from ..layout.distinct import distinct, distinct_counts
from ..layout.geometry import Geometry
from ..layout.tables import I64, OFFSETS, U64, compressed_fields, decode_u64
from .claim_map import BLOCK_BITS, ClaimMap, Classes
from .classes import ClusterClass
from .cluster_array import ClusterArray

#: ``publish(first host cluster, classes)``: what is known of a stretch so far.
Publish = Callable[[int, Classes], None]
#: ``publish_counts(first, refcounts on disk uint16 saturating, mismatch bool)``.
PublishCounts = Callable[[int, NDArray[np.uint16], NDArray[np.bool_]], None]

_PUBLISH_EVERY = 0.2  # seconds
_PUBLISH_SHARE = 5  # or less often: so many times as long as it takes
_PUBLISH_BLOCKS = 64  # at most, each time
#: Up to so many contiguous stretches in a window are claimed one by one.
_FEW_STRETCHES = 512


@dataclass(slots=True)
class OwnerMap:
    """The finished map.  ``classes``: uint8 (:class:`ClusterClass`) by host cluster.

    ``total``: host clusters of the file.  ``image_end``: clusters up to the last used one.
    ``counts``: clusters of the file by class.  ``references``: uint8 by host cluster, how often
    each is referred to, 255 for more; only when it was asked to be kept.
    """

    cluster_size: int
    total: int
    image_end: int
    classes: ClusterArray
    counts: dict[ClusterClass, int] = field(default_factory=dict)
    references: ClusterArray | None = None

    def class_of(self, cluster: int) -> ClusterClass:
        """The class of one host cluster (UNREAD outside the file)."""
        if not 0 <= cluster < self.total:
            return ClusterClass.UNREAD
        found = ClusterClass(int(self.classes.read(cluster, cluster + 1)[0]))
        if found is ClusterClass.UNREAD:  # nothing near it was touched: no count, no claim
            past_end = cluster >= self.image_end
            return ClusterClass.BEYOND_END if past_end else ClusterClass.FREE
        return found


def scan_owners(
    image: Image,
    *,
    publish: Publish | None = None,
    publish_counts: PublishCounts | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    keep_references: bool = False,
) -> OwnerMap:
    """Classify every host cluster: walk all tables, then compare with the refcounts on disk.

    Raises GuestDataError when no table can be interpreted.
    """
    scan = _Scan(image, publish, publish_counts, progress, cancel)
    found = scan.run()
    if keep_references:
        found.references = scan.claims.references
    return found


class _Scan:
    def __init__(
        self,
        image: Image,
        publish: Publish | None,
        publish_counts: PublishCounts | None,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> None:
        self.image = image
        self.geometry: Geometry = image.usable_geometry_for_tables()
        self.total = self.geometry.clusters(image.storage.size())
        self.claims = ClaimMap(self.geometry.cluster_bits, self.total)
        self.publish = publish
        self.publish_counts = publish_counts
        self.tell = Throttle(progress)
        self.cancel = cancel
        self._publish_next = time.monotonic() + _PUBLISH_EVERY

    def run(self) -> OwnerMap:
        self._claim_metadata()
        self._claim_bitmaps()
        if self.image.unusable is None:
            self._claim_states()
        return self._compare()

    # -- claims -----------------------------------------------------------------------------------

    def _claim_metadata(self) -> None:
        image, geometry = self.image, self.geometry
        header = image.header
        self.claims.run(0, 1, ClusterClass.HEADER)
        table = refcount_table(image)
        if len(table):
            self.claims.run(
                header.refcount_table_offset,
                header.refcount_table_clusters << geometry.cluster_bits,
                ClusterClass.REFCOUNT_TABLE,
            )
            offsets = table & np.uint64(REFCOUNT_TABLE_OFFSET_MASK)
            self.claims.add(self._clusters_of(offsets), ClusterClass.REFCOUNT_BLOCK)
        if image.snapshots:
            self.claims.run(
                header.snapshots_offset, image.snapshot_table_length, ClusterClass.SNAPSHOT_TABLE
            )
        if image.crypto is not None:
            self.claims.run(image.crypto.offset, image.crypto.length, ClusterClass.LUKS_HEADER)

    def _claim_bitmaps(self) -> None:
        image = self.image
        if image.bitmap_directory is None:
            return
        self.claims.run(*image.bitmap_directory, ClusterClass.BITMAP)
        for bitmap in image.bitmaps:
            length = min(bitmap.table_size * 8, max(0, image.storage.size() - bitmap.table_offset))
            self.claims.run(bitmap.table_offset, length, ClusterClass.BITMAP)
            table = decode_u64(image.storage.read(bitmap.table_offset, length))
            self.claims.add(
                self._clusters_of(table & np.uint64(BITMAP_TABLE_OFFSET_MASK)), ClusterClass.BITMAP
            )

    def _clusters_of(self, offsets: U64) -> I64:
        """The host clusters at ``offsets``, without the empty and the misaligned ones."""
        aligned = (offsets & np.uint64(self.geometry.cluster_size - 1)) == 0
        used = offsets[(offsets != 0) & aligned]
        clusters: I64 = (used >> np.uint64(self.geometry.cluster_bits)).astype(np.int64)
        return clusters

    def _claim_states(self) -> None:
        """L1 and L2 tables of every state, then what each L2 table maps, as often as it is used."""
        bits = self.geometry.cluster_bits
        disk, vm_state = [], []
        for state in self._states():
            owner = ClusterClass.L1 if state.snapshot is None else ClusterClass.SNAPSHOT_L1
            l1 = state.l1()
            self.claims.run(state.l1_table_offset, len(l1) * 8, owner)
            guest = self.geometry.l1_entries(state.virtual_size)
            disk.append(self._clusters_of(l1[:guest] & OFFSETS))
            vm_state.append(self._clusters_of(l1[guest:] & OFFSETS))
        for owner, found in ((ClusterClass.DATA, disk), (ClusterClass.VM_STATE, vm_state)):
            every = np.concatenate(found)
            self.claims.add(every, ClusterClass.L2)
            tables, times = distinct_counts(every)
            inside = tables < self.total
            self._claim_mapped(tables[inside] << bits, times[inside], owner)

    def _states(self) -> Iterable[State]:
        yield self.image.active
        for snapshot in self.image.snapshots:
            try:
                yield self.image.snapshot_state(snapshot)
            except GuestDataError:
                continue  # its entry is a finding of its own; nothing can be claimed through it

    def _claim_mapped(self, tables: I64, times: I64, owner: ClusterClass) -> None:
        done = 0
        for number in distinct(times).tolist():
            chosen = tables[times == number]
            for window in l2_tables(self.image.storage, self.geometry, chosen):
                if self.cancel is not None:
                    self.cancel.check()
                entries = window.entries.reshape(-1)
                bitmaps = None if window.bitmaps is None else window.bitmaps.reshape(-1)
                self._claim_entries(entries, bitmaps, owner, number)
                done += len(window.offsets)
                self.tell("reading mappings", done, len(tables), "L2 tables")
                self._tick()

    def _claim_entries(
        self, entries: U64, bitmaps: U64 | None, owner: ClusterClass, times: int
    ) -> None:
        used = entries != 0
        if not used.all():
            entries = entries[used]
            bitmaps = bitmaps[used] if bitmaps is not None else None
        if not len(entries):
            return
        heads = stretches(entries, bitmaps, self.geometry)
        if heads is not None and len(heads) <= _FEW_STRETCHES:
            self._claim_stretches(entries, bitmaps, heads, owner, times)
            return
        self._claim_scattered(entries, bitmaps, owner, times)

    def _claim_stretches(
        self, entries: U64, bitmaps: U64 | None, heads: I64, owner: ClusterClass, times: int
    ) -> None:
        """Claim contiguous stretches as spans; single entries go the general way together."""
        lengths = np.diff(heads, append=np.int64(len(entries)))
        first = entries[heads]
        plain = (lengths > 1) & ((first & np.uint64(OFLAG_COMPRESSED)) == 0)
        plain &= (first & np.uint64(self.geometry.cluster_size - 1) & OFFSETS) == 0
        if self.image.header.has_data_file:
            plain[:] = False
        zero = self._reads_as_zero(first, bitmaps[heads] if bitmaps is not None else None)
        hosts = ((first & OFFSETS) >> np.uint64(self.geometry.cluster_bits)).astype(np.int64)
        for host, length, is_zero in zip(
            hosts[plain].tolist(), lengths[plain].tolist(), zero[plain].tolist(), strict=True
        ):
            kind = ClusterClass.ZERO_ALLOCATED if is_zero else owner
            self.claims.span(host, min(self.total, host + length), kind, times)
        rest = np.repeat(~plain, lengths)
        if rest.any():
            self._claim_scattered(
                entries[rest], bitmaps[rest] if bitmaps is not None else None, owner, times
            )

    def _claim_scattered(
        self, entries: U64, bitmaps: U64 | None, owner: ClusterClass, times: int
    ) -> None:
        compressed = (entries & np.uint64(OFLAG_COMPRESSED)) != 0
        if compressed.any():
            self._claim_compressed(entries[compressed], times)
            keep = ~compressed
            entries = entries[keep]
            bitmaps = bitmaps[keep] if bitmaps is not None else None
        if self.image.header.has_data_file:
            return
        zero = self._reads_as_zero(entries, bitmaps)
        offsets = entries & OFFSETS
        if zero.any():
            self.claims.add(self._clusters_of(offsets[zero]), ClusterClass.ZERO_ALLOCATED, times)
            offsets = offsets[~zero]
        self.claims.add(self._clusters_of(offsets), owner, times)

    @staticmethod
    def _reads_as_zero(entries: U64, bitmaps: U64 | None) -> NDArray[np.bool_]:
        """Which entries reserve space without holding data."""
        if bitmaps is not None:
            zero: NDArray[np.bool_] = (bitmaps & np.uint64(0xFFFFFFFF)) == 0
        else:
            zero = (entries & np.uint64(OFLAG_ZERO)) != 0
        return zero

    def _claim_compressed(self, entries: U64, times: int) -> None:
        bits = self.geometry.cluster_bits
        offsets, lengths = compressed_fields(entries, self.geometry)
        first, last = offsets >> bits, (offsets + lengths - 1) >> bits
        for step in range(int((last - first).max()) + 1):
            self.claims.add((first + step)[first + step <= last], ClusterClass.COMPRESSED, times)

    # -- publishing -------------------------------------------------------------------------------

    def _tick(self) -> None:
        begun = time.monotonic()
        if self.publish is None or begun < self._publish_next:
            return
        for block in sorted(self.claims.dirty)[:_PUBLISH_BLOCKS]:
            self.claims.dirty.discard(block)
            first = block << BLOCK_BITS
            stop = min(self.total, first + (1 << BLOCK_BITS))
            if first < stop:
                self.publish(first, self.claims.classes.read(first, stop))
        now = time.monotonic()
        self._publish_next = now + max(_PUBLISH_EVERY, _PUBLISH_SHARE * (now - begun))

    # -- the refcounts ----------------------------------------------------------------------------

    def _compare(self) -> OwnerMap:
        counts = np.zeros(len(ClusterClass), dtype=np.int64)
        last_used = 0
        for window in refcount_windows(self.image):
            for first, stop in self._stretches(window.first, window.first + window.clusters):
                if self.cancel is not None:
                    self.cancel.check()
                on_disk = None
                if window.counts is not None:
                    on_disk = window.counts[first - window.first : stop - window.first]
                if on_disk is None and not self.claims.references.touched(first, stop):
                    counts[ClusterClass.FREE] += stop - first
                    self._publish_free(first, stop)
                    continue
                used = self._compare_stretch(first, stop, on_disk, counts)
                last_used = max(last_used, used)
                self.tell("comparing refcounts", stop, self.total)
        found = OwnerMap(self.geometry.cluster_size, self.total, last_used, self.claims.classes)
        beyond = self.total - last_used
        counts[ClusterClass.FREE] -= beyond
        counts[ClusterClass.BEYOND_END] += beyond
        self._mark_beyond(last_used)
        found.counts = {ClusterClass(i): int(n) for i, n in enumerate(counts) if n}
        return found

    def _stretches(self, first: int, stop: int) -> Iterable[tuple[int, int]]:
        """Cut a window so that untouched gigabytes of a sparse file cost nothing."""
        step = 1 << 20
        at = first
        while at < stop:
            end = min(stop, (at // step + 1) * step)
            if not self.claims.references.touched(at, end):
                # Grow over everything untouched; the counts of such a stretch are looked at whole.
                while (
                    end < stop
                    and end - at < step << 4
                    and not self.claims.references.touched(end, min(stop, end + step))
                ):
                    end = min(stop, end + step)
            yield at, end
            at = end

    def _compare_stretch(
        self,
        first: int,
        stop: int,
        on_disk: NDArray[np.unsignedinteger] | None,
        totals: NDArray[np.int64],
    ) -> int:
        """Settle the classes of ``[first, stop)``; where the last used cluster of it ends, or 0."""
        referred = self.claims.references.read(first, stop)
        classes = self.claims.classes.read(first, stop)
        if on_disk is None:
            on_disk = np.zeros(stop - first, dtype=np.uint8)
        counted = np.minimum(on_disk, 255).astype(np.uint8)
        shared = (referred > 1) & (
            (classes == ClusterClass.DATA)
            | (classes == ClusterClass.ZERO_ALLOCATED)
            | (classes == ClusterClass.VM_STATE)
        )
        classes[shared] = ClusterClass.SHARED
        mismatch = counted != referred
        if mismatch.any():
            overlapping = classes == ClusterClass.OVERLAPPING
            classes[(counted > referred) & ~overlapping] = ClusterClass.LEAKED
            if not self.image.header.dirty:  # counts that were postponed say nothing
                classes[(counted < referred) & ~overlapping] = ClusterClass.CORRUPT
        classes[classes == ClusterClass.UNREAD] = ClusterClass.FREE
        totals += np.bincount(classes, minlength=len(ClusterClass))
        for at, piece in self.claims.classes.pieces(first, stop):
            piece[:] = classes[at - first : at - first + len(piece)]
        if self.publish is not None:
            self.publish(first, classes)
        if self.publish_counts is not None:
            # A narrow type cannot be compared with the largest uint16, and need not be.
            narrow = on_disk if on_disk.itemsize <= 2 else np.minimum(on_disk, 65535)
            self.publish_counts(first, narrow.astype(np.uint16), mismatch)
        used = np.flatnonzero((counted != 0) | (referred != 0))
        return first + int(used[-1]) + 1 if len(used) else 0

    def _publish_free(self, first: int, stop: int) -> None:
        if self.publish is None:
            return
        step = 1 << 22
        for at in range(first, stop, step):
            self.publish(at, np.full(min(step, stop - at), ClusterClass.FREE, dtype=np.uint8))

    def _mark_beyond(self, first: int) -> None:
        step = 1 << 20
        at = first
        while at < self.total:
            # Steps end where chunks do, so that none of them calls a new chunk into being.
            stop = min(self.total, (at // step + 1) * step)
            if self.claims.classes.touched(at, stop):
                for _at, piece in self.claims.classes.pieces(at, stop):
                    piece[:] = ClusterClass.BEYOND_END
            if self.publish is not None:
                self.publish(at, np.full(stop - at, ClusterClass.BEYOND_END, dtype=np.uint8))
            at = stop
