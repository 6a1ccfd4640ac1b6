"""Snapshot table damage: a wrong length or offset put right, or single entries dropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...edit.mending import Mending
from ...edit.patch import Patch
from ...findings import Finding, GuestRange
from ...image.image import Image
from ...inspect.check import check
from ...inspect.lost import l1_candidates
from ...layout import problems as P
from ...layout.constants import MAX_L1_BYTES, MAX_SNAPSHOTS
from ...layout.header_rules import l1_fault
from ...layout.snapshots import Snapshot, encode_snapshot_table
from ...record import replace
from ...text import plural, safe
from .header import with_field
from .mends import HeaderMend, Mend, Sight
from .remedy import Option
from .snapshot_salvage import is_sensible, salvaged, tables_anywhere

if TYPE_CHECKING:
    from ...edit.repairing import Repair


def find_snapshots(sight: Sight) -> list[Mend]:
    """Remedies for the snapshot table, first for the table, then for single entries."""
    if sight.image.geometry is None:
        return []
    invalid = sight.problem(P.SNAPSHOT_TABLE_INVALID)
    if invalid is not None:
        return _table(sight, invalid)
    shifted = _shifted(sight)
    if shifted is not None:
        return [shifted]
    entry = sight.problem(P.SNAPSHOT_ENTRY)
    if entry is not None:
        return _entries(sight, entry)
    return []


# ---- the table


def _shifted(sight: Sight) -> Mend | None:
    """A table that can be read, with a wrong length: fields of one entry are taken from others."""
    image, header = sight.image, sight.image.header
    if not image.snapshots or all(is_sensible(image, each) for each in image.snapshots):
        return None
    offset, count = header.snapshots_offset, header.nb_snapshots
    found = salvaged(image, offset, count)
    if len(found) < count or not all(is_sensible(image, each) for each in found):
        return None
    wrong = next(each for each in image.snapshots if not is_sensible(image, each))
    finding = Finding(
        P.SNAPSHOT_ENTRY,
        f"A length in entry {wrong.index} of the snapshot table is wrong: its ID and name cannot "
        "be right.",
        structure="snapshot table",
    )
    return TableMend("snapshot-table", finding, image, ((_fix_option(found, count), found),))


def _table(sight: Sight, problem: Finding) -> list[Mend]:
    image, header = sight.image, sight.image.header
    offset, count = header.snapshots_offset, header.nb_snapshots
    placed = 0 < offset < image.storage.size() and not offset % header.cluster_size
    if not placed or count > MAX_SNAPSHOTS:
        return [_elsewhere(sight, problem, count)]
    found = salvaged(image, offset, count)
    ways: list[tuple[Option, tuple[Snapshot, ...]]] = []
    if len(found) == count:
        ways.append((_fix_option(found, count), found))
    elif found:
        ways.append((_keep_option(found, count), found))
    ways.append((_drop_all(count), ()))
    return [TableMend("snapshot-table", problem, image, tuple(ways))]


def _fix_option(found: tuple[Snapshot, ...], count: int) -> Option:
    names = ", ".join(f'"{safe(s.name, 40)}"' for s in found[:8])
    return Option(
        "fix",
        f"Put the table's lengths right; all {count} snapshots are there: {names}",
        "Every snapshot, with its ID, name and date.",
        "",
        "The snapshot table, anew.",
        evidence=("With it every entry has a usable L1 table and a readable name.",),
    )


def _keep_option(found: tuple[Snapshot, ...], count: int) -> Option:
    names = ", ".join(f'"{safe(s.name, 40)}"' for s in found[:8])
    return Option(
        "keep-readable",
        f"Keep the {plural(len(found), 'snapshot')} that can be told: {names}",
        "These snapshots and the active disk.",
        f"The other {plural(count - len(found), 'snapshot')}, which cannot be read now either.",
        "The snapshot table, anew.",
        certain=False,
    )


def _drop_all(count: int) -> Option:
    return Option(
        "drop",
        f"Drop all {count} snapshots",
        "The active disk.",
        "Every snapshot.  Their clusters stay in the file as leaks.",
        "The header.",
        certain=False,
    )


class TableMend(Mend):
    """The table as it should be; it is seen over the damaged one, and written anew."""

    def __init__(
        self,
        id_: str,
        finding: Finding,
        image: Image,
        ways: tuple[tuple[Option, tuple[Snapshot, ...]], ...],
    ) -> None:
        self.id = id_
        self.finding = finding
        self.options = tuple(option for option, _ in ways)
        self.default = next((o.key for o in self.options if o.lossless and o.certain), None)
        self._image = image
        self._wanted = {option.key: wanted for option, wanted in ways}

    def mend(self, mending: Mending, option: Option) -> Mending:
        return _over(self._image, mending, self._wanted[option.key])

    def apply(self, tx: Repair, option: Option) -> None:
        tx.new_snapshot_table = True


def _elsewhere(sight: Sight, problem: Finding, count: int) -> Mend:
    """The header's reference cannot be used: look for a table in the clusters of the file."""
    ways: dict[Option, bytes] = {}
    for offset, found in tables_anywhere(sight.image, sight.cancel):
        names = ", ".join(f'"{safe(s.name, 40)}"' for s in found[:8])
        header = with_field(sight.header, "snapshots_offset", offset)
        option = Option(
            f"{offset:#x}",
            f"Take the table at {offset:#x}, with {plural(len(found), 'snapshot')}: {names}",
            "These snapshots.",
            "",
            "The header.",
            certain=len(found) == count or offset == sight.image.header.snapshots_offset,
            evidence=("Each of its entries has a usable L1 table and a readable name.",),
        )
        ways[option] = with_field(header, "nb_snapshots", len(found))
    right = [option.key for option in ways if option.certain]
    cleared = with_field(with_field(sight.header, "nb_snapshots", 0), "snapshots_offset", 0)
    ways[_drop_all(min(count, MAX_SNAPSHOTS))] = cleared
    return HeaderMend("snapshot-table", problem, ways, right[0] if len(right) == 1 else None)


