"""Damaged entries of L1 tables: reserved bits, flags without a table, misplaced tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...findings import Finding, FindingKind, GuestRange
from ...inspect.check import kinds as K
from ...inspect.triage import Fit, Orphan
from ...inspect.triage.shapes import Shapes
from ...jobs import CancelToken
from ...layout.constants import L1_RESERVED_MASK
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, decode_u64, encode_u64
from ...text import plural
from .diagnosis import Case
from .giving_up import ZERO, shown_by_nothing, zero_option
from .reattach import attach, has_signs, l1_of, place_key, place_name
from .remedy import Option, Remedy
from .scan import L1Table, disk_size, l1_tables

if TYPE_CHECKING:
    from ...edit.repairing import Repair

_RESERVED = np.uint64(L1_RESERVED_MASK)
#: Entries that get a remedy each; those behind them are treated together.
_SINGLE = 64
_LOST = "The guest data of the range, which cannot be read now either."
_HANDLED = frozenset({K.L1_RESERVED, K.L1_STRAY, K.L2_TABLE_UNALIGNED, K.L2_TABLE_OUTSIDE})


class ClearBits(Remedy):
    """Reserved bits, or flags without an offset: they say nothing."""

    default = "clear"
    order = 10

    def __init__(
        self, id_: str, finding: Finding, places: list[tuple[int | None, I64]], bits: np.uint64
    ):
        """``places``: (snapshot or None, int64 indices).  ``bits``: one uint64 to be cleared."""
        self.id = id_
        self.finding = finding
        self._places = places
        self._bits = bits
        self.options = (
            Option(
                "clear",
                "Clear the bits",
                "Every mapping: the bits say nothing.",
                "",
                "The L1 tables that hold them, anew.",
            ),
        )

    def apply(self, tx: Repair, option: Option) -> None:
        for snapshot, indices in self._places:
            l1 = l1_of(tx, snapshot)
            l1[indices] &= ~self._bits


class BadEntry(Remedy):
    """One entry that names a place where no table can be."""

    order = 15

    def __init__(
        self,
        finding: Finding,
        fit: Fit,
        raw: int,
        tables: list[tuple[int, Option]],
        give_up: list[Option],
    ) -> None:
        """``tables``: the tables that could be meant.  ``give_up``: other options."""
        self.id = f"l1-{place_key(fit)}"
        self.finding = finding
        self._fit = fit
        self._raw = raw
        self._tables = {option.key: offset for offset, option in tables}
        self.options = (*(option for _, option in tables), *give_up)
        certain = [option.key for _, option in tables if option.certain]
        self.default = certain[0] if len(certain) == 1 else None

    def apply(self, tx: Repair, option: Option) -> None:
        if option.key == ZERO:
            attach(tx, self._fit, tx.place(_zeros(tx)), self._raw)
        else:
            attach(tx, self._fit, self._tables.get(option.key, 0), self._raw)


class BadEntries(Remedy):
    """More damaged entries than a person can look at one by one."""

    id = "l1-others"
    order = 16

    def __init__(
        self, finding: Finding, fits: list[tuple[Fit, int]], changes: tuple[GuestRange, ...]
    ):
        self.finding = finding
        self._fits = fits
        self.options = (_drop(changes, backed=False),)

    def apply(self, tx: Repair, option: Option) -> None:
        for fit, raw in self._fits:
            attach(tx, fit, 0, raw)


def find_l1_entries(case: Case, cancel: CancelToken | None) -> list[Remedy]:
    """Remedies for every damaged entry of the L1 tables of all states."""
    geometry = case.image.geometry
    kinds = {finding.kind for finding in case.checked.findings}
    if geometry is None or not kinds & _HANDLED:
        return []
    return _Search(case, geometry).remedies()


class _Search:
    def __init__(self, case: Case, geometry: Geometry) -> None:
        self._case = case
        self._image = case.image
        self._geometry = geometry
        self._shapes = Shapes(case.image)

    def remedies(self) -> list[Remedy]:
        tables = l1_tables(self._image)
        made: list[Remedy] = []
        reserved: list[tuple[int | None, I64]] = []
        stray: list[tuple[int | None, I64]] = []
        bad: list[tuple[L1Table, int]] = []
        size = np.uint64(self._image.storage.size())
        for table in tables:
            offsets = table.entries & OFFSETS
            odd = (offsets & np.uint64(self._geometry.cluster_size - 1)) != 0
            wrong = odd | (offsets >= size)
            empty = (offsets == 0) & (table.entries != 0)
            # An entry that is replaced whole needs no bits cleared.
            flagged = ((table.entries & _RESERVED) != 0) & ~wrong & ~empty
            for found, which in ((reserved, flagged), (stray, empty)):
                if which.any():
                    found.append((table.snapshot, np.flatnonzero(which)))
            bad += [(table, index) for index in np.flatnonzero(wrong).tolist()]
        if reserved:
            made.append(self._clear("l1-reserved", K.L1_RESERVED, reserved, _RESERVED))
        if stray:
            made += self._strays(stray)
        for table, index in bad[:_SINGLE]:
            made.append(self._bad_entry(table, index))
        if bad[_SINGLE:]:
            made.append(self._others(bad[_SINGLE:]))
        return made

    def _clear(
        self, id_: str, kind: FindingKind, places: list[tuple[int | None, I64]], bits: np.uint64
    ) -> Remedy:
        count = sum(len(indices) for _, indices in places)
        finding = next((f for f in self._case.checked.findings if f.kind is kind), None)
        if finding is None:
            finding = Finding(kind, f"{count} L1 entries: {kind.title}.", count, "L1 table")
        return ClearBits(id_, finding, places, bits)

    def _strays(self, places: list[tuple[int | None, I64]]) -> list[Remedy]:
        """Where a lost table fits, the entry gets it; the others are cleared."""
        made: list[Remedy] = []
        rest: list[tuple[int | None, I64]] = []
        tables = {table.snapshot: table for table in l1_tables(self._image)}
        for snapshot, indices in places:
            keep = []
            for index in indices.tolist():
                fit = self._fit(tables[snapshot], index)
                fitting = self._fitting(fit) if len(made) < _SINGLE else []
                if not fitting:
                    keep.append(index)
                    continue
                raw = int(tables[snapshot].entries[index])
                options = self._tables_for(fit, fitting)
                clear = Option(
                    "clear",
                    "Clear the flags and leave the range empty",
                    "What the guest reads there now.",
                    "",
                    "The L1 table, anew.",
                    certain=False,
                )
                finding = self._finding(K.L1_STRAY, fit, "has flags and no offset")
                made.append(BadEntry(finding, fit, raw, options, [clear]))
            if keep:
                rest.append((snapshot, np.array(keep, dtype=np.int64)))
        if rest:
            every = np.uint64((1 << 64) - 1)
            made.append(self._clear("l1-stray", K.L1_STRAY, rest, every))
        return made

    # ---- one entry

    def _bad_entry(self, table: L1Table, index: int) -> Remedy:
        fit = self._fit(table, index)
        raw = int(table.entries[index])
        offset = raw & int(OFFSETS)
        odd = offset & (self._geometry.cluster_size - 1)
        kind = K.L2_TABLE_UNALIGNED if odd else K.L2_TABLE_OUTSIDE
        where = "in the middle of a cluster" if odd else "beyond the end of the file"
        finding = self._finding(kind, fit, f"names an L2 table at {offset:#x}, {where}")
        tables = self._tables_for(fit, self._fitting(fit))
        if odd and not tables:
            tables = self._rounded(fit, offset - odd)
        changes = (GuestRange(fit.start, fit.length, fit.state),) if fit.length else ()
        backed = self._image.backing is not None
        give_up = [_drop(changes, backed=backed)]
        if backed and self._geometry.version >= 3:
            give_up.append(
                zero_option(changes, _LOST, "An L2 table of zeros, and the L1 table anew.")
            )
        return BadEntry(finding, fit, raw, tables, give_up)

    def _fit(self, table: L1Table, index: int) -> Fit:
        """The place as a value; without length where it lies behind the end of the disk."""
        span = self._geometry.l2_span
        end = max(index * span, min((index + 1) * span, disk_size(self._image, table.state)))
        return Fit(
            table.state,
            table.snapshot,
            index,
            index * span,
            end - index * span,
            0,
            False,
            (),
        )

    def _finding(self, kind: FindingKind, fit: Fit, what: str) -> Finding:
        ranges = (GuestRange(fit.start, fit.length, fit.state),) if fit.length else ()
        text = place_name(fit)
        return Finding(
            kind, f"{text[0].upper()}{text[1:]} {what}.", 1, "L1 table", guest_ranges=ranges
        )

    def _fitting(self, place: Fit) -> list[tuple[Orphan, Fit]]:
        """Lost tables that fit here, the likeliest first."""
        if not has_signs(self._case):
            return []
        found = [
            (orphan, fit)
            for orphan in self._case.triage.orphans
            for fit in orphan.fits
            if (fit.state, fit.index) == (place.state, place.index)
        ]
        return sorted(found, key=lambda pair: -pair[1].score)[:8]

    def _tables_for(
        self, place: Fit, fitting: list[tuple[Orphan, Fit]]
    ) -> list[tuple[int, Option]]:
        return [
            (
                orphan.offset,
                Option(
                    f"table-{orphan.offset:x}",
                    f"Point the entry at the lost table at {orphan.offset:#x}",
                    f"The {plural(orphan.entries, 'cluster')} of guest data that it maps.",
                    "",
                    "The L1 table, anew.",
                    certain=fit.certain,
                    changes=(GuestRange(place.start, place.length, place.state),),
                    evidence=fit.evidence,
                ),
            )
            for orphan, fit in fitting
        ]

    def _rounded(self, place: Fit, offset: int) -> list[tuple[int, Option]]:
        """The cluster in which the offset lies, where it parses as a table nobody else uses.

        Its count may be lost with the entry, so that it is no leak.
        """
        named = np.concatenate([table.entries & OFFSETS for table in l1_tables(self._image)])
        if not offset or np.uint64(offset) in named:
            return []
        words = decode_u64(self._image.storage.read(offset, self._geometry.cluster_size))
        if not words.any() or len(words) * 8 != self._geometry.cluster_size:
            return []
        if not self._shapes.entries(words.reshape(1, -1)).all():
            return []
        option = Option(
            f"table-{offset:x}",
            f"Point the entry at the table at {offset:#x}",
            "The guest data that it maps.",
            "",
            "The L1 table, anew.",
            changes=(GuestRange(place.start, place.length, place.state),),
            evidence=(
                "The cluster in which the offset lies parses as an L2 table that no other entry "
                "names.",
            ),
        )
        return [(offset, option)]

    def _others(self, bad: list[tuple[L1Table, int]]) -> Remedy:
        fits = [(self._fit(table, index), int(table.entries[index])) for table, index in bad]
        changes = tuple(
            GuestRange(fit.start, fit.length, fit.state) for fit, _ in fits if fit.length
        )
        finding = Finding(
            K.L2_TABLE_OUTSIDE,
            f"{len(bad)} more L1 entries name places where no table can be.",
            len(bad),
            "L1 table",
            guest_ranges=changes[:1000],
            truncated=len(changes) > 1000,
        )
        return BadEntries(finding, fits, changes)


def _drop(changes: tuple[GuestRange, ...], *, backed: bool) -> Option:
    return Option(
        "drop",
        f"Drop the mapping: the guest reads {shown_by_nothing(backed=backed)}",
        "Everything else.",
        _LOST,
        "The L1 table, anew.",
        certain=False,
        changes=changes,
    )


def _zeros(tx: Repair) -> memoryview:
    """An L2 table of version 3 whose clusters all read as zeros."""
    entries = tx.geometry.l2_entries
    if not tx.geometry.extended_l2:
        return encode_u64(np.ones(entries, dtype=np.uint64)).data
    words = np.zeros(2 * entries, dtype=np.uint64)
    words[1::2] = np.uint64(0xFFFFFFFF << 32)
    return encode_u64(words).data
