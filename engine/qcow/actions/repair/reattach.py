"""Lost L2 tables: put back into the L1 table, of the active state or of a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...errors import EditRefused
from ...findings import Finding, GuestRange, Range
from ...inspect.check import kinds as K
from ...inspect.triage import Fit, Orphan
from ...inspect.triage import kinds as T
from ...jobs import CancelToken
from ...layout.tables import OFFSETS
from ...text import plural, safe
from .diagnosis import Case
from .remedy import Option, Remedy
from .scan import l1_name, l1_tables, state_key

if TYPE_CHECKING:
    from ...edit.repairing import Repair

#: Tables that get a remedy each; those behind them are treated together.
_SINGLE = 64
#: Findings without which no table is looked for.
_SIGNS = frozenset(
    {
        K.LEAK,
        K.REFCOUNT_HIGH,
        K.REFCOUNT_HIGH_COPIED,
        K.COPIED_MISSING,
        K.L1_STRAY,
        K.L2_TABLE_UNALIGNED,
        K.L2_TABLE_OUTSIDE,
        K.OVERLAP,
    }
)


def has_signs(case: Case) -> bool:
    """Whether the check found anything for which leaks are worth looking into."""
    return case.image.geometry is not None and any(
        finding.kind in _SIGNS for finding in case.checked.findings
    )


def place_key(fit: Fit) -> str:
    """How a user names the place: ``active-1``, ``snapshot-0-1``."""
    return f"{state_key(fit.snapshot)}-{fit.index}"


def place_name(fit: Fit) -> str:
    """How a sentence names the place."""
    return f"entry {fit.index} of {l1_name(fit.state)}"


def guest_range(fit: Fit) -> GuestRange:
    """The guest bytes behind the place."""
    return GuestRange(fit.start, fit.length, fit.state)


def l1_of(tx: Repair, snapshot: int | None) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """The L1 array of the active state, or of the snapshot with that index in the old table."""
    if snapshot is None:
        return tx.l1
    for draft in tx.snapshots:
        if not draft.is_new and draft.entry.index == snapshot:
            return draft.l1
    raise EditRefused(
        "The snapshot whose L1 table was to be repaired is removed by another choice."
    )


def attach(tx: Repair, fit: Fit, offset: int, expected: int) -> None:
    """Let the L1 entry at ``fit`` name the table at ``offset``.

    ``expected``: what the entry holds in the damaged image.  Raises EditRefused when another
    choice has given the place away.
    """
    l1 = l1_of(tx, fit.snapshot)
    if fit.index >= len(l1) or int(l1[fit.index]) != expected:
        raise EditRefused(f"Two choices want {place_name(fit)}: choose one of them.")
    l1[fit.index] = np.uint64(offset)


class Reattach(Remedy):
    """One lost table with the empty places it fits."""

    order = 20

    def __init__(self, orphan: Orphan, fits: tuple[Fit, ...], default: Fit | None, size: int):
        self.id = f"lost-l2-{orphan.offset:x}"
        self._orphan = orphan
        self._fits = {place_key(fit): fit for fit in fits}
        self.default = None if default is None else place_key(default)
        self.options = tuple(_option(orphan, fit) for fit in fits)
        self.finding = _finding(orphan, fits, size)

    def apply(self, tx: Repair, option: Option) -> None:
        attach(tx, self._fits[option.key], self._orphan.offset, 0)


class ReattachMany(Remedy):
    """More lost tables than a person can look at one by one, each with its best place."""

    id = "lost-l2-tables"
    default = "reattach"
    order = 21

    def __init__(self, pairs: list[tuple[Orphan, Fit]], size: int) -> None:
        self._pairs = pairs
        claimed = sum(orphan.claimed for orphan, _ in pairs)
        ranges = tuple(guest_range(fit) for _, fit in pairs)
        self.finding = Finding(
            T.ORPHAN_L2,
            f"{len(pairs)} more leaked L2 tables lost their L1 entries; they name {claimed} "
            "leaked clusters.",
            len(pairs),
            "L1 table",
            tuple(Range(orphan.offset, size) for orphan, _ in pairs[:1000]),
            ranges[:1000],
            truncated=len(pairs) > 1000,
        )
        self.options = (
            Option(
                "reattach",
                "Put each table back into the place that fits best",
                "The guest data of these ranges.",
                "",
                "The L1 tables, anew.",
                certain=all(fit.certain for _, fit in pairs),
                changes=ranges,
            ),
        )

    def apply(self, tx: Repair, option: Option) -> None:
        for orphan, fit in self._pairs:
            attach(tx, fit, orphan.offset, 0)


def find_orphans(case: Case, cancel: CancelToken | None) -> list[Remedy]:
    """A remedy for each lost table that fits an empty place; damaged places have their own."""
    if not has_signs(case):
        return []
    made: list[Remedy] = []
    many: list[tuple[Orphan, Fit]] = []
    empty = EmptyPlaces(case)
    defaults = default_places(case, empty)
    size = case.triage.cluster_size
    for orphan in case.triage.orphans:
        if orphan.fits and not empty.holds(orphan.fits[0]):
            continue
        fits = tuple(fit for fit in orphan.fits if empty.holds(fit))
        if not fits and orphan.shared_with:
            continue
        default = defaults.get(orphan.offset)
        if len(made) < _SINGLE:
            made.append(Reattach(orphan, fits, default, size))
        elif default is not None:
            many.append((orphan, default))
    if many:
        made.append(ReattachMany(many, size))
    return made


class EmptyPlaces:
    """Whether a place is empty (0) or holds a damaged entry."""

    def __init__(self, case: Case) -> None:
        self._tables = {table.state: table.entries for table in l1_tables(case.image)}

    def raw(self, fit: Fit) -> int:
        """The entry as it is on disk."""
        entries = self._tables.get(fit.state)
        if entries is None or fit.index >= len(entries):
            return 0
        return int(entries[fit.index])

    def are_all(self, fit: Fit) -> bool:
        """Whether a lost table of that state can only have been in an empty or damaged place: no
        two entries name one table, of which one then had another."""
        entries = self._tables.get(fit.state)
        if entries is None:
            return True
        used = entries[entries & OFFSETS != 0] & OFFSETS
        return len(np.unique(used)) == len(used)

    def holds(self, fit: Fit) -> bool:
        """Whether the place is empty, or holds flags without an offset."""
        return self.raw(fit) & int(OFFSETS) == 0


def default_places(case: Case, empty: EmptyPlaces) -> dict[int, Fit]:
    """By offset of a lost table: the empty place it is put into without being asked.

    Nothing is lost by that, even where the place is only the likeliest: one that is better than
    all others, that no other table wants, for a table of which all that it names is leaked.
    """
    wanted: dict[tuple[str, int], int] = {}
    for orphan in case.triage.orphans:
        if orphan.best is not None:
            place = (orphan.best.state, orphan.best.index)
            wanted[place] = wanted.get(place, 0) + 1
    # A state that certainly lost tables of its own lost those that it shared with another, too.
    hurt = {
        orphan.fits[0].state
        for orphan in case.triage.orphans
        if orphan.fits and orphan.fits[0].certain and not orphan.shared_with
    }
    found = {}
    for orphan in case.triage.orphans:
        fit = orphan.best
        if fit is None or not empty.holds(fit) or empty.raw(fit) or not empty.are_all(fit):
            continue
        alone = wanted[fit.state, fit.index] == 1
        # Snapshots that are gone leave tables behind, but none with COPIED: such a table belongs
        # to the active state.
        mine = orphan.copied or not case.image.snapshots
        if orphan.shared_with:
            mine = fit.state in hurt
        if alone and (fit.certain or (mine and not orphan.conflicts)):
            found[orphan.offset] = fit
    return found


def _option(orphan: Orphan, fit: Fit) -> Option:
    return Option(
        place_key(fit),
        f"Put the table at {orphan.offset:#x} back into {place_name(fit)}",
        f"The {plural(orphan.entries, 'cluster')} of guest data that it maps.",
        "",
        "The L1 table, anew.",
        certain=fit.certain,
        changes=(guest_range(fit),),
        evidence=fit.evidence,
    )


def _finding(orphan: Orphan, fits: tuple[Fit, ...], size: int) -> Finding:
    if orphan.shared_with:
        what = (
            f"The L2 table at {orphan.offset:#x}, which {safe(orphan.shared_with)} uses, is "
            "counted once more than it is used, and so is all that it names: another state may "
            "have lost it."
        )
    else:
        what = (
            f"The leaked cluster at {orphan.offset:#x} is an L2 table that lost its L1 entry: "
            f"it maps {plural(orphan.claimed, 'other leaked cluster')} as guest data."
        )
    return Finding(
        T.ORPHAN_L2,
        what,
        1 + orphan.claimed,
        "L1 table",
        (Range(orphan.offset, size),),
        tuple(guest_range(fit) for fit in fits),
    )
