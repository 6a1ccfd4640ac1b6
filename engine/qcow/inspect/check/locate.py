"""From runs of table entries to ranges of guest disks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ...findings import GuestRange, Range
from ...image.image import Image
from ...layout.distinct import distinct
from ...layout.geometry import Geometry
from ...layout.tables import OFFSETS
from ...text import safe
from .collect import EntryRuns, Group, contained
from .l1 import ACTIVE
from .presence import DataMap
from .regions import TableRegion, read_words, segments

#: Ranges listed in one finding.
MAX_RANGES = 1000
#: L1 entries remembered for the tables that findings name.
_MAX_USERS = 20_000
#: States whose L1 tables are searched.
_MAX_STATES = 512

#: Table offset -> (state number, L1 index) of those that use it.
Users = dict[int, list[tuple[int, int]]]


def users_of_tables(
    image: Image,
    groups: Iterable[Group],
    regions: Sequence[TableRegion],
    data: DataMap,
    cancelled: Callable[[], None],
) -> Users:
    """Which L1 entries of which states refer to the L2 tables that the groups name."""
    named = [runs.table for group in groups for runs in group.entries]
    if not named:
        return {}
    wanted = distinct(np.concatenate(named))
    users: Users = {}
    found = 0
    size = image.storage.size()
    left = data.budget  # thousands of tables may lie over each other
    for region in sorted(regions, key=lambda region: region.owner)[:_MAX_STATES]:
        cancelled()
        left -= region.entries * 8
        if left < 0:
            break
        for words in read_words(image.storage, segments([region], size), data, _ignore):
            offsets = (words.values & OFFSETS).astype(np.int64)
            for at in np.flatnonzero(contained(offsets, wanted)).tolist():
                users.setdefault(int(offsets[at]), []).append((region.owner, int(words.number[at])))
                found += 1
                if found >= _MAX_USERS:
                    return users
    return users


def guest_ranges(
    image: Image, geometry: Geometry, group: Group, users: Users
) -> tuple[tuple[GuestRange, ...], bool]:
    """(the guest ranges of a group by state, coalesced; whether some are left out)."""
    runs: list[tuple[int, int, int]] = list(group.guests)
    for entries in group.entries:
        runs += _guest_runs(entries, users, geometry.l2_entries)
    joined: list[tuple[int, int, int]] = []
    for state, first, count in sorted(runs):
        if joined and joined[-1][0] == state and first <= joined[-1][1] + joined[-1][2]:
            _, start, length = joined[-1]
            joined[-1] = (state, start, max(length, first + count - start))
        else:
            joined.append((state, first, count))
    found = tuple(_range(image, geometry, *run) for run in joined[:MAX_RANGES])
    return found, len(joined) > MAX_RANGES


def host_ranges(geometry: Geometry, group: Group) -> tuple[tuple[Range, ...], bool]:
    """(the host ranges of a group in bytes, coalesced; whether some are left out).

    Where no cluster is at fault they are those of the table entries, 8 or 16 bytes each.
    """
    bits = geometry.cluster_bits
    size = geometry.l2_entry_size
    found: list[tuple[int, int]] = list(group.places)
    for first, count in group.hosts:
        found += zip((first << bits).tolist(), (count << bits).tolist(), strict=True)
    if not group.hosts:
        for table, number, count in group.entries:
            found += zip((table + number * size).tolist(), (count * size).tolist(), strict=True)
    joined: list[tuple[int, int]] = []
    for start, length in sorted(found):
        if joined and start <= sum(joined[-1]):
            begin, before = joined[-1]
            joined[-1] = (begin, max(before, start + length - begin))
        else:
            joined.append((start, length))
    return tuple(Range(*run) for run in joined[:MAX_RANGES]), len(joined) > MAX_RANGES


def _guest_runs(entries: EntryRuns, users: Users, per_table: int) -> list[tuple[int, int, int]]:
    found = []
    for table, first, count in zip(*(column.tolist() for column in entries), strict=True):
        for state, index in users.get(table, ()):
            found.append((state, index * per_table + first, count))
    return found


def _range(image: Image, geometry: Geometry, state: int, first: int, count: int) -> GuestRange:
    start, length = first << geometry.cluster_bits, count << geometry.cluster_bits
    if state == ACTIVE:
        label, size = "active", image.virtual_size
    else:
        snapshot = image.snapshots[state - 1]
        label = f"snapshot:{safe(snapshot.id, 40)}"
        size = image.virtual_size if snapshot.disk_size is None else snapshot.disk_size
    # The last cluster of a disk may be a partial one; behind the disk lies the VM state.
    if start < size < start + length < size + geometry.cluster_size:
        length = size - start
    return GuestRange(start, length, label)


def _ignore(offset: int, length: int) -> None:
    """What cannot be read was reported by the first reading."""
