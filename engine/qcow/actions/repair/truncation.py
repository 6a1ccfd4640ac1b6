"""An image that was cut off: the lost guest ranges, filled again from a backup that the user names.

Mapping them as zeros is a choice of :mod:`.entries`.  With ``fill=FILE`` the guest data of the lost
clusters is read from a backup (raw, or qcow2 with its snapshots) and written to new clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...chain import open_chain
from ...edit.repairing import EntryChange
from ...errors import EditRefused, GuestDataError, QcowError
from ...findings import Finding
from ...image.image import Image
from ...inspect.check import kinds as K
from ...jobs import CancelToken
from ...layout.constants import OFLAG_COMPRESSED
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64, compressed_fields
from ...opening import open as open_image
from ...storage.gate import Gate, Policy
from ...text import safe
from .asked import readable_size
from .diagnosis import Case
from .remedy import LEAVE, Option, Remedy
from .scan import Found, guest_ranges, l1_tables, windows

if TYPE_CHECKING:
    from ...disk import Disk
    from ...edit.repairing import Repair

_KINDS = (K.DATA_OUTSIDE, K.COMPRESSED_OUTSIDE)
_PACKED = np.uint64(OFLAG_COMPRESSED)
_ALL_DATA = np.uint64(0xFFFFFFFF)
#: Bytes that are read from the backup and placed at a time.
_RUN = 4 << 20
#: Clusters of which it is looked whether the backup has the same.
_COMPARED = 64


class _Lost(NamedTuple):
    """Lost entries of one state.  int64[n] ``clusters``: guest clusters, ascending; int64[n]
    ``which``: their places among all lost entries."""

    state: str
    clusters: I64
    which: I64


def find_truncation(case: Case, cancel: CancelToken | None) -> list[Remedy]:
    """One remedy when data lies beyond the end of the file: the question for a backup."""
    finding = next((f for f in case.checked.findings if f.kind in _KINDS), None)
    geometry = case.image.geometry
    if finding is None or geometry is None or case.image.header.has_data_file:
        return []
    fill = Fill(case, geometry, finding, cancel)
    # Tables in impossible places, which are remedied elsewhere, seem to name such data as well.
    return [fill] if fill.is_needed else []


class Fill(Remedy):
    """Read what was lost from a backup; nothing is done without being told from which."""

    id = "fill"
    instead_of = ("l2-outside", "l2-compressed-outside")
    order = 60  # after a choice to map what cannot be filled as zeros

    def __init__(
        self, case: Case, geometry: Geometry, finding: Finding, cancel: CancelToken | None
    ) -> None:
        self.finding = finding
        self._image = case.image
        self._geometry = geometry
        self._cancel = cancel
        found = Found()
        for window in windows(case.image, geometry, cancel):
            wrong = _outside(window.entries, geometry, case.image.storage.size())
            if wrong.any():
                found.add(window, wrong)
        self._entries = found.entries()
        self._ranges = (
            () if self._entries is None else guest_ranges(case.image, geometry, self._entries)
        )
        self.options = (self._option("FILE", "a backup FILE of this disk, raw or qcow2", ()),)

    @property
    def is_needed(self) -> bool:
        """Whether tables that can be read name anything beyond the end of the file."""
        return self._entries is not None

    def chosen(self, choices: Mapping[str, str]) -> Option | None:
        path = choices.get(self.id)
        if path is None or path == LEAVE or self._entries is None:
            return None
        return self._option(path, f"'{safe(path)}'", self._agreement(path))

    def apply(self, tx: Repair, option: Option) -> None:
        """Raises EditRefused when the backup does not have all that is lost."""
        assert self._entries is not None
        entries = self._entries
        values = entries.values.copy()
        filled = np.zeros(len(values), dtype=np.bool_)
        with _Backup(option.key, self._image) as backup:
            for lost in self._lost():
                todo = ~filled[lost.which]
                clusters, which = lost.clusters[todo], lost.which[todo]
                disk = backup.disk(lost.state)
                if disk is None or not len(clusters):
                    continue
                for part in self._runs(clusters):
                    tx.step("filling from the backup", int(filled.sum()), len(values))
                    first = int(clusters[part.start])
                    place = tx.place(backup.read(disk, first, part.stop - part.start))
                    count = part.stop - part.start
                    size = self._geometry.cluster_size
                    values[which[part]] = np.uint64(place) + np.arange(
                        0, count * size, size, dtype=np.uint64
                    )
                    filled[which[part]] = True
        if not filled.all():
            raise EditRefused(
                f"The backup '{safe(option.key)}' does not have the snapshots that "
                f"{int((~filled).sum())} of the lost clusters belong to."
            )
        bitmaps = entries.bitmaps
        if bitmaps is not None:
            bitmaps = np.where((entries.values & _PACKED) != 0, _ALL_DATA, bitmaps)
        tx.change_entries(EntryChange(entries.tables, entries.numbers, values, bitmaps))

    def _option(self, key: str, shown: str, evidence: tuple[str, ...]) -> Option:
        total = sum(r.length for r in self._ranges if r.state == "active")
        return Option(
            key=key,
            title=f"Fill what was cut off from {shown}",
            keeps="Everything that is still there.",
            loses="",
            writes=f"{readable_size(total)} of guest data, and the tables that map it.",
            certain=False,
            changes=self._ranges,
            evidence=evidence,
        )

    def _lost(self) -> Iterator[_Lost]:
        """The lost guest clusters, state by state, the active one first."""
        assert self._entries is not None
        tables, numbers = self._entries.tables, self._entries.numbers
        per_table = self._geometry.l2_entries
        for state, l1 in l1_tables(self._image):
            offsets = (l1 & OFFSETS).astype(np.int64)
            order = np.argsort(offsets, kind="stable")
            place = np.minimum(np.searchsorted(offsets[order], tables), max(len(order) - 1, 0))
            index = order[place] if len(order) else np.zeros(len(tables), dtype=np.int64)
            mine = np.flatnonzero(offsets[index] == tables) if len(order) else np.zeros(0, np.int64)
            clusters = index[mine] * per_table + numbers[mine]
            ascending = np.argsort(clusters, kind="stable")
            yield _Lost(state, clusters[ascending], mine[ascending])

    def _runs(self, clusters: I64) -> Iterator[slice]:
        """Stretches of adjacent clusters, of a bounded length."""
        most = max(1, _RUN >> self._geometry.cluster_bits)
        breaks = (np.flatnonzero(np.diff(clusters) != 1) + 1).tolist()
        for first, stop in zip([0, *breaks], [*breaks, len(clusters)], strict=True):
            for at in range(first, stop, most):
                yield slice(at, min(stop, at + most))

    def _agreement(self, path: str) -> tuple[str, ...]:
        """How much of what is still there is the same in the backup."""
        same = seen = 0
        with _Backup(path, self._image) as backup:
            disk = backup.disk("active")
            if disk is None:
                return ()
            bits = self._geometry.cluster_bits
            total = self._geometry.clusters(self._image.virtual_size)
            for cluster in np.linspace(0, max(total - 1, 0), _COMPARED, dtype=np.int64).tolist():
                start = cluster << bits
                length = min(1 << bits, self._image.virtual_size - start)
                try:
                    here = self._image.active.read(start, length)
                except QcowError:
                    continue
                if here.count(0) == len(here):
                    continue
                seen += 1
                same += here == backup.read(disk, cluster, 1)[:length]
        return (f"Of {seen} clusters that were compared, {same} are the same in the backup.",)


def _outside(entries: U64, geometry: Geometry, size: int) -> NDArray[np.bool_]:
    """Which entries (any shape) name bytes that the file does not have, even in part."""
    packed = (entries & _PACKED) != 0
    offsets = entries & OFFSETS
    end = np.uint64(max(0, size - geometry.cluster_size))
    aligned = (offsets & np.uint64(geometry.cluster_size - 1)) == 0
    wrong: NDArray[np.bool_] = ~packed & (offsets != 0) & (offsets > end) & aligned
    if packed.any():
        start, _ = compressed_fields(entries.reshape(-1), geometry)
        wrong |= packed & (start >= size).reshape(entries.shape)
    return wrong


class _Backup(ExitStack):
    """A backup of the image's disk, open for reading.

    Raises EditRefused when it is shorter than the disk, StorageError, FormatError.
    """

    def __init__(self, path: str, image: Image) -> None:
        super().__init__()
        self._image = image
        opened = open_image(path)
        self.callback(opened.close)
        self._opened = opened
        self._active: Disk = opened.active if not isinstance(opened, Image) else self._chained()
        size = self._active.virtual_size
        if size < image.virtual_size:
            self.close()
            raise EditRefused(
                f"The backup '{safe(path)}' has {size} bytes of disk, the "
                f"image has {image.virtual_size}."
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

    def read(self, disk: Disk, first: int, clusters: int) -> bytes:
        """The content of guest clusters, zeros behind the disk's end."""
        bits = self._image.header.cluster_bits
        start, length = first << bits, clusters << bits
        try:
            data = disk.read(start, max(0, min(length, disk.virtual_size - start)))
        except GuestDataError as error:
            raise EditRefused(f"The backup cannot be read where it is needed: {error}") from error
        return data.ljust(length, b"\0")
