"""Where data that was cut off can be read again: a backup file, or a snapshot of the image."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import ExitStack

from ...chain import open_chain
from ...disk import Disk
from ...errors import EditRefused, GuestDataError
from ...image.image import Image
from ...opening import open as open_image
from ...storage.gate import Gate, Policy
from ...text import safe, size_and_bytes

SNAPSHOT, FILE = "snapshot:", "file:"


class Source(ExitStack):
    """Disks of the states of ``image``, as they were or nearly so; open for reading."""

    def __init__(self, image: Image) -> None:
        super().__init__()
        self._image = image

    #: The state whose own lost clusters are none the less lost here, by its label.
    state: str | None = None

    @abstractmethod
    def disk(self, state: str) -> Disk | None:
        """The disk for a state of the image, None when there is none."""

    def read(self, disk: Disk, first: int, clusters: int) -> bytes:
        """The content of guest clusters, zeros behind the disk's end.  Raises EditRefused."""
        bits = self._image.header.cluster_bits
        start, length = first << bits, clusters << bits
        try:
            data = disk.read(start, max(0, min(length, disk.virtual_size - start)))
        except GuestDataError as error:
            raise EditRefused(
                f"What shall be filled in cannot be read where it is needed: {error}"
            ) from error
        return data.ljust(length, b"\0")


class Earlier(Source):
    """A snapshot of the image itself: what its disk has in the same ranges."""

    def __init__(self, name: str, image: Image) -> None:
        """``name``: the snapshot's, or its ID.  Raises EditRefused when there is none."""
        super().__init__(image)
        wanted = name.encode("utf-8", "surrogateescape")
        found = [s for s in image.snapshots if s.name == wanted]
        found = found or [s for s in image.snapshots if s.id == wanted]
        if len(found) != 1:
            many = "several snapshots" if found else "no snapshot"
            raise EditRefused(f"There is {many} '{safe(name)}' to fill from.")
        self.state = found[0].label
        self._disk = image.snapshot_state(found[0])

    def disk(self, state: str) -> Disk | None:
        return self._disk


class Backup(Source):
    """A backup of the image's disk, open for reading.

    Raises EditRefused when it is shorter than the disk, StorageError, FormatError.
    """

    def __init__(self, path: str, image: Image) -> None:
        super().__init__(image)
        opened = open_image(path)
        self.callback(opened.close)
        self._opened = opened
        self._active: Disk = opened.active if not isinstance(opened, Image) else self._chained()
        size = self._active.virtual_size
        if size < image.virtual_size:
            self.close()
            raise EditRefused(
                f"The backup '{safe(path)}' has a disk of {size_and_bytes(size)}, the image one of "
                f"{size_and_bytes(image.virtual_size)}."
            )

    def _chained(self) -> Disk:
        assert isinstance(self._opened, Image)
        self._opened.require_plain()
        self._image.require_plain()
        if self._opened.backing is None:
            return self._opened.active
        return self.enter_context(open_chain(self._opened, Gate(Policy.OWN_FOLDER)))

    def disk(self, state: str) -> Disk | None:
        """The disk of a state of the image, None when the backup does not have it."""
        if state == "active":
            return self._active
        if not isinstance(self._opened, Image) or self._opened.backing is not None:
            return None
        wanted = next((s for s in self._opened.snapshots if s.label == state), None)
        return None if wanted is None else self._opened.snapshot_state(wanted)


def open_source(key: str, image: Image) -> Source:
    """What ``snapshot:NAME``, ``file:PATH`` or a plain path name.  Raises as the classes do."""
    if key.startswith(SNAPSHOT):
        return Earlier(key.removeprefix(SNAPSHOT), image)
    return Backup(key.removeprefix(FILE), image)
