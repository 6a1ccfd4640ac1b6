"""Clusters with two owners: guest data over a table, or two guest clusters in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...edit.repairing import EntryChange
from ...findings import Finding, GuestRange, Range
from ...image.tables import l2_tables
from ...inspect.check import kinds as K
from ...inspect.triage import LeakClass
from ...inspect.triage.leaks import find_leaks
from ...jobs import CancelToken
from ...layout.constants import OFLAG_COMPRESSED
from ...layout.distinct import distinct_counts
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64
from ...text import safe
from .diagnosis import Case
from .giving_up import given_up, options_for
from .remedy import Option, Remedy
from .scan import Entries, Found, guest_ranges, l1_tables, windows
from .structures import Structure, structures_of

if TYPE_CHECKING:
    from ...edit.repairing import Repair

_COMPRESSED = np.uint64(OFLAG_COMPRESSED)
#: Entries that get a remedy each; those behind them are treated together.
_SINGLE = 32
#: Leaked clusters offered as the displaced original.
_MOST_CANDIDATES = 6
#: Entries compared for sharing at most: more is no overlap but counts that are lost.
_MOST_ENTRIES = 1 << 22
_DISPLACED = (LeakClass.UNKNOWN, LeakClass.HOLE_DATA, LeakClass.GARBAGE, LeakClass.COMPRESSED)


class _Candidate(NamedTuple):
    """A leaked cluster that may be the displaced original."""

    cluster: int
    certain: bool
    evidence: tuple[str, ...]


class Overlap(Remedy):
    """One L2 entry (of every state that uses its table) that shares its cluster."""

    order = 30

    def __init__(
        self,
        id_: str,
        finding: Finding,
        entry: Entries,
        options: list[Option],
        default: str | None,
        cluster_size: int,
    ) -> None:
        self.id = id_
        self.finding = finding
        self.options = tuple(options)
        self.default = default
        self._entry = entry
        self._size = cluster_size

    def apply(self, tx: Repair, option: Option) -> None:
        entry = self._entry
        values, bitmaps = entry.values, entry.bitmaps
        offset = int(values[0] & OFFSETS)
        if option.key.startswith("cluster-"):
            values = _at(values, int(option.key.removeprefix("cluster-")) * self._size)
        elif option.key == "apart":
            values = _at(values, tx.place(tx.image.storage.read(offset, self._size)))
        else:
            values, bitmaps = given_up(tx, entry, option.key)
        tx.change_entries(EntryChange(entry.tables, entry.numbers, values, bitmaps))


class Overlaps(Remedy):
    """More entries than a person can look at one by one."""

    id = "overlap-others"
    order = 31

    def __init__(self, finding: Finding, entries: Entries, options: tuple[Option, ...]) -> None:
        self.finding = finding
        self.options = options
        self._entries = entries

    def apply(self, tx: Repair, option: Option) -> None:
        found = self._entries
        values, bitmaps = given_up(tx, found, option.key)
        tx.change_entries(EntryChange(found.tables, found.numbers, values, bitmaps))


def find_overlaps(case: Case, cancel: CancelToken | None) -> list[Remedy]:
    """Remedies for guest data that lies on a table, or where other guest data lies."""
    kinds = {finding.kind for finding in case.checked.findings}
    if case.image.geometry is None or not kinds & {K.OVERLAP, K.REFCOUNT_LOW, K.REFBLOCK_SHARED}:
        return []
    if case.image.unusable is not None or case.image.header.has_data_file:
        return []
    return _Search(case, case.image.geometry, cancel).remedies()


class _Search:
    def __init__(self, case: Case, geometry: Geometry, cancel: CancelToken | None) -> None:
        self._case = case
        self._image = case.image
        self._geometry = geometry
        self._cancel = cancel
        self._tables = l1_tables(case.image)

    def remedies(self) -> list[Remedy]:
        structures = list(structures_of(self._image, self._geometry, self._tables))
        meta = np.unique(np.concatenate([structure.clusters for structure in structures]))
        # What lies where other metadata does is no table that could be read.
        others = [s.clusters for s in structures if not s.name.startswith("an L2 table")]
        no_table = np.unique(np.concatenate(others))
        crowded = find_leaks(self._image, None, self._cancel).crowded
        on_meta, shared = Found(), Found()
        seen = 0
        for window in windows(self._image, self._geometry, self._cancel):
            hosts = (window.entries & OFFSETS) >> np.uint64(self._geometry.cluster_bits)
            clusters = hosts.astype(np.int64)
            plain = ((window.entries & _COMPRESSED) == 0) & (clusters != 0)
            plain &= ~np.isin(window.offsets >> self._geometry.cluster_bits, no_table)[:, None]
            over = plain & np.isin(clusters, meta)
            if over.any():
                on_meta.add(window, over)
            both = plain & ~over
            if len(crowded) and seen < _MOST_ENTRIES:
                both[both] = crowded.holds(clusters[both])
                seen += int(np.count_nonzero(both))
                if both.any():
                    shared.add(window, both)
        made: list[Remedy] = []
        wronged = on_meta.entries()
        if wronged is not None:
            made += self._on_metadata(wronged, structures)
        found = shared.entries()
        if found is not None and seen < _MOST_ENTRIES:
            made += self._on_data(found)
        return made

    # ---- data over metadata

    def _on_metadata(self, entries: Entries, structures: list[Structure]) -> list[Remedy]:
        made: list[Remedy] = []
        number = len(entries.tables)
        for at in range(min(number, _SINGLE)):
            entry = _only(entries, at)
            cluster = self._cluster(entry)
            owner = next(
                (s.name for s in structures if bool((s.clusters == cluster).any())), "metadata"
            )
            candidates = self._candidates(entry, alone=number == 1)
            options = [self._repoint(entry, candidate) for candidate in candidates]
            options += self._give_up(entry)
            default = _certain(candidates)
            finding = self._finding(entry, cluster, owner)
            made.append(
                Overlap(
                    self._id(entry), finding, entry, options, default, self._geometry.cluster_size
                )
            )
        if number > _SINGLE:
            rest = entries.take(np.arange(number) >= _SINGLE)
            finding = Finding(
                K.OVERLAP,
                f"{number - _SINGLE} more clusters of guest data lie where tables lie.",
                number - _SINGLE,
                "L2 table",
                guest_ranges=guest_ranges(self._image, self._geometry, rest)[:1000],
            )
            made.append(Overlaps(finding, rest, self._give_up(rest)))
        return made

    def _cluster(self, entry: Entries) -> int:
        return int(entry.values[0] & OFFSETS) >> self._geometry.cluster_bits

    def _id(self, entry: Entries) -> str:
        return f"overlap-{int(entry.tables[0]):x}-{int(entry.numbers[0])}"

    def _finding(self, entry: Entries, cluster: int, owner: str) -> Finding:
        ranges = guest_ranges(self._image, self._geometry, entry)
        where = _named(ranges[0]) if ranges else "guest data"
        size = self._geometry.cluster_size
        return Finding(
            K.OVERLAP,
            f"The cluster at {cluster * size:#x} has two owners: {owner} and {where}.",
            1,
            "L2 table",
            (Range(cluster * size, size),),
            ranges,
        )

    # ---- candidates for the displaced original

    def _candidates(self, entry: Entries, *, alone: bool) -> list[_Candidate]:
        """Leaked clusters that may hold what the entry should name, the likeliest first."""
        leaked = self._case.triage.of(*_DISPLACED)
        if not len(leaked):
            return []
        before, behind = self._neighbours(entry)
        scored: list[tuple[int, _Candidate]] = []
        only = alone and len(leaked) == 1
        near = [c for c in (before + 1, behind - 1) if c > 0]
        listed = [*dict.fromkeys(c for c in near if bool((leaked == c).any()))]
        for cluster in leaked[: 2 * _MOST_CANDIDATES].tolist():
            if cluster not in listed:
                listed.append(cluster)
        for cluster in listed[:_MOST_CANDIDATES]:
            notes = []
            joined = 0
            if before >= 0 and cluster == before + 1:
                joined += 1
                notes.append("It lies behind the cluster of the guest data before it.")
            if behind >= 0 and cluster == behind - 1:
                joined += 1
                notes.append("It lies before the cluster of the guest data behind it.")
            if only:
                notes.append("It is the only leaked cluster that could be the original.")
            certain = joined == 2 or only
            scored.append((joined, _Candidate(cluster, certain, tuple(notes))))
        scored.sort(key=lambda pair: -pair[0])
        return [candidate for _, candidate in scored]

    def _neighbours(self, entry: Entries) -> tuple[int, int]:
        """Host clusters of the entries before and behind in the table, -1 for none."""
        (table,) = l2_tables(self._image.storage, self._geometry, entry.tables[:1])
        number = int(entry.numbers[0])
        row = table.entries[0]
        found = []
        for at in (number - 1, number + 1):
            value = row[at] if 0 <= at < len(row) else np.uint64(0)
            plain = not value & _COMPRESSED and value & OFFSETS
            found.append(int(value & OFFSETS) >> self._geometry.cluster_bits if plain else -1)
        return found[0], found[1]

    # ---- two guest clusters in one place

    def _on_data(self, entries: Entries) -> list[Remedy]:
        """Entries of one state that map different guest clusters to one host cluster."""
        twice = self._twice(entries)
        made: list[Remedy] = []
        clusters = ((entries.values & OFFSETS) >> np.uint64(self._geometry.cluster_bits)).astype(
            np.int64
        )
        for cluster in twice[:_SINGLE].tolist():
            rows = np.flatnonzero(clusters == cluster)
            first = _only(entries, int(rows[0]))
            for row in rows[1:].tolist():
                entry = _only(entries, row)
                made.append(self._shared_data(first, entry, cluster))
        return made

    def _twice(self, entries: Entries) -> I64:
        """Host clusters that a single state maps from several guest clusters (int64)."""
        bits = np.uint64(self._geometry.cluster_bits)
        clusters = ((entries.values & OFFSETS) >> bits).astype(np.int64)
        found: list[I64] = []
        for _, l1, _ in self._tables:
            offsets = (l1 & OFFSETS).astype(np.int64)
            used, times = distinct_counts(offsets[offsets != 0])
            place = np.searchsorted(used, entries.tables)
            place[place == len(used)] = 0
            if not len(used):
                continue
            here = used[place] == entries.tables
            hosts, often = distinct_counts(clusters[here & (times[place] == 1)])
            found.append(hosts[often > 1])
        return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)

    def _shared_data(self, first: Entries, entry: Entries, cluster: int) -> Remedy:
        image, geometry = self._image, self._geometry
        ranges = guest_ranges(image, geometry, entry)
        other = guest_ranges(image, geometry, first)
        size = geometry.cluster_size
        finding = Finding(
            K.OVERLAP,
            f"The cluster at {cluster * size:#x} has two owners: "
            f"{_named(other[0]) if other else 'guest data'} and "
            f"{_named(ranges[0]) if ranges else 'guest data'}.",
            1,
            "L2 table",
            (Range(cluster * size, size),),
            (*other, *ranges),
        )
        candidates = self._candidates(entry, alone=False)
        options = [self._repoint(entry, candidate) for candidate in candidates]
        default = _certain(candidates)
        if not image.encrypted:  # ciphertext depends on its place
            apart = Option(
                "apart",
                "Give the second owner a copy of its own",
                "What both owners read now.",
                "",
                "The copy, and the table anew.",
                moves=True,
            )
            options.append(apart)
            default = default or "apart"
        options += self._give_up(entry)
        return Overlap(self._id(entry), finding, entry, options, default, size)

    # ---- options

    def _repoint(self, entry: Entries, candidate: _Candidate) -> Option:
        offset = candidate.cluster * self._geometry.cluster_size
        return Option(
            f"cluster-{candidate.cluster}",
            f"Point the guest at the leaked cluster {candidate.cluster} (at {offset:#x}), which "
            "may be the displaced original",
            "Everything else; the guest data, if it is the original.",
            "",
            "The table that holds the entry, anew.",
            certain=candidate.certain,
            changes=guest_ranges(self._image, self._geometry, entry),
            evidence=candidate.evidence,
        )

    def _give_up(self, entries: Entries) -> tuple[Option, ...]:
        return options_for(
            self._image,
            guest_ranges(self._image, self._geometry, entries),
            "The guest data of the range, if it can be found.",
            "The table that holds the entry, anew.",
        )


def _named(where: GuestRange) -> str:
    state = "" if where.state == "active" else f" of {safe(where.state)}"
    return f"the guest data from {where.start:#x} to {where.start + where.length:#x}{state}"


def _only(entries: Entries, at: int) -> Entries:
    return entries.take(np.arange(len(entries.tables)) == at)


def _at(values: U64, offset: int) -> U64:
    return (values & ~OFFSETS) | np.uint64(offset)


def _certain(candidates: list[_Candidate]) -> str | None:
    sure = [candidate for candidate in candidates if candidate.certain]
    return f"cluster-{sure[0].cluster}" if len(sure) == 1 else None
