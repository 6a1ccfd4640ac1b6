"""The state of an image under construction: what refers to which host cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from qcow.layout.constants import OFFSET_MASK, OFLAG_COMPRESSED, OFLAG_ZERO, SUBCLUSTERS
from qcow.layout.geometry import Geometry

from .space import HEADER_CLUSTER
from .tables import BitmapState, L2Table, SnapshotState, encode_directory


@dataclass(eq=False)
class ImageModel:
    """Everything that goes into an image but the refcounts, which follow from it."""

    geometry: Geometry
    virtual_size: int  # bytes
    l1_cluster: int
    l1_size: int  # entries
    l1: dict[int, L2Table] = field(default_factory=dict)
    snapshots: list[SnapshotState] = field(default_factory=list)
    snapshot_table: range = range(0)  # host clusters
    bitmaps: list[BitmapState] = field(default_factory=list)
    bitmap_directory: range = range(0)  # host clusters
    #: Host cluster number -> what is in it (tables excepted); stale content stays.
    contents: dict[int, bytes | bytearray] = field(default_factory=dict)
    #: Byte offset of compressed data -> the guest cluster it unpacks to.
    unpacked: dict[int, bytes] = field(default_factory=dict)
    backing_file: bytes | None = None
    backing_format: bytes | None = None
    extensions: list[tuple[int, bytes]] = field(default_factory=list)
    lazy_refcounts: bool = False
    trailing_clusters: int = 0  # unused clusters behind the end of the image

    def table_clusters(self, entries: int) -> int:
        """Host clusters of a table of 8-byte entries; an empty table takes none."""
        return self.geometry.clusters(entries * 8)

    def is_shared(self, index: int, table: L2Table) -> bool:
        """Whether a snapshot uses this L2 table of the active state, too."""
        return any(snapshot.l1.get(index) is table for snapshot in self.snapshots)

    def l1_tables(self) -> Iterator[dict[int, L2Table]]:
        """The L1 tables: the active one, then those of the snapshots."""
        yield self.l1
        for snapshot in self.snapshots:
            yield snapshot.l1

    def encode_snapshot_table(self) -> bytes:
        return encode_directory(s.encode(self.geometry) for s in self.snapshots)

    def encode_bitmap_directory(self) -> bytes:
        return encode_directory(b.encode(self.geometry) for b in self.bitmaps)

    # What refers to what

    def references(self) -> Counter[int]:
        """How often each host cluster is referred to, but for the refcount structures."""
        found = Counter((HEADER_CLUSTER,))
        found.update(self.state_references(None))
        for snapshot in self.snapshots:
            found.update(self.state_references(snapshot))
        found.update(self.snapshot_table)
        found.update(self.bitmap_directory)
        for bitmap in self.bitmaps:
            clusters = self.table_clusters(len(bitmap.table))
            found.update(range(bitmap.table_cluster, bitmap.table_cluster + clusters))
            found.update(
                word >> self.geometry.cluster_bits for word in bitmap.table if word & OFFSET_MASK
            )
        return found

    def state_references(self, snapshot: SnapshotState | None) -> Counter[int]:
        """The references of one snapshot, or of the active state: tables, data and VM state."""
        l1, cluster, size = (
            (snapshot.l1, snapshot.l1_cluster, snapshot.l1_size)
            if snapshot
            else (self.l1, self.l1_cluster, self.l1_size)
        )
        found = Counter(range(cluster, cluster + self.table_clusters(size)))
        for table in l1.values():
            found[table.cluster] += 1
            for entry in table.entries.values():
                for host in entry_clusters(self.geometry, entry):
                    found[host] += 1
        return found

    def exclusive_clusters(self, snapshot: SnapshotState | None = None) -> int:
        """Host clusters that only this snapshot (or the active state) uses, tables included."""
        everything = self.references()
        mine = self.state_references(snapshot)
        return sum(everything[cluster] == count for cluster, count in mine.items())

    # What a reader must find

    def read_cluster(self, guest: int, snapshot: SnapshotState | None = None) -> bytes | None:
        """The content of a guest cluster, or None where this layer leaves it to the backing file.

        Unallocated subclusters of a stored cluster come back as zeros.
        """
        l1 = snapshot.l1 if snapshot else self.l1
        index, inside = divmod(guest, self.geometry.l2_entries)
        if index not in l1 or inside not in l1[index].entries:
            return None
        entry = l1[index].entries[inside]
        if entry & OFLAG_COMPRESSED:
            return self.unpacked[self.geometry.compressed_extent(entry)[0]]
        size = self.geometry.cluster_size
        host = (entry & OFFSET_MASK) >> self.geometry.cluster_bits
        content = bytes(self.contents[host]).ljust(size, b"\0") if host else bytes(size)
        if self.geometry.extended_l2:
            return self._masked(content, l1[index].bitmaps.get(inside, 0))
        return bytes(size) if entry & OFLAG_ZERO else content

    def guest_clusters(self, snapshot: SnapshotState | None = None) -> list[int]:
        """The guest clusters of the disk that have an entry, in order; not the VM state."""
        l1 = snapshot.l1 if snapshot else self.l1
        end = self.geometry.clusters(self.virtual_size)
        found = (
            index * self.geometry.l2_entries + inside
            for index in sorted(l1)
            for inside in sorted(l1[index].entries)
        )
        return [guest for guest in found if guest < end]

    def _masked(self, content: bytes, bitmap: int) -> bytes:
        piece = self.geometry.subcluster_size
        return b"".join(
            content[n * piece : (n + 1) * piece] if bitmap >> n & 1 else bytes(piece)
            for n in range(SUBCLUSTERS)
        )


def entry_clusters(geometry: Geometry, entry: int) -> range:
    """The host clusters that an L2 entry refers to; a compressed one can touch several."""
    if entry & OFLAG_COMPRESSED:
        offset, budget = geometry.compressed_extent(entry)
        end = offset + budget - 1
        return range(offset >> geometry.cluster_bits, (end >> geometry.cluster_bits) + 1)
    cluster = (entry & OFFSET_MASK) >> geometry.cluster_bits
    return range(cluster, cluster + 1) if cluster else range(0)
