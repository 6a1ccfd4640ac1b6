"""Lost L1 tables: leaked, and naming leaked L2 tables, which go back into a state's empty entries.

So an L1 table comes back whose pointer was lost, in the header or in a snapshot's entry, while the
table that is in use instead maps nothing where the lost one does.  An entry in use is never
replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...edit.repairing import leaked_clusters
from ...findings import Finding, GuestRange, Range
from ...inspect.triage import kinds as T
from ...jobs import CancelToken
from ...layout.constants import OFLAG_COPIED
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64, decode_u64
from ...text import plural
from .diagnosis import Case
from .reattach import has_signs, l1_of
from .remedy import Option, Remedy
from .scan import L1Table, disk_size, l1_name, l1_tables, state_key

if TYPE_CHECKING:
    from ...edit.repairing import Repair

_COPIED = np.uint64(OFLAG_COPIED)
#: Tables that get a remedy each.
_SINGLE = 16


class _Gap(NamedTuple):
    """Empty entries of one state.  int64[n] ``places``: the indices that the lost table fills."""

    key: str
    name: str
    snapshot: int | None
    places: I64
    empty: bool  # the state's table maps nothing at all
    changes: tuple[GuestRange, ...]


class LostL1(Remedy):
    """One lost L1 table with the states whose empty entries it fills."""

    order = 22  # after lost L2 tables: what they filled stays

    def __init__(
        self, finding: Finding, entries: U64, clusters: I64, gaps: list[_Gap], default: str | None
    ) -> None:
        """``entries``: uint64, as in the lost table, 0 where nothing lost is named; int64
        ``clusters``: where that table lies."""
        self.id = f"lost-l1-{finding.host_ranges[0].start:x}"
        self.finding = finding
        self.default = default
        self.options = tuple(_option(gap, certain=gap.key == default) for gap in gaps)
        self.instead_of = tuple(
            f"lost-l2-{offset:x}" for offset in np.unique(entries & OFFSETS).tolist() if offset
        )
        self._entries = entries
        self._clusters = clusters
        self._gaps = {gap.key: gap for gap in gaps}

    def apply(self, tx: Repair, option: Option) -> None:
        gap = self._gaps[option.key]
        l1 = l1_of(tx, gap.snapshot)
        # Another choice may have filled some of them.
        places = gap.places[l1[gap.places] & OFFSETS == 0]
        l1[places] = self._entries[places] & OFFSETS
        # The table itself, of which a new one takes the place, is needed no more.
        kept = leaked_clusters(tx.image) if tx.kept is None else tx.kept
        tx.kept = np.setdiff1d(kept, self._clusters)


def find_lost_l1(case: Case, cancel: CancelToken | None) -> list[Remedy]:
    """A remedy for each leaked L1 table that a state's empty entries could have come from."""
    geometry = case.image.geometry
    if geometry is None or not has_signs(case):
        return []
    return [
        LostL1(
            _finding(lost, geometry),
            lost.entries,
            lost.clusters,
            lost.gaps,
            _default(case.lost_l1, at),
        )
        for at, lost in enumerate(case.lost_l1)
    ]


def all_come_back(case: Case) -> bool:
    """Whether every leaked L1 table goes back into its place without being asked."""
    found = case.lost_l1
    placed = {int(cluster) for lost in found for cluster in lost.clusters}
    size = case.triage.cluster_size
    return all(offset // size in placed for offset in case.triage.lost_l1) and all(
        _default(found, at) is not None for at in range(len(found))
    )


class LostTable(NamedTuple):
    """int64 ``clusters`` of a lost L1 table, its ``entries`` (uint64), and where they fit."""

    clusters: I64
    entries: U64
    gaps: list[_Gap]


def search(case: Case) -> list[LostTable]:
    """The lost L1 tables of an image with a usable geometry (see :attr:`.Case.lost_l1`)."""
    geometry = case.image.geometry
    assert geometry is not None, "who asks has made sure of it"
    tables = l1_tables(case.image)
    named = np.concatenate([table.entries & OFFSETS for table in tables])
    in_use = np.unique(named >> np.uint64(geometry.cluster_bits)).astype(np.int64)
    most = max(len(table.entries) for table in tables)
    found: list[LostTable] = []
    reached = 0
    for offset in sorted(case.triage.lost_l1):
        if offset < reached or len(found) == _SINGLE:
            continue
        clusters, raw = _read(case, geometry, offset, most)
        reached = (int(clusters[-1]) + 1) << geometry.cluster_bits
        entries = _tables_only(case, geometry, raw, in_use)
        gaps = [
            gap for table in tables if (gap := _gap(case, geometry, table, entries)) is not None
        ]
        if gaps:
            found.append(LostTable(clusters, entries, gaps))
    return found


