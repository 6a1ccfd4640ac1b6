"""The sizes that follow from a header: how guest offsets split into table indices."""

from __future__ import annotations

from ..record import record
from .constants import SUBCLUSTERS


@record
class Geometry:
    """All lengths in bytes, all counts in entries (qcow2 spec, "Guest data addressing")."""

    version: int
    cluster_bits: int
    refcount_order: int
    extended_l2: bool
    compression_type: int

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l2_entry_size(self) -> int:
        return 16 if self.extended_l2 else 8

    @property
    def l2_entries(self) -> int:
        """Entries in one L2 table."""
        return self.cluster_size // self.l2_entry_size

    @property
    def l2_span(self) -> int:
        """Guest bytes that one L2 table maps."""
        return self.l2_entries << self.cluster_bits

    @property
    def subclusters(self) -> int:
        return SUBCLUSTERS if self.extended_l2 else 1

    @property
    def subcluster_size(self) -> int:
        return self.cluster_size // self.subclusters

    @property
    def refcount_bits(self) -> int:
        return 1 << self.refcount_order

    @property
    def refcount_max(self) -> int:
        return (1 << self.refcount_bits) - 1

    @property
    def refcount_block_entries(self) -> int:
        """Clusters that one refcount block counts."""
        return self.cluster_size * 8 >> self.refcount_order

    @property
    def compressed_offset_bits(self) -> int:
        """Bits of a compressed L2 entry that hold the byte offset; above them the sector count."""
        return 62 - (self.cluster_bits - 8)

    def clusters(self, length: int) -> int:
        """How many clusters ``length`` bytes take."""
        return (length + self.cluster_size - 1) >> self.cluster_bits

    def l1_entries(self, size: int) -> int:
        """L1 entries that a disk of ``size`` bytes needs."""
        return -(-size // self.l2_span)

    def compressed_extent(self, entry: int) -> tuple[int, int]:
        """(byte offset, byte budget) of a compressed L2 entry."""
        shift = self.compressed_offset_bits
        offset = entry & ((1 << shift) - 1)
        sectors = ((entry & ((1 << 62) - 1)) >> shift) + 1
        return offset, sectors * 512 - (offset & 511)
