"""Looking for damaged entries of L1 and L2 tables, with the places they map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import GuestDataError
from ...findings import GuestRange
from ...image.image import Image
from ...image.tables import L2Tables, l2_tables, read_l1
from ...jobs import CancelToken
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64
from ...text import safe


class L1Table(NamedTuple):
    """``entries``: uint64, as on disk.  ``state``: "active" or "snapshot:ID".  ``snapshot``: its
    index, None for the active state."""

    state: str
    entries: U64
    snapshot: int | None


def state_key(snapshot: int | None) -> str:
    """How a user names the state of an L1 table in a choice: ``active``, ``snapshot-0``."""
    return "active" if snapshot is None else f"snapshot-{snapshot}"


def l1_name(state: str) -> str:
    """How a sentence names the L1 table of a state ("active" or "snapshot:ID")."""
    return "the active L1 table" if state == "active" else f"the L1 table of {safe(state)}"


class Entries(NamedTuple):
    """Some L2 entries.  int64[n] ``tables``: host offsets; int64[n] ``numbers``: indices within
    the table; uint64[n] ``values``; uint64[n] ``bitmaps`` of extended L2, else None."""

    tables: I64
    numbers: I64
    values: U64
    bitmaps: U64 | None

    def take(self, which: NDArray[np.bool_]) -> Entries:
        """Those for which ``which`` (bool[n]) is true."""
        bitmaps = None if self.bitmaps is None else self.bitmaps[which]
        return Entries(self.tables[which], self.numbers[which], self.values[which], bitmaps)


@dataclass
class Found:
    """Gathers entries of one kind, window by window."""

    parts: list[Entries] = field(default_factory=list)

    def add(self, window: L2Tables, wrong: NDArray[np.bool_]) -> None:
        """Those of a window for which ``wrong`` (bool[k, n]) is true."""
        rows, columns = np.nonzero(wrong)
        if len(rows):
            bitmaps = None if window.bitmaps is None else window.bitmaps[rows, columns]
            values = window.entries[rows, columns]
            self.parts.append(Entries(window.offsets[rows], columns, values, bitmaps))

    def entries(self) -> Entries | None:
        """All of them, or None when there are none."""
        if not self.parts:
            return None
        bitmaps = [part.bitmaps for part in self.parts if part.bitmaps is not None]
        return Entries(
            np.concatenate([part.tables for part in self.parts]),
            np.concatenate([part.numbers for part in self.parts]),
            np.concatenate([part.values for part in self.parts]),
            np.concatenate(bitmaps) if bitmaps else None,
        )


def l1_tables(image: Image) -> tuple[L1Table, ...]:
    """Those of the active state and of every snapshot whose table can be read."""
    header = image.header
    active = read_l1(image.storage, header.l1_table_offset, header.l1_size)
    found = [L1Table("active", active, None)]
    for snapshot in image.snapshots:
        try:
            state = image.snapshot_state(snapshot)
        except GuestDataError:
            continue
        found.append(L1Table(state.label, state.l1(), snapshot.index))
    return tuple(found)


def readable_tables(tables: Iterable[L1Table], geometry: Geometry, size: int) -> I64:
    """Host offsets of the L2 tables that can be read whole (int64, ascending, no repeats)."""
    every = np.concatenate([table.entries & OFFSETS for table in tables])
    aligned = (every & np.uint64(geometry.cluster_size - 1)) == 0
    inside = every + np.uint64(geometry.cluster_size) <= np.uint64(size)
    return np.unique(every[(every != 0) & aligned & inside]).astype(np.int64)


def windows(image: Image, geometry: Geometry, cancel: CancelToken | None) -> Iterator[L2Tables]:
    """Every L2 table of every state that can be read, once, in bounded windows."""
    offsets = readable_tables(l1_tables(image), geometry, image.storage.size())
    for window in l2_tables(image.storage, geometry, offsets):
        if cancel is not None:
            cancel.check()
        yield window


def guest_ranges(image: Image, geometry: Geometry, entries: Entries) -> tuple[GuestRange, ...]:
    """The guest ranges that the entries map, in every state, neighbours joined.

    What lies behind the end of a disk is left out, unless it is the VM state of a snapshot.
    """
    bits = geometry.cluster_bits
    found: list[GuestRange] = []
    order = np.lexsort((entries.numbers, entries.tables))
    tables, numbers = entries.tables[order], entries.numbers[order]
    for state, l1, _ in l1_tables(image):
        size = _end(image, state)
        offsets = (l1 & OFFSETS).astype(np.int64)
        for index in np.flatnonzero(np.isin(offsets, tables)).tolist():
            first = np.searchsorted(tables, offsets[index], side="left")
            last = np.searchsorted(tables, offsets[index], side="right")
            clusters = numbers[first:last] + index * geometry.l2_entries
            breaks = np.flatnonzero(np.diff(clusters) != 1) + 1
            for run in np.split(clusters, breaks):
                start = int(run[0]) << bits
                end = min((int(run[-1]) + 1) << bits, size)
                if start < end:
                    found.append(GuestRange(start, end - start, state))
    return tuple(found)


def _end(image: Image, state: str) -> int:
    for snapshot in image.snapshots:
        if snapshot.label == state and snapshot.vm_state_size:
            return 1 << 63
    return disk_size(image, state)


def disk_size(image: Image, state: str) -> int:
    """Bytes of the disk in a state, by its label."""
    for snapshot in image.snapshots:
        if snapshot.label == state and snapshot.disk_size is not None:
            return snapshot.disk_size
    return image.virtual_size
