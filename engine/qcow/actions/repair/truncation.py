"""An image that was cut off: the lost guest ranges, filled again from what the user names.

Mapping them as zeros is a choice of :mod:`.entries`.  With ``fill=FILE`` the guest data of the lost
clusters is read from a backup (raw, or qcow2 with its snapshots) and written to new clusters, with
``fill=snapshot:NAME`` from the same ranges of a snapshot; with ``fill=base`` the guest reads the
backing file there.
What a source lacks stays lost: it is then mapped as zeros, if that is chosen as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...edit.repairing import EntryChange
from ...errors import EditRefused, QcowError
from ...findings import Finding
from ...inspect.check import kinds as K
from ...jobs import CancelToken
from ...layout.constants import OFLAG_COMPRESSED
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64, compressed_fields
from ...record import replace
from ...text import safe
from ...text import size as size_of
from .diagnosis import Case
from .fill_sources import SNAPSHOT, Source, open_source
from .giving_up import BACKING, ZERO, backing_option, unmapped
from .remedy import LEAVE, Option, Remedy
from .scan import Found, guest_ranges, l1_tables, windows

if TYPE_CHECKING:
    from ...edit.repairing import Repair

_KINDS = (K.DATA_OUTSIDE, K.COMPRESSED_OUTSIDE)
_PACKED = np.uint64(OFLAG_COMPRESSED)
_ALL_DATA = np.uint64(0xFFFFFFFF)
#: Bytes that are read from the backup and placed at a time.
_RUN = 4 << 20
#: How the backing file is chosen as the source, and how many snapshots are listed as such.
_BASE, _SHOWN = "base", 16
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
        # What else is chosen for what no source has.
        self._rest = {case.answers.get(id_) for id_ in self.instead_of} & {ZERO, BACKING}
        self.options = (
            self._option("FILE", "a backup FILE of this disk, raw or qcow2", ()),
            *(self._earlier(snapshot.name) for snapshot in case.image.snapshots[:_SHOWN]),
            *(() if case.image.backing is None else (self._base(),)),
        )

    @property
    def is_needed(self) -> bool:
        """Whether tables that can be read name anything beyond the end of the file."""
        return self._entries is not None

    def chosen(self, choices: Mapping[str, str]) -> Option | None:
        key = choices.get(self.id)
        if key is None or key == LEAVE or self._entries is None:
            return None
        if key == _BASE:
            if self._image.backing is None:
                raise EditRefused("The image has no backing file to fill from.")
            return self._base()
        if key.startswith(SNAPSHOT):
            return self._earlier(os.fsencode(key.removeprefix(SNAPSHOT)), self._agreement(key))
        return self._option(key, f"'{safe(key)}'", self._agreement(key))

    def apply(self, tx: Repair, option: Option) -> None:
        """Raises EditRefused when the source does not have all that is lost, and nothing else was
        chosen for the rest."""
        assert self._entries is not None
        entries = self._entries
        values = entries.values.copy()
        bitmaps = entries.bitmaps
        if option.key == _BASE:
            tx.change_entries(EntryChange(entries.tables, entries.numbers, *unmapped(entries)))
            return
        with open_source(option.key, self._image) as source:
            filled = self._fill(tx, source, values)
        if not filled.all() and not self._rest:
            raise EditRefused(
                f"'{safe(option.key)}' does not have {int((~filled).sum())} of the lost clusters, "
                "those of other snapshots or lost there as well. Choose what becomes of these, too "
                f"(--choice {self.instead_of[0]}=zero)."
            )
        if bitmaps is not None:
            bitmaps = np.where((entries.values & _PACKED) != 0, _ALL_DATA, bitmaps)[filled]
        tx.change_entries(
            EntryChange(entries.tables[filled], entries.numbers[filled], values[filled], bitmaps)
        )

    def _fill(self, tx: Repair, source: Source, values: U64) -> NDArray[np.bool_]:
        """Place what ``source`` has, and let ``values`` (uint64[n]) name it; which it has."""
        filled = np.zeros(len(values), dtype=np.bool_)
        every = list(self._lost())
        own = next((lost.clusters for lost in every if lost.state == source.state), None)
        for lost in every:
            todo = ~filled[lost.which]
            if own is not None:
                todo &= ~np.isin(lost.clusters, own)
            clusters, which = lost.clusters[todo], lost.which[todo]
            disk = source.disk(lost.state)
            if disk is None or not len(clusters):
                continue
            for part in self._runs(clusters):
                tx.step("filling from the source", int(filled.sum()), len(values))
                first = int(clusters[part.start])
                count = part.stop - part.start
                place = tx.place(source.read(disk, first, count))
                size = self._geometry.cluster_size
                values[which[part]] = np.uint64(place) + np.arange(
                    0, count * size, size, dtype=np.uint64
                )
                filled[which[part]] = True
        return filled

    def _earlier(self, name: bytes, evidence: tuple[str, ...] = ()) -> Option:
        shown = safe(name)
        option = self._option(
            f"{SNAPSHOT}{os.fsdecode(name)}", f"the same ranges of snapshot '{shown}'", evidence
        )
        return replace(option, loses="What the guest wrote there since that snapshot.")

    def _base(self) -> Option:
        return backing_option(
            self._ranges,
            "The guest data of these clusters, as far as it differed from the backing file.",
            "The tables that map it.",
            key=_BASE,
            keeps="Everything that is still there.",
        )

    def _option(self, key: str, shown: str, evidence: tuple[str, ...]) -> Option:
        total = sum(r.length for r in self._ranges if r.state == "active")
        return Option(
            key=key,
            title=f"Fill what was cut off from {shown}",
            keeps="Everything that is still there.",
            loses="",
            writes=f"{size_of(total)} of guest data, and the tables that map it.",
            certain=False,
            changes=self._ranges,
            evidence=evidence,
        )

    def _lost(self) -> Iterator[_Lost]:
        """The lost guest clusters, state by state, the active one first."""
        assert self._entries is not None
        tables, numbers = self._entries.tables, self._entries.numbers
        per_table = self._geometry.l2_entries
        for state, l1, _ in l1_tables(self._image):
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
        with open_source(path, self._image) as backup:
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
                try:
                    same += here == backup.read(disk, cluster, 1)[:length]
                except EditRefused:
                    continue
        return (f"Of {seen} clusters that were compared, {same} are the same there.",)


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