def _read(case: Case, geometry: Geometry, offset: int, most: int) -> tuple[I64, U64]:
    """Up to ``most`` entries of the table at ``offset``, as far as it lies in leaked clusters."""
    first = offset >> geometry.cluster_bits
    wanted = np.arange(first, first + max(1, -(-most * 8 // geometry.cluster_size)))
    leaked = np.isin(wanted, case.triage.leaked)
    clusters = wanted if leaked.all() else wanted[: max(1, int(np.argmin(leaked)))]
    data = case.image.storage.read(offset, min(most * 8, len(clusters) * geometry.cluster_size))
    return clusters, decode_u64(data[: len(data) // 8 * 8]).astype(np.uint64)


def _tables_only(case: Case, geometry: Geometry, raw: U64, in_use: I64) -> U64:
    """``raw`` with 0 for what names neither a leaked cluster nor a table that a state uses."""
    offsets = raw & OFFSETS
    aligned = (offsets & np.uint64(geometry.cluster_size - 1)) == 0
    clusters = (offsets >> np.uint64(geometry.cluster_bits)).astype(np.int64)
    there = np.isin(clusters, case.triage.leaked) | np.isin(clusters, in_use)
    return np.where((offsets != 0) & aligned & there, raw, np.uint64(0))


def _gap(case: Case, geometry: Geometry, table: L1Table, entries: U64) -> _Gap | None:
    """The entries of a state that are empty where ``entries`` are not; None when there are none."""
    size = disk_size(case.image, table.state)
    length = min(len(table.entries), len(entries), geometry.l1_entries(size))
    used = table.entries & OFFSETS
    places = np.flatnonzero((used[:length] == 0) & (entries[:length] != 0))
    if not len(places):
        return None
    span = geometry.l2_span
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    changes = tuple(
        GuestRange(
            int(run[0]) * span,
            min((int(run[-1]) + 1) * span, size) - int(run[0]) * span,
            table.state,
        )
        for run in np.split(places, breaks)
    )
    key, name = state_key(table.snapshot), l1_name(table.state)
    return _Gap(key, name, table.snapshot, places, not used.any(), changes)


def _default(found: list[LostTable], at: int) -> str | None:
    """The active state, when it maps nothing at all and this is the one table that was its own.

    COPIED is set in the table of the active state.  Where a snapshot maps nothing either, the disk
    may well be as empty as that, and the table that of a snapshot whose deletion was cut short.
    """
    gaps = found[at].gaps
    empty = [gap.snapshot for gap in gaps if gap.empty]
    mine = [bool((lost.entries & _COPIED).any()) for lost in found]
    return "active" if empty == [None] and mine[at] and sum(mine) == 1 else None


def _finding(lost: LostTable, geometry: Geometry) -> Finding:
    offset = int(lost.clusters[0]) << geometry.cluster_bits
    count = int(np.count_nonzero(lost.entries))
    changes = lost.gaps[0].changes
    return Finding(
        T.ORPHAN_L1,
        f"The leaked cluster at {offset:#x} is an L1 table that nothing refers to: it names "
        f"{plural(count, 'L2 table')}, and no L1 table in use names them there.",
        1 + count,
        "L1 table",
        (Range(offset, len(lost.clusters) * geometry.cluster_size),),
        changes[:1000],
        truncated=len(changes) > 1000,
    )


def _option(gap: _Gap, *, certain: bool) -> Option:
    evidence = [f"It names tables for {len(gap.places)} entries that are empty there."]
    if gap.empty:
        evidence.append(f"Nothing else is mapped by {gap.name}.")
    if certain:
        evidence.append("Its entries are marked as those of the active state are.")
    return Option(
        gap.key,
        f"Fill the empty entries of {gap.name} from it",
        "The guest data that the L2 tables map, and all that is mapped now.",
        "",
        "The L1 table, anew.",
        certain=certain,
        changes=gap.changes,
        evidence=tuple(evidence),
    )
