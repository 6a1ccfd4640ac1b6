"""A guest-visible state of one image: the active disk or an internal snapshot, this layer only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..disk import ExtentBatch
from ..errors import GuestDataError
from ..layout.geometry import Geometry
from ..layout.header_rules import l1_fault
from ..layout.snapshots import Snapshot
from ..text import safe

if TYPE_CHECKING:
    from ..layout.tables import U64
    from .image import Image
    from .tables import L2Window


class State:
    """One L1 table and the disk it maps.  ``snapshot`` is None for the active state."""

    def __init__(self, image: Image, geometry: Geometry, snapshot: Snapshot | None) -> None:
        """Raises GuestDataError when a snapshot's L1 table cannot be used."""
        self.image = image
        self.geometry = geometry
        self.snapshot = snapshot
        header = image.header
        if snapshot is None:
            self.l1_table_offset, self.l1_size = header.l1_table_offset, header.l1_size
            self.virtual_size = header.virtual_size
        else:
            self.l1_table_offset, self.l1_size = snapshot.l1_table_offset, snapshot.l1_size
            size = header.size if snapshot.disk_size is None else snapshot.disk_size
            self.virtual_size = size & ~511
            fault = l1_fault(self.l1_table_offset, self.l1_size, geometry, image.storage.size())
            if fault is not None:
                raise GuestDataError(
                    f'Snapshot "{safe(snapshot.name, 60)}" of {safe(image.name)} cannot be read: '
                    f"as for its L1 table, {fault}."
                )
        self._l1: U64 | None = None

    @property
    def label(self) -> str:
        """``active`` or ``snapshot:ID`` (raw image text)."""
        return "active" if self.snapshot is None else self.snapshot.label

    def l1(self) -> U64:
        """The L1 entries present in the file (uint64, native order), read once."""
        if self._l1 is None:
            from .tables import read_l1

            self._l1 = read_l1(self.image.storage, self.l1_table_offset, self.l1_size)
        return self._l1

    def windows(self, first: int = 0, clusters: int | None = None) -> Iterator[L2Window]:
        """The L2 entries of guest clusters, see :func:`qcow.image.tables.l2_windows`."""
        from .tables import l2_windows

        return l2_windows(self, first, clusters)

    def extents(self, start: int = 0, length: int | None = None) -> Iterator[ExtentBatch]:
        """The map of this layer, see :class:`qcow.disk.Disk`."""
        from .mapping import extents

        return extents(self, start, length)

    def read(self, offset: int, length: int) -> bytes:
        """Guest bytes of this layer alone.

        Raises GuestDataError where the layer says nothing and names a backing file (read through
        :mod:`qcow.chain` instead), where the mapping is damaged, or without the key.
        """
        from .reader import read_state

        return read_state(self, offset, length)
