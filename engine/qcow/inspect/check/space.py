"""The host clusters of a file, and QEMU's rule for what lies beyond its end."""

from __future__ import annotations

from ...layout.geometry import Geometry
from ...record import record
from ...storage.base import Storage


@record
class HostSpace:
    """``length``: bytes of the file in whole sectors.  ``clusters``: that in clusters, rounded up.

    ``present``: bytes that really take space, at most ``length``.
    """

    cluster_bits: int
    length: int
    clusters: int
    present: int

    @classmethod
    def of(cls, storage: Storage, geometry: Geometry) -> HostSpace:
        length = (storage.size() + 511) & ~511
        stored = storage.allocated_bytes()
        # A block device takes no space of its own, and memory cannot tell: all of it is present.
        present = min(stored, length) if stored else length
        return cls(geometry.cluster_bits, length, geometry.clusters(length), present)

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    def outside(self, offset: int, size: int) -> bool:
        """Whether a reference does not count: it reaches a cluster or more beyond the end.

        The last cluster of a file need not be there to its end.
        """
        return offset + size - self.length >= self.cluster_size

    def run(self, offset: int, size: int) -> tuple[int, int]:
        """(first, stop) of the clusters that ``size`` > 0 bytes from ``offset`` touch."""
        return offset >> self.cluster_bits, ((offset + size - 1) >> self.cluster_bits) + 1
