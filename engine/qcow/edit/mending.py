"""Looking at an image whose roots cannot be used, as if they had been mended already.

A repair must open an image before it can repair it.  Where the header itself, or a small table that
it names, is what is damaged, the image is *seen* with other bytes there.  Nothing is written for
that: the header reaches the file with the switch of the next transaction, and a table is placed
anew by it.
"""

from __future__ import annotations

from ..errors import FormatError, GuestDataError
from ..image.image import Image
from ..layout.header_switch import HeaderSwitch
from ..record import record
from ..storage.base import Storage
from .candidate import CandidateStorage
from .patch import SECTOR, Patch


@record
class Mending:
    """How an image is seen: ``header`` are the first bytes of the file as they shall be.

    ``tables`` are patches elsewhere that are only seen, never written: what lies there has to be
    written anew, so that the repaired image does not need them.
    """

    header: bytes
    tables: tuple[Patch, ...] = ()

    def seen(self, storage: Storage) -> Image:
        """The image over ``storage``, mended.  Raises FormatError when that is no qcow2 image."""
        there = storage.read(0, len(self.header)).ljust(len(self.header), b"\0")
        patches = (Patch(0, there, self.header), *self.tables)
        return Image(CandidateStorage(storage, patches))


def composed(switch: HeaderSwitch, seen: Image, storage: Storage) -> HeaderSwitch:
    """``switch``, prepared on a mended header, as one from what ``storage`` really holds."""
    size = seen.header.cluster_size
    made = switch.applied(seen.storage.read(0, size).ljust(size, b"\0"))
    there = storage.read(0, size).ljust(size, b"\0")
    patches = tuple(
        Patch(at, there[at : at + SECTOR], made[at : at + SECTOR])
        for at in range(0, size, SECTOR)
        if there[at : at + SECTOR] != made[at : at + SECTOR]
    )
    return HeaderSwitch(switch.cluster, (), patches)


def image_or_none(storage: Storage) -> Image | None:
    """The image over ``storage``; None when it has no header by which tables could be read."""
    try:
        image = Image(storage)
        image.usable_geometry_for_tables()
    except (FormatError, GuestDataError):
        return None
    return image
