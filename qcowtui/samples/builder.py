"""A builder of qcow2 images that needs no QEMU: the same calls give the same bytes each time.

It follows how QEMU lets an image grow (where structures go, what a snapshot shares, what a write to
shared clusters copies), and lets the caller say where a cluster goes when that matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qcow.layout.constants import (
    BITMAP_TABLE_ALL_ONES,
    COMPRESSION_NAMES,
    OFLAG_COMPRESSED,
    OFLAG_ZERO,
    SUBCLUSTERS,
)
from qcow.layout.geometry import Geometry

from .built import BuiltImage
from .compress import compress_cluster
from .lay_out import lay_out
from .model import ImageModel
from .space import HostSpace
from .tables import BitmapState, L2Table, SnapshotState

_ALL_ALLOCATED = (1 << SUBCLUSTERS) - 1
_ALL_ZERO = _ALL_ALLOCATED << SUBCLUSTERS


class ImageBuilder:
    """One image under construction; :attr:`model` says what a reader must find in it.

    ``virtual_size`` is in bytes.  Guest and host clusters are numbers, not offsets.  Content
    shorter than a cluster stands for a cluster padded with zeros.
    """

    def __init__(
        self,
        *,
        virtual_size: int,
        cluster_bits: int = 16,
        version: int = 3,
        refcount_order: int = 4,
        extended_l2: bool = False,
        compression: str = "zlib",
        lazy_refcounts: bool = False,
    ) -> None:
        special = extended_l2 or lazy_refcounts or compression != "zlib" or refcount_order != 4
        if version == 2 and special:
            raise ValueError("version 2 has 16-bit refcounts, zlib and no feature bits")
        geometry = Geometry(
            version, cluster_bits, refcount_order, extended_l2, COMPRESSION_NAMES.index(compression)
        )
        self.geometry = geometry
        self.space = HostSpace(geometry)
        size = geometry.l1_entries(virtual_size)
        first = self.space.take_run(geometry.clusters(size * 8))
        self.model = ImageModel(geometry, virtual_size, first, size)
        self.model.lazy_refcounts = lazy_refcounts
        self._compression = compression
        self._packed_end = 0  # where the next compressed data may go, in bytes; 0: a new cluster

    # Guest data

    def data(self, guest: int, content: bytes, at: int | None = None) -> int:
        """Store a guest cluster plainly, at host cluster ``at`` or the next free one; returns it.

        What the cluster was stored in before stays behind, as after QEMU's copy on write.
        """
        return self._store(guest, content, at, _ALL_ALLOCATED)

    def zero(self, guest: int, count: int = 1) -> None:
        """Let guest clusters read as zeros without space (version 3)."""
        for number in range(guest, guest + count):
            self._map(number, 0 if self.geometry.extended_l2 else self._zero_flag(), _ALL_ZERO)

    def zero_allocated(self, guest: int, count: int = 1, at: int | None = None) -> int:
        """Let guest clusters read as zeros with space reserved; returns the first host cluster."""
        flag = 0 if self.geometry.extended_l2 else self._zero_flag()
        places = [
            self._store(guest + n, b"", None if at is None else at + n, _ALL_ZERO, flag)
            for n in range(count)
        ]
        return places[0]

    def subclusters(
        self, guest: int, content: bytes, allocated: int, zero: int = 0, at: int | None = None
    ) -> int:
        """Store a cluster of an extended L2 image; the masks have bit n for subcluster n."""
        if not self.geometry.extended_l2 or allocated & zero:
            raise ValueError("subclusters need extended L2, and are either allocated or zero")
        return self._store(guest, content, at, zero << SUBCLUSTERS | allocated)

    def compressed(self, guest: int, content: bytes) -> None:
        """Store a guest cluster compressed, right behind the last one where QEMU would do so.

        What does not get smaller is stored plainly.
        """
        whole = content.ljust(self.geometry.cluster_size, b"\0")
        packed = compress_cluster(self._compression, whole)
        if packed is None:
            self.data(guest, content)
            return
        offset = self._pack(packed)
        self.model.unpacked[offset] = whole
        sectors = (offset + len(packed) - 1 >> 9) - (offset >> 9)
        shift = self.geometry.compressed_offset_bits
        self._map(guest, OFLAG_COMPRESSED | sectors << shift | offset)

    def forget(self, guest: int, count: int = 1) -> None:
        """Unmap guest clusters, as if they had never been written."""
        for number in range(guest, guest + count):
            table, index = self._table(number)
            table.entries.pop(index, None)
            table.bitmaps.pop(index, None)

    # Host space

    def skip(self, count: int) -> None:
        """Leave ``count`` host clusters free."""
        self.space.cursor += count

    def reuse_free(self) -> None:
        """Let what nothing refers to any more be given away again, lowest cluster first."""
        used = self.model.references()
        self.space.taken_from(used)
        if self._packed_end >> self.geometry.cluster_bits not in used:
            self._packed_end = 0

    # Snapshots

    def snapshot(
        self,
        name: bytes | str,
        *,
        date: int = 0,
        date_nsec: int = 0,
        vm_clock_nsec: int = 0,
        vm_state: Sequence[bytes] = (),
        icount: int = 0,
        more_extra: bytes = b"",
    ) -> SnapshotState:
        """Take an internal snapshot of the active state.

        ``date`` is seconds since 1970.  ``vm_state`` has the content of each of its clusters; it is
        written behind the disk and leaves the active state afterwards.  ``more_extra`` is extra
        data behind what version 3 defines.
        """
        model = self.model
        first = self.geometry.l1_entries(model.virtual_size) * self.geometry.l2_entries
        for number, content in enumerate(vm_state):
            self.data(first + number, content)
        numbers = (int(other.id) for other in model.snapshots)
        taken = SnapshotState(
            id=str(1 + max(numbers, default=0)).encode(),
            name=_bytes(name),
            l1_cluster=self.space.take_run(model.table_clusters(model.l1_size)),
            l1_size=model.l1_size,
            l1=dict(model.l1),
            l1_copied=frozenset(i for i, t in model.l1.items() if not model.is_shared(i, t)),
            disk_size=model.virtual_size,
            date_sec=date,
            date_nsec=date_nsec,
            vm_clock_nsec=vm_clock_nsec,
            vm_state_size=len(vm_state) << self.geometry.cluster_bits,
            icount=icount,
            more_extra=more_extra,
        )
        model.snapshots.append(taken)
        self._move_snapshot_table()
        for number in range(len(vm_state)):
            if self.geometry.version >= 3:
                self.zero(first + number)
            else:
                self.forget(first + number)
        return taken

    def revert(self, snapshot: SnapshotState) -> None:
        """Make the active state that of a snapshot."""
        self.model.l1 = dict(snapshot.l1)

    def delete_snapshot(self, snapshot: SnapshotState) -> None:
        """Drop a snapshot; what only it used becomes free."""
        self.model.snapshots.remove(snapshot)
        self._move_snapshot_table()

    # What else a header can carry

    def backing(self, name: bytes | str, fmt: bytes | str | None = "qcow2") -> None:
        """Name a backing file, and its format unless ``fmt`` is None."""
        self.model.backing_file = _bytes(name)
        self.model.backing_format = None if fmt is None else _bytes(fmt)

    def extension(self, magic: int, data: bytes) -> None:
        """Add a header extension of any kind."""
        self.model.extensions.append((magic, data))

    def trail(self, clusters: int) -> None:
        """Let the file go on behind the end of the image."""
        self.model.trailing_clusters = clusters

    def bitmap(
        self,
        name: bytes | str,
        dirty: Sequence[tuple[int, int]] = (),
        *,
        granularity_bits: int = 16,
        auto: bool = True,
        in_use: bool = False,
    ) -> None:
        """Add a persistent dirty bitmap; ``dirty`` has (offset, length) of guest bytes."""
        if self.geometry.version < 3:
            raise ValueError("version 2 holds no bitmaps")
        table = [self._bitmap_word(piece) for piece in self._bitmap_pieces(dirty, granularity_bits)]
        first = self.space.take_run(self.model.table_clusters(len(table)))
        self.model.bitmaps.append(
            BitmapState(_bytes(name), granularity_bits, first, table, auto, in_use)
        )
        needed = self.geometry.clusters(len(self.model.encode_bitmap_directory()))
        if needed > len(self.model.bitmap_directory):
            first = self.space.take_run(needed)
            self.model.bitmap_directory = range(first, first + needed)

    # The result

    def build(self) -> BuiltImage:
        """Lay the image out with right refcounts and COPIED flags.

        Raises ValueError when a refcount exceeds its width.
        """
        return lay_out(self.model)

    def write(self, path: Path) -> Path:
        """Build the image and save it as ``path``, a new file."""
        return self.build().save(path)

    # How it is done

    def _zero_flag(self) -> int:
        if self.geometry.version < 3:
            raise ValueError("version 2 has no zero clusters")
        return OFLAG_ZERO

    def _store(self, guest: int, content: bytes, at: int | None, bitmap: int, flag: int = 0) -> int:
        if len(content) > self.geometry.cluster_size:
            raise ValueError("the content is longer than a cluster")
        self._table(guest)  # QEMU makes room for the table first
        host = self.space.take(at)
        self.model.contents[host] = content
        self._map(guest, host << self.geometry.cluster_bits | flag, bitmap)
        return host

    def _map(self, guest: int, entry: int, bitmap: int = 0) -> None:
        table, index = self._table(guest)
        table.entries[index] = entry
        if self.geometry.extended_l2:
            table.bitmaps[index] = bitmap

    def _table(self, guest: int) -> tuple[L2Table, int]:
        """The active L2 table that maps a guest cluster, private from now on, and the index."""
        model = self.model
        index, inside = divmod(guest, self.geometry.l2_entries)
        if index >= model.l1_size:
            self._grow_l1(index + 1)
        table = model.l1.get(index)
        if table is None:
            table = model.l1[index] = L2Table(self.space.take())
        elif model.is_shared(index, table):
            table = model.l1[index] = table.copy_to(self.space.take())
        return table, inside

    def _grow_l1(self, needed: int) -> None:
        """Move the active L1 table to where it has room, growing by half as QEMU does."""
        size = max(1, self.model.l1_size)
        while size < needed:
            size = (size * 3 + 1) // 2
        self.model.l1_size = size
        self.model.l1_cluster = self.space.take_run(self.model.table_clusters(size))

    def _pack(self, packed: bytes) -> int:
        """Find room for compressed bytes as QEMU does; returns their offset."""
        size = self.geometry.cluster_size
        offset = self._packed_end
        if offset and self.geometry.refcount_order < 4:
            # Several compressed clusters in one host cluster raise its refcount.
            shared = self.model.references()[offset >> self.geometry.cluster_bits]
            offset = 0 if shared >= self.geometry.refcount_max else offset
        if not offset or size - offset % size < len(packed):
            fresh = self.space.take() << self.geometry.cluster_bits
            self.model.contents[fresh >> self.geometry.cluster_bits] = bytearray()
            if not offset or -(-offset // size) * size != fresh:
                offset = fresh
        end = offset + len(packed)
        self._packed_end = end if end % size else 0
        at = offset
        while at < end:
            room = size - at % size
            content = self.model.contents[at >> self.geometry.cluster_bits]
            assert isinstance(content, bytearray)
            content += bytes(at % size - len(content))
            content += packed[at - offset : at - offset + room]
            at += room
        return offset

    def _move_snapshot_table(self) -> None:
        """Write the table anew in another place, as QEMU does on each change."""
        length = len(self.model.encode_snapshot_table())
        needed = self.geometry.clusters(length)
        first = self.space.take_run(needed) if needed else 0
        self.model.snapshot_table = range(first, first + needed)

    def _bitmap_pieces(
        self, dirty: Sequence[tuple[int, int]], granularity_bits: int
    ) -> list[bytes]:
        """The bitmap's bits, cut into clusters."""
        bits = 0
        for start, length in dirty:
            first = start >> granularity_bits
            last = start + length - 1 >> granularity_bits
            bits |= (1 << last + 1) - (1 << first)
        count = -(-self.model.virtual_size >> granularity_bits)
        size = self.geometry.cluster_size
        whole = self.geometry.clusters(-(-count // 8)) * size
        raw = bits.to_bytes(whole, "little")
        return [raw[at : at + size] for at in range(0, whole, size)]

    def _bitmap_word(self, piece: bytes) -> int:
        if piece.count(0) == len(piece):
            return 0
        if piece.count(0xFF) == len(piece):
            return BITMAP_TABLE_ALL_ONES
        cluster = self.space.take()
        self.model.contents[cluster] = piece
        return cluster << self.geometry.cluster_bits


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
