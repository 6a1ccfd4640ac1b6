"""Leaked clusters: what is certainly no guest data is freed, the rest is kept until asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...findings import Finding
from ...inspect.check import kinds as K
from ...inspect.triage import LeakClass, Triage
from ...jobs import CancelToken
from ...text import plural
from .diagnosis import Case
from .lost_l1 import all_come_back
from .reattach import EmptyPlaces, default_places
from .remedy import Option, Remedy

if TYPE_CHECKING:
    from ...edit.repairing import Repair

#: What a lost table that is put back takes with it.
_WITH_TABLES = (LeakClass.ORPHAN_L2, LeakClass.GUEST_DATA)


class Leaks(Remedy):
    """All leaked clusters that no other remedy brings back."""

    id = "leaks"
    order = 80

    def __init__(self, finding: Finding, triage: Triage, refused: bool) -> None:
        self.finding = finding
        self._triage = triage
        options = []
        if len(triage.reclaimable) and not refused:
            options.append(_free_certain(triage))
        if len(triage.locked) and not refused:
            options.append(_free_all(triage))
        self.options = tuple(options)
        self.default = "free" if len(triage.reclaimable) and not refused else None

    def apply(self, tx: Repair, option: Option) -> None:
        kept = self._triage.locked if option.key == "free" else np.zeros(0, dtype=np.int64)
        tx.kept = kept


def find_leaks(case: Case, cancel: CancelToken | None) -> list[Remedy]:
    """One remedy for the leaks, unless all of them come back with their tables."""
    image = case.image
    found = next((f for f in case.checked.findings if f.kind is K.LEAK), None)
    if found is None or image.geometry is None:
        return []
    triage = case.triage
    if not len(triage.leaked) or _all_come_back(case):
        return []
    unknown = [extension for extension in image.extensions if not extension.known]
    return [Leaks(_finding(triage, bool(unknown)), triage, bool(unknown))]


def _all_come_back(case: Case) -> bool:
    """Whether every leak belongs to a lost table that is put back without being asked."""
    triage = case.triage
    remnants = len(triage.of(LeakClass.SNAPSHOT_REMNANT))
    if len(triage.of(*_WITH_TABLES)) + remnants != len(triage.leaked):
        return False
    if remnants:
        if not triage.lost_l1 or not all_come_back(case):
            return False
        if remnants == len(triage.leaked):
            return True
    leaked = [orphan for orphan in triage.orphans if not orphan.shared_with]
    defaults = default_places(case, EmptyPlaces(case))
    certain = {o.offset for o in leaked if o.fits and o.fits[0].certain}
    return bool(leaked) and all(o.offset in defaults or o.offset in certain for o in leaked)


def _finding(triage: Triage, refused: bool) -> Finding:
    free, locked = len(triage.reclaimable), len(triage.locked)
    parts = []
    if free:
        parts.append(
            f"{plural(free, 'leaked cluster')} certainly without guest data: "
            f"{_kinds(triage, True)}."
        )
    if locked:
        parts.append(
            f"{plural(locked, 'leaked cluster')} that may hold guest data: {_kinds(triage, False)}."
        )
    if refused:
        parts.append(
            "The image has header extensions of unknown meaning, which may refer to them: none can "
            "be freed."
        )
    return Finding(
        K.LEAK,
        " ".join(parts),
        len(triage.leaked),
        "refcounts",
        tuple(r for group in triage.groups for r in group.ranges)[:1000],
        truncated=any(group.truncated for group in triage.groups),
    )


def _kinds(triage: Triage, reclaimable: bool) -> str:
    return ", ".join(
        f"{group.clusters} {group.kind.label}"
        for group in triage.groups
        if group.reclaimable == reclaimable
    )


def _free_certain(triage: Triage) -> Option:
    kept = len(triage.locked)
    return Option(
        "free",
        "Free what certainly is no guest data",
        "All guest data"
        + (f", and the {plural(kept, 'leaked cluster')} that may hold some." if kept else "."),
        "",
        "New refcounts; no cluster is overwritten, and reclaim gives the space back later.",
        evidence=_evidence(triage, True),
    )


def _free_all(triage: Triage) -> Option:
    return Option(
        "free-all",
        "Free all leaked clusters",
        "Everything that the guest reads now.",
        f"What may be guest data in {plural(len(triage.locked), 'leaked cluster')}: "
        f"{_kinds(triage, False)}; undo brings it back until the space is reclaimed.",
        "New refcounts.",
        certain=False,
        evidence=_evidence(triage, False),
    )


def _evidence(triage: Triage, reclaimable: bool) -> tuple[str, ...]:
    return tuple(
        f"{group.kind.label}: {' '.join(group.evidence)}"
        for group in triage.groups
        if group.reclaimable == reclaimable
    )