# ---- single entries


def _entries(sight: Sight, problem: Finding) -> list[Mend]:
    """Entries whose L1 table cannot be used: to be dropped, each by a choice of its own."""
    image = sight.image
    geometry = image.usable_geometry_for_tables()
    made: list[Mend] = []
    for snapshot in image.snapshots:
        size = image.storage.size()
        fault = l1_fault(snapshot.l1_table_offset, snapshot.l1_size, geometry, size)
        if fault is None and snapshot.l1_size:
            continue
        shown = f'snapshot {safe(snapshot.id, 20)} ("{safe(snapshot.name, 60)}")'
        ways = _entry_ways(sight, snapshot, shown)
        finding = _about(problem, f"The L1 table of {shown} cannot be used.")
        made.append(TableMend(f"snapshot-{safe(snapshot.id, 20)}", finding, image, ways))
    return made


def _about(finding: Finding, what: str) -> Finding:
    return Finding(finding.kind, what, structure=finding.structure)


def _entry_ways(
    sight: Sight, snapshot: Snapshot, shown: str
) -> tuple[tuple[Option, tuple[Snapshot, ...]], ...]:
    image = sight.image
    others = tuple(s for s in image.snapshots if s is not snapshot)
    whole = (GuestRange(0, snapshot.disk_size or image.virtual_size, snapshot.label),)
    drop = Option(
        "drop",
        f"Drop {shown}",
        "The active disk and every other snapshot.",
        f"{shown[0].upper()}{shown[1:]}, which cannot be read now either.",
        "The snapshot table, anew.",
        certain=False,
        changes=whole,
    )
    ways: list[tuple[Option, tuple[Snapshot, ...]]] = []
    for changed, title in _better(image, snapshot):
        wanted = tuple(changed if s is snapshot else s for s in image.snapshots)
        errors, leaks = _checked(sight, wanted)
        found = (
            f"{plural(errors, 'error')} and {plural(leaks, 'leaked cluster')}"
            if errors or leaks
            else "no error"
        )
        fix = Option(
            "fix" if not ways else f"fix-{len(ways) + 1}",
            f"{title} of {shown}",
            "The snapshot.",
            "" if not errors else "What the errors that remain may hide.",
            "The snapshot table, anew.",
            certain=not errors and not leaks,
            changes=whole,
            evidence=(f"With it a check of the whole image finds {found}.",),
        )
        ways.append((fix, wanted))
    return (*ways, (drop, others))


def _checked(sight: Sight, wanted: tuple[Snapshot, ...]) -> tuple[int, int]:
    """(errors, leaks) of the image with these entries in its table."""
    mending = _over(sight.image, Mending(sight.header, sight.mending.tables), wanted)
    result = check(mending.seen(sight.image.storage), cancel=sight.cancel, decode=False)
    errors = result.corruptions + result.extra_corruptions + result.check_errors
    return errors, result.leaks + result.extra_leaks


def _over(image: Image, mending: Mending, wanted: tuple[Snapshot, ...]) -> Mending:
    """``wanted`` seen over the snapshot table that is there."""
    header = with_field(mending.header, "nb_snapshots", len(wanted))
    if not wanted:
        return Mending(with_field(header, "snapshots_offset", 0), mending.tables)
    offset = image.header.snapshots_offset
    table = encode_snapshot_table(wanted)
    there = image.storage.read(offset, len(table)).ljust(len(table), b"\0")
    return Mending(header, (*mending.tables, Patch(offset, there, table)))


def _better(image: Image, snapshot: Snapshot) -> Iterator[tuple[Snapshot, str]]:
    """The entry with another L1 table, or with the size of one that its disk needs."""
    geometry = image.usable_geometry_for_tables()
    disk = image.virtual_size if snapshot.disk_size is None else snapshot.disk_size
    needed = geometry.l1_entries(disk)
    size = image.storage.size()
    taken = {image.header.l1_table_offset, *(s.l1_table_offset for s in image.snapshots)}
    entries = max(snapshot.l1_size, needed)
    if entries * 8 > MAX_L1_BYTES:
        entries = needed
    for offset in l1_candidates(image.storage, geometry, entries):
        if offset not in taken and l1_fault(offset, entries, geometry, size) is None:
            changed = replace(snapshot, l1_table_offset=offset, l1_size=entries)
            yield changed, f"Take the table at {offset:#x} for the L1 table"
    if needed == snapshot.l1_size or not needed:
        return
    if l1_fault(snapshot.l1_table_offset, needed, geometry, size) is None:
        yield replace(snapshot, l1_size=needed), f"Take the L1 table for {needed} entries"
