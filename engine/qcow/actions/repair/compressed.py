"""Entries of compressed clusters that cannot be unpacked; the COMPRESSED flag itself may be wrong.

The descriptor of a plain cluster whose flag was set by damage says: one sector, at the start of a
cluster.  COPIED, which no compressed cluster has, leaves no doubt.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...findings import Finding
from ...image.tables import l2_tables
from ...inspect.check import kinds as K
from ...jobs import CancelToken
from ...layout.constants import OFLAG_COMPRESSED, OFLAG_COPIED
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS
from ...record import replace
from ...text import plural
from .diagnosis import Case
from .entries import EntryRemedy, Way, give_up
from .remedy import Option, Remedy
from .scan import Entries, Found, guest_ranges

_COMPRESSED = np.uint64(OFLAG_COMPRESSED)
_COPIED = np.uint64(OFLAG_COPIED)
_DATA = np.uint64(0xFFFFFFFF)


class UnpackRemedy(EntryRemedy):
    """Made after remedies for single flags of the same entries, which it overrides."""

    order = 55


def find_compressed(case: Case, cancel: CancelToken | None) -> list[Remedy]:
    """Remedies for what the check could not unpack, or where none can be."""
    geometry = case.image.geometry
    if geometry is None or case.image.header.has_data_file:
        return []
    made: list[Remedy] = []
    for finding in case.checked.findings:
        if finding.kind is K.COMPRESSED_DAMAGED:
            made += _unpackable(case, geometry, finding)
        elif finding.kind is K.COMPRESSED_MISPLACED and geometry.extended_l2:
            made += _with_bitmap(case, geometry, finding)
    return made


def _unpackable(case: Case, geometry: Geometry, finding: Finding) -> list[Remedy]:
    entries = _entries_at(case, geometry, finding)
    if entries is None:
        return []
    plain = _like_plain(case, geometry, entries)
    copied = (entries.values & _COPIED) != 0
    made: list[Remedy] = []
    for id_, which, sure in (
        ("l2-compressed-flag", plain & copied, "Each has COPIED, which compressed ones never do."),
        ("l2-compressed-perhaps", plain & ~copied, ""),
    ):
        if which.any():
            some = entries.take(which)
            made.append(_plain(case, geometry, finding, some, id_, sure))
    if not plain.all():
        rest = entries.take(~plain)
        ways = give_up(case.image, geometry, rest)
        what = f"{plural(len(rest.tables), 'compressed cluster')} cannot be unpacked."
        part = _part(case, geometry, finding, rest, what)
        made.append(UnpackRemedy("l2-compressed-damaged", part, rest, *ways))
    return made


def _with_bitmap(case: Case, geometry: Geometry, finding: Finding) -> list[Remedy]:
    """Extended entries with a bitmap that says data, as only plain ones have."""
    entries = _entries_at(case, geometry, finding)
    if entries is None or entries.bitmaps is None:
        return []
    which = _like_plain(case, geometry, entries) & ((entries.bitmaps & _DATA) != 0)
    if not which.any():
        return []
    sure = "Each has a bitmap of subclusters that hold data, which compressed ones never have."
    some = entries.take(which)
    return [_plain(case, geometry, finding, some, "l2-compressed-bitmap", sure)]


def _plain(
    case: Case, geometry: Geometry, finding: Finding, entries: Entries, id_: str, sure: str
) -> Remedy:
    """The remedy for entries that may be plain; ``sure``: what leaves no doubt, or ""."""
    count = len(entries.tables)
    may = "have" if sure else "may have"
    what = f"{count} L2 entries {may} the COMPRESSED flag by damage: they lie as plain clusters do."
    ways = (_flag(case, geometry, entries, sure), *give_up(case.image, geometry, entries))
    return UnpackRemedy(id_, _part(case, geometry, finding, entries, what), entries, *ways)


def _entries_at(case: Case, geometry: Geometry, finding: Finding) -> Entries | None:
    """The entries that a finding names by where they lie in the file."""
    width = geometry.l2_entry_size
    places = np.concatenate(
        [np.arange(r.start // width * width, r.end, width) for r in finding.host_ranges]
    ).astype(np.int64)
    tables = places & ~np.int64(geometry.cluster_size - 1)
    found = Found()
    for window in l2_tables(case.image.storage, geometry, np.unique(tables)):
        wrong = np.zeros(window.entries.shape, dtype=np.bool_)
        row: I64 = np.searchsorted(window.offsets, tables)
        row[row == len(window.offsets)] = 0
        here = window.offsets[row] == tables
        wrong[row[here], (places[here] - tables[here]) // width] = True
        wrong &= (window.entries & _COMPRESSED) != 0
        found.add(window, wrong)
    return found.entries()


def _like_plain(case: Case, geometry: Geometry, entries: Entries) -> NDArray[np.bool_]:
    """Which would name a whole cluster of the file, without the flag."""
    bare = entries.values & ~(_COMPRESSED | _COPIED)
    size = np.uint64(geometry.cluster_size)
    aligned = (bare & (size - np.uint64(1))) == 0
    inside = (bare != 0) & (bare + size <= np.uint64(case.image.storage.size()))
    plain: NDArray[np.bool_] = aligned & inside & ((bare & ~OFFSETS) == 0)
    return plain


def _flag(case: Case, geometry: Geometry, entries: Entries, sure: str) -> Way:
    evidence = ["Without the flag each entry names a whole cluster; with it, it cannot be read."]
    if sure:
        evidence.append(sure)
    option = Option(
        "repoint",
        "Clear the COMPRESSED flag: the guest reads the clusters as they are",
        "The guest data of these clusters.",
        "",
        "The tables that hold them, anew.",
        certain=bool(sure),
        changes=guest_ranges(case.image, geometry, entries),
        evidence=tuple(evidence),
    )
    return Way(option, lambda tx, found: (found.values & ~_COMPRESSED, found.bitmaps))


def _part(case: Case, geometry: Geometry, finding: Finding, entries: Entries, what: str) -> Finding:
    """What the finding says of some of its entries."""
    count = len(entries.tables)
    ranges = guest_ranges(case.image, geometry, entries)
    return replace(
        finding, what=what, count=count, host_ranges=(), guest_ranges=ranges[:1000], examples=()
    )
