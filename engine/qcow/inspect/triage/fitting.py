"""Which place a lost L2 table belongs to: what speaks for each, and how sure that is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...disk import Disk
from ...image.image import Image
from ...image.tables import l2_tables
from ...jobs import CancelToken
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS
from ...record import replace
from .kinship import Kin
from .located import HEAD, marks, starts
from .report import Fit, Orphan
from .sampling import holds_data, read_rows
from .shapes import COMPRESSED, COPIED
from .slots import SEAM, Slots, edges, find_slots

#: Fits kept for each table.
_KEPT = 8
#: Tables whose content is looked at for structures that know their place.
_MOST_TABLES = 64
_MOST_CLUSTERS = 1 << 16

#: What each kind of evidence is worth.
_DAMAGED, _LOCATED, _SEAM, _ONLY = 400, 200, 60, 30
_STATE, _NEIGHBOUR = 10, 2


class _Edges(NamedTuple):
    """Host clusters of a table's first and last entry, -1 for none."""

    first: int
    last: int


class Fitting:
    """Matches lost tables with the free places of one image.

    ``disk``: the guest disk, for its partition table; None when it cannot be read.
    """

    def __init__(
        self, image: Image, geometry: Geometry, disk: Disk | None, cancel: CancelToken | None
    ) -> None:
        self._image = image
        self._geometry = geometry
        self._disk = disk
        self._cancel = cancel
        self.slots = find_slots(image, geometry)
        self._neighbours = [slots.neighbours() for slots in self.slots]
        self._starts: tuple[int, ...] | None = None
        self._kin = Kin(image, geometry, self.slots)
        self._left = _MOST_CLUSTERS

    def place(self, orphans: list[Orphan]) -> list[Orphan]:
        """``orphans`` with the places they fit."""
        if not orphans or not any(len(slots.free) for slots in self.slots):
            return orphans
        offsets = np.array([orphan.offset for orphan in orphans], dtype=np.int64)
        first, last = edges(self._image, self._geometry, offsets)
        sides = [_Edges(*pair) for pair in zip(first.tolist(), last.tolist(), strict=True)]
        seams = self._seams(orphans, sides)
        placed = []
        for number, orphan in enumerate(orphans):
            if self._cancel is not None:
                self._cancel.check()
            placed.append(self._fits(orphan, seams[number], look=number < _MOST_TABLES))
        return _settle(placed)

    # ---- continuity

    def _seams(
        self, orphans: list[Orphan], sides: list[_Edges]
    ) -> list[dict[tuple[int, int], list[str]]]:
        """For each orphan, by (number of the state, index): at which seams data continues.

        A table that found its place so is a neighbour for the next.
        """
        found: list[dict[tuple[int, int], list[str]]] = [{} for _ in orphans]
        for number, slots in enumerate(self.slots):
            begins, ends = dict(slots.begins), dict(slots.ends)
            free = set(slots.free.tolist())
            order = [i for i, o in enumerate(orphans) if o.copied <= (slots.snapshot is None)]
            for turn in (order, order[::-1]):
                for which in turn:
                    side = sides[which]
                    before = _near(ends, side.first, -1)
                    behind = _near(begins, side.last, 1)
                    for index, text in ((before, "before"), (behind, "behind")):
                        if index is None:
                            continue
                        index += 1 if text == "before" else -1
                        if index not in free:
                            continue
                        notes = found[which].setdefault((number, index), [])
                        note = f"Its data continues in the file where the range {text} it ends."
                        if text == "behind":
                            note = "The data of the range behind it continues where its data ends."
                        if note not in notes:
                            notes.append(note)
                        if side.last >= 0:
                            ends.setdefault(side.last, index)
                        if side.first >= 0:
                            begins.setdefault(side.first, index)
            if not any(found):
                self._fill(number, order, sides, found)
        return found

    def _fill(
        self,
        number: int,
        order: list[int],
        sides: list[_Edges],
        found: list[dict[tuple[int, int], list[str]]],
    ) -> None:
        """As many tables as free places side by side, each going on where another ends."""
        free = self.slots[number].free
        if len(order) != len(free) or len(free) < 2 or int(free[-1] - free[0]) >= len(free):
            return
        begins = {sides[which].first: which for which in order if sides[which].first >= 0}
        follower = {which: _near(begins, sides[which].last, 1) for which in order}
        heads = set(order) - set(follower.values())
        if len(heads) != 1:
            return
        chain = [heads.pop()]
        while (after := follower[chain[-1]]) is not None and len(chain) < len(order):
            chain.append(after)
        if len(set(chain)) != len(free):
            return
        for index, which in zip(free.tolist(), chain, strict=True):
            found[which][number, index] = [
                f"{len(chain)} lost tables fill the {len(free)} free places.",
                "The data of each goes on in the file where that of another ends.",
            ]

    # ---- one table

    def _fits(
        self, orphan: Orphan, seams: dict[tuple[int, int], list[str]], *, look: bool
    ) -> Orphan:
        fits: list[Fit] = []
        choices = 0
        states = [i for i, s in enumerate(self.slots) if not orphan.copied or s.snapshot is None]
        for number in states:
            slots = self.slots[number]
            per_table = self._geometry.l2_entries
            possible = slots.free[slots.free * per_table + orphan.last < slots.clusters]
            choices += len(possible)
        for number in states:
            fits += self._in_state(orphan, number, seams, choices, look=look)
        fits.sort(key=lambda fit: (-fit.score, fit.snapshot is not None, fit.index))
        return replace(orphan, fits=tuple(fits[:_KEPT]), choices=choices)

    def _in_state(
        self,
        orphan: Orphan,
        number: int,
        seams: dict[tuple[int, int], list[str]],
        choices: int,
        *,
        look: bool,
    ) -> list[Fit]:
        slots = self.slots[number]
        per_table = self._geometry.l2_entries
        free = slots.free[slots.free * per_table + orphan.last < slots.clusters]
        if not len(free):
            return []
        neighbours = self._neighbours[number][: len(free)]
        likely = free[np.argsort(-neighbours, kind="stable")[:_KEPT]].tolist()
        likely += [index for state, index in seams if state == number]
        hit = self._damaged(orphan, slots)
        located: dict[int, str] = {}
        joined_on_both_sides = any(len(notes) == 2 for notes in seams.values())
        if look and choices > 1 and not hit and not joined_on_both_sides:
            located = self._kin.places(orphan, slots) or self._located(orphan)
        allowed = set(free.tolist()) if len(free) < 1 << 16 else None
        made = []
        for index in dict.fromkeys([*hit, *located, *likely]):
            if allowed is not None and index not in allowed:
                continue
            notes = [hit[index]] if index in hit else []
            score = _DAMAGED if notes else 0
            if index in located:
                score += _LOCATED
                notes.append(located[index])
            joined = seams.get((number, index), [])
            score += _SEAM * len(joined)
            notes += joined
            if choices == 1:
                score += _ONLY
                notes.append("It is the only place of an L1 table that is free and large enough.")
            # COPIED is kept right for the active state only.
            if slots.snapshot is None or not orphan.copied:
                score += _STATE if (slots.snapshot is None) == orphan.copied else 0
            near = int(neighbours[np.searchsorted(free, index)])
            score += _NEIGHBOUR * near
            if near >= 2:
                notes.append("The range before it is in use.")
            if near in (1, 3):
                notes.append("The range behind it is in use.")
            fitting_state = len(self.slots) == 1 or (slots.snapshot is None) == orphan.copied
            sure = bool(hit.get(index)) or index in located or len(joined) == 2
            sure = (
                (sure or (choices == 1 and fitting_state))
                and orphan.conflicts == 0
                and not orphan.shared_with
            )
            made.append(self._fit(slots, index, score, sure, notes))
        return made

    def _fit(self, slots: Slots, index: int, score: int, sure: bool, notes: list[str]) -> Fit:
        bits, per_table = self._geometry.cluster_bits, self._geometry.l2_entries
        start = index * per_table
        end = min((index + 1) * per_table, slots.clusters)
        return Fit(
            slots.label,
            slots.snapshot,
            index,
            start << bits,
            (end - start) << bits,
            score,
            sure,
            tuple(notes),
        )

    def _damaged(self, orphan: Orphan, slots: Slots) -> dict[int, str]:
        """Damaged entries that are the table's offset but for a bit or for their low bits."""
        if not len(slots.damaged):
            return {}
        raw = slots.l1[slots.damaged]
        offset = np.uint64(orphan.offset)
        other = (raw & ~COPIED) ^ offset
        one_bit = (other != 0) & ((other & (other - np.uint64(1))) == 0)
        low = np.uint64(self._geometry.cluster_size - 1)
        rounded = (raw & OFFSETS & ~low) == offset
        found = {}
        for at in np.flatnonzero(one_bit | rounded).tolist():
            why = "in one bit" if one_bit[at] else "in the bits that must be 0 there"
            found[int(slots.damaged[at])] = (
                f"The damaged entry {int(raw[at]):#x} differs from its offset only {why}."
            )
        return found

    # ---- content

    def _located(self, orphan: Orphan) -> dict[int, str]:
        """Places at which structures of the disk's content would lie where they say they do."""
        image, geometry = self._image, self._geometry
        if image.encrypted or image.header.has_data_file or self._left <= 0:
            return {}
        numbers, hosts = self._data_of(orphan)
        bits = geometry.cluster_bits
        piece = min(HEAD, geometry.cluster_size)
        votes: dict[int, dict[str, None]] = {}
        self._left -= len(numbers)
        for begin in range(0, len(numbers), 1024):
            rows = read_rows(image.storage, hosts[begin : begin + 1024] << bits, piece)
            for row in np.flatnonzero(rows.any(axis=1)).tolist():
                for mark in marks(rows[row].tobytes()):
                    within = (int(numbers[begin + row]) << bits) + mark.at
                    for origin in (0,) if mark.absolute else self._origins():
                        index, rest = divmod(mark.offset + origin - within, geometry.l2_span)
                        if rest == 0 and index >= 0:
                            votes.setdefault(index, {})[mark.name] = None
        if not votes:
            return {}
        best = max(len(names) for names in votes.values())
        return {
            index: f"There its content lies where it says that it lies: {', '.join(names)}."
            for index, names in votes.items()
            if len(names) == best
        }

    def _origins(self) -> tuple[int, ...]:
        if self._starts is None:
            self._starts = (0,) if self._disk is None else starts(self._disk)
        return self._starts

    def _data_of(self, orphan: Orphan) -> tuple[I64, I64]:
        """(number in the table, host cluster) of plain data that the file really holds."""
        offsets = np.array([orphan.offset], dtype=np.int64)
        (table,) = l2_tables(self._image.storage, self._geometry, offsets)
        entries = table.entries[0]
        plain = ((entries & COMPRESSED) == 0) & ((entries & OFFSETS) != 0)
        numbers = np.flatnonzero(plain)
        hosts = ((entries[plain] & OFFSETS) >> np.uint64(self._geometry.cluster_bits)).astype(
            np.int64
        )
        order = np.argsort(hosts, kind="stable")
        held = np.empty(len(hosts), dtype=bool)
        held[order] = holds_data(self._image.storage, hosts[order], self._geometry.cluster_size)
        return numbers[held][: self._left], hosts[held][: self._left]


def _near(edges_of: dict[int, int], host: int, way: int) -> int | None:
    """The index of the table with an edge within a seam's width before or behind ``host``."""
    if host < 0:
        return None
    for step in range(1, SEAM + 1):
        index = edges_of.get(host + way * step)
        if index is not None:
            return index
    return None


def _settle(orphans: list[Orphan]) -> list[Orphan]:
    """Nothing is certain where two tables want one place equally."""
    wanted: dict[tuple[str, int], list[int]] = {}
    for number, orphan in enumerate(orphans):
        if orphan.fits:
            top = orphan.fits[0]
            wanted.setdefault((top.state, top.index), []).append(number)
    settled = list(orphans)
    for numbers in wanted.values():
        if len(numbers) == 1:
            continue
        numbers.sort(key=lambda n: -orphans[n].fits[0].score)
        clear = orphans[numbers[0]].fits[0].score > orphans[numbers[1]].fits[0].score
        for number in numbers[1 if clear else 0 :]:
            fits = orphans[number].fits
            settled[number] = replace(
                orphans[number], fits=tuple(replace(fit, certain=False) for fit in fits)
            )
    return settled
