"""Damaged entries of L2 tables: reserved bits, misplaced clusters, impossible flags and bitmaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...edit.repairing import EntryChange, leaked_clusters
from ...findings import Finding, FindingKind
from ...image.image import Image
from ...inspect.check import kinds as K
from ...jobs import CancelToken
from ...layout.constants import L2_RESERVED_MASK, OFLAG_COMPRESSED, OFLAG_COPIED, OFLAG_ZERO
from ...layout.geometry import Geometry
from ...layout.tables import OFFSETS, U64, compressed_fields
from ...record import record
from .diagnosis import Case
from .giving_up import given_up, options_for, unmapped, zeroed
from .remedy import Option, Remedy
from .scan import Entries, Found, guest_ranges, windows

if TYPE_CHECKING:
    from ...edit.repairing import Repair

_COMPRESSED = np.uint64(OFLAG_COMPRESSED)
_COPIED = np.uint64(OFLAG_COPIED)
_ZERO = np.uint64(OFLAG_ZERO)
_RESERVED = np.uint64(L2_RESERVED_MASK)
_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)

#: Makes the new values (uint64[n], and bitmaps) of the entries.
Cure = Callable[["Repair", Entries], tuple[U64, U64 | None]]


@record
class Way:
    """An option and how it is carried out."""

    option: Option
    cure: Cure


class EntryRemedy(Remedy):
    """One kind of damage to L2 entries, all places together."""

    def __init__(self, id_: str, finding: Finding, entries: Entries, *ways: Way) -> None:
        self.id = id_
        self.finding = finding
        self.options = tuple(way.option for way in ways)
        self.default = next(
            (o.key for o in self.options if o.certain and (o.lossless or o.key == "repoint")), None
        )
        self._entries = entries
        self._cures = {way.option.key: way.cure for way in ways}

    def apply(self, tx: Repair, option: Option) -> None:
        values, bitmaps = self._cures[option.key](tx, self._entries)
        found = self._entries
        tx.change_entries(EntryChange(found.tables, found.numbers, values, bitmaps))


def find_entries(case: Case, cancel: CancelToken | None) -> list[Remedy]:
    """Remedies for every kind of damaged L2 entry that the check found."""
    kinds = {finding.kind for finding in case.checked.findings}
    geometry = case.image.geometry
    if geometry is None or not kinds & _HANDLED:
        return []
    return _Search(case.image, geometry, cancel).remedies(case)


_HANDLED = frozenset(
    {
        K.L2_RESERVED,
        K.ZERO_FLAG,
        K.SUBCLUSTERS,
        K.DATA_UNALIGNED,
        K.ZERO_UNALIGNED,
        K.DATA_OUTSIDE,
        K.COMPRESSED_COPIED,
        K.COMPRESSED_OUTSIDE,
        K.COMPRESSED_MISPLACED,
    }
)


class _Search:
    def __init__(self, image: Image, geometry: Geometry, cancel: CancelToken | None) -> None:
        self._image = image
        self._geometry = geometry
        self._cancel = cancel
        self._found: dict[str, Found] = {}

    def remedies(self, case: Case) -> list[Remedy]:
        for window in windows(self._image, self._geometry, self._cancel):
            for name, wrong in self._judge(window.entries, window.bitmaps):
                if wrong.any():
                    self._found.setdefault(name, Found()).add(window, wrong)
        made: list[Remedy] = []
        for name, found in self._found.items():
            entries = found.entries()
            if entries is not None:
                made += self._remedies_of(name, entries, case)
        return made

    def _judge(self, entries: U64, bitmaps: U64 | None) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """(kind of damage, bool array) for a window's entries."""
        image, geometry = self._image, self._geometry
        packed = (entries & _COMPRESSED) != 0
        plain = ~packed
        offsets = entries & OFFSETS
        placed = plain & (offsets != 0)
        if image.header.has_data_file:
            placed |= plain & ((entries & _COPIED) != 0)
        size = np.uint64(image.storage.size())
        flagged = plain & ((entries & _ZERO) != 0)
        zero_says = flagged if geometry.version >= 3 and bitmaps is None else flagged & False
        unaligned = placed & ((offsets & np.uint64(geometry.cluster_size - 1)) != 0)
        yield "reserved", plain & ((entries & _RESERVED) != 0)
        if geometry.version < 3 or bitmaps is not None:
            yield "zero-flag", flagged
        yield "zero-unaligned", unaligned & zero_says
        yield "unaligned", unaligned & ~zero_says
        if not image.header.has_data_file:
            yield "outside", placed & ~unaligned & ~zero_says & (offsets >= size)
            yield "zero-outside", placed & ~unaligned & zero_says & (offsets >= size)
        if packed.any():
            yield "compressed-copied", packed & ((entries & _COPIED) != 0)
            start, _ = compressed_fields(entries.reshape(-1), geometry)
            beyond = (start >= int(size)).reshape(entries.shape)
            yield "compressed-outside", packed & beyond
        if bitmaps is not None:
            both = (bitmaps >> _SHIFT32) & bitmaps & _LOW32
            yield "subclusters", placed & (both != 0)
            yield "no-cluster", plain & ~placed & (bitmaps & _LOW32 != 0)
            yield "packed-bitmap", packed & (bitmaps != 0)

    # ---- the ways out

    def _remedies_of(self, name: str, entries: Entries, case: Case) -> list[Remedy]:
        if name == "unaligned":
            return self._unaligned(entries, case)
        made: dict[str, Callable[[Entries], tuple[FindingKind, tuple[Way, ...]]]] = {
            "reserved": lambda e: (K.L2_RESERVED, (self._clear(e, _RESERVED, "reserved bits"),)),
            "zero-flag": self._zero_flag,
            "zero-unaligned": lambda e: (K.ZERO_UNALIGNED, (self._forget_place(e),)),
            "zero-outside": lambda e: (K.DATA_OUTSIDE, (self._forget_place(e),)),
            "outside": lambda e: (K.DATA_OUTSIDE, self._give_up(e)),
            "compressed-copied": lambda e: (
                K.COMPRESSED_COPIED,
                (self._clear(e, _COPIED, "COPIED flags"),),
            ),
            "compressed-outside": lambda e: (K.COMPRESSED_OUTSIDE, self._give_up(e)),
            "subclusters": self._subclusters,
            "no-cluster": lambda e: (K.SUBCLUSTERS, (self._no_cluster(),)),
            "packed-bitmap": lambda e: (K.SUBCLUSTERS, (self._drop_bitmap(),)),
        }
        kind, ways = made[name](entries)
        return [EntryRemedy(f"l2-{name}", self._finding(kind, entries, case), entries, *ways)]

    def _finding(self, kind: FindingKind, entries: Entries, case: Case) -> Finding:
        found = next((f for f in case.checked.findings if f.kind is kind), None)
        if found is not None:
            return found
        number = len(entries.tables)
        what = f"{number} table entries are damaged: {kind.title}."
        ranges = guest_ranges(self._image, self._geometry, entries)
        return Finding(kind, what, number, "L2 table", guest_ranges=ranges[:1000])

    def _clear(self, entries: Entries, bits: np.uint64, what: str) -> Way:
        option = Option(
            "clear",
            f"Clear the {what}",
            "Every mapping: the bits say nothing.",
            "",
            "The tables that hold them, anew.",
        )
        return Way(option, lambda tx, found: (found.values & ~bits, found.bitmaps))

    def _forget_place(self, entries: Entries) -> Way:
        option = Option(
            "zero",
            "Keep the zeros and forget the impossible place reserved for them",
            "What the guest reads: zeros.",
            "",
            "The tables that hold them, anew.",
            changes=guest_ranges(self._image, self._geometry, entries),
        )
        return Way(option, lambda tx, found: (np.full_like(found.values, _ZERO), found.bitmaps))

    def _zero_flag(self, entries: Entries) -> tuple[FindingKind, tuple[Way, ...]]:
        hidden = self._image.backing is not None and bool((entries.values & OFFSETS == 0).any())
        ranges = guest_ranges(self._image, self._geometry, entries)
        clear = Option(
            "clear",
            "Clear the flag, which this version does not have",
            "The data that the entries name.",
            "" if not hidden else "The zeros that may have been meant, over the backing file.",
            "The tables that hold them, anew.",
            certain=not hidden,
            changes=ranges,
        )
        zero = Option(
            "zero",
            "Let the clusters read as zeros, as the flag means in version 3",
            "The zeros that may have been meant.",
            "The data that the entries name, if it was meant.",
            "One cluster of zeros, and the tables anew.",
            certain=False,
            changes=ranges,
        )
        ways = (
            Way(clear, lambda tx, found: (found.values & ~_ZERO, found.bitmaps)),
            Way(zero, zeroed),
        )
        return K.ZERO_FLAG, ways

    def _unaligned(self, entries: Entries, case: Case) -> list[Remedy]:
        """Where the cluster that begins before the offset is leaked, that is the one meant."""
        bits = self._geometry.cluster_bits
        clusters = ((entries.values & OFFSETS) >> np.uint64(bits)).astype(np.int64)
        leaked = leaked_clusters(self._image, self._cancel)
        meant = np.isin(clusters, leaked) & (clusters != 0)
        made: list[Remedy] = []
        finding = self._finding(K.DATA_UNALIGNED, entries, case)
        if meant.any():
            some = entries.take(meant)
            mask = ~np.uint64(self._geometry.cluster_size - 1)
            repoint = Option(
                "repoint",
                "Point the entries at the leaked clusters in which their offsets lie",
                "The guest data of these clusters.",
                "",
                "The tables that hold them, anew.",
                changes=guest_ranges(self._image, self._geometry, some),
                evidence=("Each of these clusters is counted as used and has no other owner.",),
            )
            way = Way(repoint, lambda tx, found: (found.values & mask, found.bitmaps))
            made.append(EntryRemedy("l2-unaligned", finding, some, way, *self._give_up(some)))
        if not meant.all():
            rest = entries.take(~meant)
            made.append(EntryRemedy("l2-unaligned-lost", finding, rest, *self._give_up(rest)))
        return made

    def _subclusters(self, entries: Entries) -> tuple[FindingKind, tuple[Way, ...]]:
        ranges = guest_ranges(self._image, self._geometry, entries)
        data = Option(
            "data",
            "Where a subcluster is both data and zero, take it for data",
            "What is stored there.",
            "The zeros that may have been meant.",
            "The tables that hold them, anew.",
            certain=False,
            changes=ranges,
        )
        zero = Option(
            "zero",
            "Where a subcluster is both data and zero, take it for zeros",
            "The zeros that may have been meant.",
            "What is stored there, if it was meant.",
            "The tables that hold them, anew.",
            certain=False,
            changes=ranges,
        )

        def as_data(_: Repair, found: Entries) -> tuple[U64, U64 | None]:
            assert found.bitmaps is not None
            both = (found.bitmaps >> _SHIFT32) & found.bitmaps & _LOW32
            return found.values, found.bitmaps & ~(both << _SHIFT32)

        def as_zero(_: Repair, found: Entries) -> tuple[U64, U64 | None]:
            assert found.bitmaps is not None
            both = (found.bitmaps >> _SHIFT32) & found.bitmaps & _LOW32
            return found.values, found.bitmaps & ~both

        return K.SUBCLUSTERS, (Way(data, as_data), Way(zero, as_zero))

    def _no_cluster(self) -> Way:
        option = Option(
            "clear",
            "Clear the bits that claim data where there is no cluster",
            "All there is: no data is stored there.",
            "",
            "The tables that hold them, anew.",
        )

        def clear(_: Repair, found: Entries) -> tuple[U64, U64 | None]:
            assert found.bitmaps is not None
            return found.values, found.bitmaps & ~_LOW32

        return Way(option, clear)

    def _drop_bitmap(self) -> Way:
        option = Option(
            "clear",
            "Clear the bitmaps that compressed clusters do not have",
            "The compressed data.",
            "",
            "The tables that hold them, anew.",
        )
        return Way(option, lambda tx, found: (found.values, unmapped(found)[1]))

    def _give_up(self, entries: Entries) -> tuple[Way, ...]:
        return give_up(self._image, self._geometry, entries)


def give_up(image: Image, geometry: Geometry, entries: Entries) -> tuple[Way, ...]:
    """The data is not to be had: say so by zeros, or let the backing file show."""
    options = options_for(
        image,
        guest_ranges(image, geometry, entries),
        "The guest data of these clusters, which cannot be read now either.",
        "The tables that hold them, anew.",
    )
    return tuple(Way(option, partial(given_up, key=option.key)) for option in options)
