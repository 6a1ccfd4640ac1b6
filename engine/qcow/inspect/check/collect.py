"""What goes wrong, gathered by root cause while the tables are walked."""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...findings import FindingKind
from ...layout.tables import I64

#: Runs of host clusters, and runs of table entries, kept for one cause.
MAX_RUNS = 4096
#: Technical details kept for one cause.
MAX_EXAMPLES = 10

#: (sort key, text): the lowest keys are kept, so that the examples do not depend on threads.
Example = tuple[int, str]


class EntryRuns(NamedTuple):
    """Runs of entries in L2 tables: int64 arrays of one length.

    ``table``: host offset of the L2 table.  ``first``: number of the first entry.  ``length``:
    entries.
    """

    table: I64
    first: I64
    length: I64

    @classmethod
    def of(cls, table: I64, number: I64) -> EntryRuns:
        """Entries one by one (host offset of the table, number in it) as runs.

        Those of one table lie side by side, ascending.
        """
        heads = np.flatnonzero(
            (np.diff(number, prepend=number[0] - 2) != 1) | (np.diff(table, prepend=table[0]) != 0)
        )
        return cls(table[heads], number[heads], np.diff(heads, append=len(number)))


class Group:
    """Everything found for one cause.

    ``count``: places.  ``hosts``: (first host cluster, clusters).  ``places``: (host offset,
    bytes) for what is smaller than a cluster.  ``entries``: where guest data is concerned.
    ``guests``: (state, first guest cluster, clusters) where that is known without a table.
    ``flags``: COPIED flags that disagree for this cause.
    """

    __slots__ = (
        "count",
        "entries",
        "entry_runs",
        "examples",
        "flags",
        "guests",
        "host_runs",
        "hosts",
        "notes",
        "places",
        "truncated",
    )

    def __init__(self) -> None:
        self.count = 0
        self.hosts: list[tuple[I64, I64]] = []
        self.host_runs = 0
        self.places: list[tuple[int, int]] = []
        self.entries: list[EntryRuns] = []
        self.entry_runs = 0
        self.guests: list[tuple[int, int, int]] = []
        self.examples: list[Example] = []
        self.notes: set[str] = set()
        self.flags = 0
        self.truncated = False


class Collector:
    """Groups by kind, and the counts that qemu-img reports.  Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.groups: dict[FindingKind, Group] = {}
        self.corruptions = 0
        self.leaks = 0
        self.check_errors = 0
        self.extra_corruptions = 0
        self.extra_leaks = 0

    def totals(
        self,
        *,
        corruptions: int = 0,
        leaks: int = 0,
        check_errors: int = 0,
        extra_corruptions: int = 0,
        extra_leaks: int = 0,
    ) -> None:
        """Raise the counts without naming a place."""
        with self._lock:
            self.corruptions += corruptions
            self.leaks += leaks
            self.check_errors += check_errors
            self.extra_corruptions += extra_corruptions
            self.extra_leaks += extra_leaks

    def add(
        self,
        kind: FindingKind,
        count: int = 1,
        *,
        hosts: tuple[I64, I64] | None = None,
        place: tuple[int, int] | None = None,
        entries: EntryRuns | None = None,
        guest: tuple[int, int, int] | None = None,
        examples: Iterable[Example] = (),
        note: str | None = None,
        flags: int = 0,
    ) -> None:
        """Note ``count`` places of one cause; see :class:`Group` for what can be told of them."""
        with self._lock:
            group = self.groups.get(kind)
            if group is None:
                group = self.groups[kind] = Group()
            group.count += count
            group.flags += flags
            if hosts is not None:
                self._add_hosts(group, hosts)
            if entries is not None:
                self._add_entries(group, entries)
            if place is not None:
                if len(group.places) < MAX_RUNS:
                    group.places.append(place)
                else:
                    group.truncated = True
            if guest is not None:
                if len(group.guests) < MAX_RUNS:
                    group.guests.append(guest)
                else:
                    group.truncated = True
            if note is not None:
                group.notes.add(note)
            for example in examples:
                if len(group.examples) < MAX_EXAMPLES or example < group.examples[-1]:
                    insort(group.examples, example)
                    del group.examples[MAX_EXAMPLES:]

    def wants(self, kind: FindingKind, key: int) -> bool:
        """Whether an example with that key would be kept as things stand."""
        with self._lock:
            group = self.groups.get(kind)
            if group is None or len(group.examples) < MAX_EXAMPLES:
                return True
            return key < group.examples[-1][0]

    @staticmethod
    def _add_hosts(group: Group, hosts: tuple[I64, I64]) -> None:
        first, count = hosts
        room = MAX_RUNS - group.host_runs
        group.truncated |= len(first) > room
        group.hosts.append((first[:room].copy(), count[:room].copy()))
        group.host_runs += min(room, len(first))

    @staticmethod
    def _add_entries(group: Group, entries: EntryRuns) -> None:
        room = MAX_RUNS - group.entry_runs
        group.truncated |= len(entries.table) > room
        group.entries.append(EntryRuns(*(part[:room].copy() for part in entries)))
        group.entry_runs += min(room, len(entries.table))


def runs_of(numbers: I64) -> tuple[I64, I64]:
    """(first, count) of the runs of consecutive numbers in ``numbers``, which ascends."""
    if not len(numbers):
        return numbers, numbers
    heads = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 2) != 1)
    return numbers[heads], np.diff(heads, append=len(numbers))


def contained(values: NDArray[Any], ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """For each of ``values``: whether it is in ``ordered``, which ascends (bool[n])."""
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[place] == values
    return found


def exceeding(offset: int, size: int) -> str:
    """qemu-img's words for a reference beyond the end of the file."""
    return (
        "ERROR: counting reference for region exceeding the end of the file by one cluster or "
        f"more: offset 0x{offset:x} size 0x{size:x}"
    )
