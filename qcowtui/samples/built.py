"""An image laid out in memory, cluster by cluster: to be damaged on purpose, and to be saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qcow.layout.constants import OFFSET_MASK, REFCOUNT_TABLE_OFFSET_MASK
from qcow.layout.geometry import Geometry
from qcow.layout.header import header_field

#: Zeros are left as holes in pieces of this size, the block size of most file systems.
_HOLE = 4096
_ZEROS = bytes(_HOLE)


@dataclass(eq=False)
class BuiltImage:
    """All bytes of a qcow2 file that does not exist yet.

    ``clusters`` maps host cluster numbers to content, which may be shorter than a cluster: the rest
    is zero.  Clusters that are missing are holes.
    """

    geometry: Geometry
    clusters: dict[int, bytes | bytearray]
    nb_clusters: int  # length of the file

    @property
    def length(self) -> int:
        """Bytes of the file."""
        return self.nb_clusters << self.geometry.cluster_bits

    def peek(self, offset: int, length: int) -> bytes:
        """``length`` bytes of the file from ``offset``."""
        out = bytearray()
        while length:
            cluster, inside = divmod(offset, self.geometry.cluster_size)
            count = min(length, self.geometry.cluster_size - inside)
            piece = self.clusters.get(cluster, b"")[inside : inside + count]
            out += piece
            out += bytes(count - len(piece))
            offset += count
            length -= count
        return bytes(out)

    def patch(self, offset: int, data: bytes) -> None:
        """Overwrite bytes; the file grows (in whole clusters) when they lie behind its end."""
        at = 0
        while at < len(data):
            cluster, inside = divmod(offset + at, self.geometry.cluster_size)
            piece = data[at : at + self.geometry.cluster_size - inside]
            content = bytearray(self.clusters.get(cluster, b""))
            content += bytes(max(0, inside + len(piece) - len(content)))
            content[inside : inside + len(piece)] = piece
            self.clusters[cluster] = content
            self.nb_clusters = max(self.nb_clusters, cluster + 1)
            at += len(piece)

    def u64(self, offset: int) -> int:
        """The big-endian 64-bit word at ``offset``."""
        return int.from_bytes(self.peek(offset, 8), "big")

    def set_u64(self, offset: int, value: int) -> None:
        self.patch(offset, value.to_bytes(8, "big"))

    def header(self, name: str) -> int:
        """A header field by its name in the spec."""
        field = header_field(name)
        return int.from_bytes(self.peek(field.offset, field.size), "big")

    def set_header(self, name: str, value: int) -> None:
        field = header_field(name)
        self.patch(field.offset, value.to_bytes(field.size, "big"))

    def l1_offset(self, index: int) -> int:
        """Where entry ``index`` of the active L1 table lies."""
        return self.header("l1_table_offset") + 8 * index

    def l2_offset(self, guest_cluster: int) -> int | None:
        """Where the active L2 entry of a guest cluster lies; None without an L2 table."""
        index, inside = divmod(guest_cluster, self.geometry.l2_entries)
        table = self.u64(self.l1_offset(index)) & OFFSET_MASK
        return table + self.geometry.l2_entry_size * inside if table else None

    def l2_entries(self) -> Iterator[tuple[int, int, int]]:
        """(guest cluster, offset of the entry, entry) of each used entry of the active tables."""
        size = self.geometry.l2_entry_size
        for index in range(self.header("l1_size")):
            table = self.u64(self.l1_offset(index)) & OFFSET_MASK
            if not table:
                continue
            raw = self.peek(table, self.geometry.cluster_size)
            for inside in range(self.geometry.l2_entries):
                at = inside * size
                entry = int.from_bytes(raw[at : at + 8], "big")
                if entry:
                    yield index * self.geometry.l2_entries + inside, table + at, entry

    def refcount(self, cluster: int) -> int:
        """The refcount on disk of a host cluster."""
        at = self._refcount_bit(cluster)
        if at is None:
            return 0
        byte, bit = divmod(at, 8)
        if self.geometry.refcount_bits >= 8:
            return int.from_bytes(self.peek(byte, self.geometry.refcount_bits // 8), "big")
        return self.peek(byte, 1)[0] >> bit & self.geometry.refcount_max

    def set_refcount(self, cluster: int, count: int) -> None:
        """Change the refcount on disk.  Raises ValueError when no refcount block covers it."""
        at = self._refcount_bit(cluster)
        if at is None:
            raise ValueError(f"no refcount block covers cluster {cluster}")
        byte, bit = divmod(at, 8)
        if self.geometry.refcount_bits >= 8:
            self.patch(byte, count.to_bytes(self.geometry.refcount_bits // 8, "big"))
        else:
            old = self.peek(byte, 1)[0] & ~(self.geometry.refcount_max << bit)
            self.patch(byte, bytes((old | count << bit,)))

    def _refcount_bit(self, cluster: int) -> int | None:
        """Position in bits, from the start of the file, of a cluster's refcount."""
        index, inside = divmod(cluster, self.geometry.refcount_block_entries)
        table = self.header("refcount_table_offset")
        entries = self.header("refcount_table_clusters") * self.geometry.cluster_size // 8
        if index >= entries:
            return None
        block = self.u64(table + 8 * index) & REFCOUNT_TABLE_OFFSET_MASK
        return (block << 3) + (inside << self.geometry.refcount_order) if block else None

    def save(self, path: Path) -> Path:
        """Write the image to ``path``, a new file: FileExistsError when there is one already."""
        with open(path, "xb") as file:
            for cluster in sorted(self.clusters):
                start = cluster << self.geometry.cluster_bits
                for at, data in _filled(bytes(self.clusters[cluster])):
                    file.seek(start + at)
                    file.write(data)
            file.truncate(self.length)
        return path


def _filled(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The runs of ``content`` between pieces of zeros that can stay holes."""
    if len(content) <= _HOLE or _ZEROS not in content:
        if content.count(0) != len(content):
            yield 0, content
        return
    start = None
    for at in range(0, len(content), _HOLE):
        piece = content[at : at + _HOLE]
        zero = piece.count(0) == len(piece)
        if zero and start is not None:
            yield start, content[start:at]
            start = None
        elif not zero and start is None:
            start = at
    if start is not None:
        yield start, content[start:]
