"""From what was gathered to findings that a person can read."""

from __future__ import annotations

from collections.abc import Callable

from ...findings import Finding, FindingKind, GuestRange
from ...image.image import Image
from ...layout import problems as P
from ...layout.geometry import Geometry
from . import kinds as K
from .collect import Collector, Group
from .locate import Users, guest_ranges, host_ranges, users_of_tables
from .survey import Survey

#: What opening found out that says nothing about the health of this file.
_NOT_HEALTH = frozenset(
    {
        P.BACKING_FORMAT_MISSING,
        P.EXTENSION_ODD,
        P.EXTENSION_UNKNOWN,
        P.FEATURE_UNKNOWN_HARMLESS,
        P.LUKS_COSTLY,
        P.REFERENCE_UNTRUSTED,
    }
)
#: (one place, several places); "{n}" is how many.
_WHAT: dict[FindingKind, tuple[str, str]] = {
    K.REFCOUNT_ZERO: (
        "A cluster is in use but counted as free",
        "{n} clusters are in use but counted as free",
    ),
    K.REFCOUNT_LOW: (
        "A cluster is used more often than its refcount says",
        "{n} clusters are used more often than their refcounts say",
    ),
    K.REFCOUNT_HIGH: (
        "A cluster is counted more often than it is used",
        "{n} clusters are counted more often than they are used",
    ),
    K.REFCOUNT_STALE: (
        "The refcount of a cluster was not written before the image was last closed",
        "The refcounts of {n} clusters were not written before the image was last closed",
    ),
    K.REFCOUNT_OVERFLOW: (
        "A cluster has more references than its refcount can hold",
        "{n} clusters have more references than their refcounts can hold",
    ),
    K.COPIED_SET: (
        "A table entry says that its cluster has one owner, but it is shared",
        "{n} table entries say that their clusters have one owner, but they are shared",
    ),
    K.COPIED_MISSING: (
        "A table entry lacks the flag that its cluster has one owner",
        "{n} table entries lack the flag that their clusters have one owner",
    ),
    K.OVERLAP: (
        "A cluster has two owners that cannot share it",
        "{n} clusters have two owners that cannot share them",
    ),
    K.LEAK: ("A cluster is leaked", "{n} clusters are leaked"),
    K.LEAK_BITMAPS: (
        "A cluster belongs to a bitmap that is no longer valid",
        "{n} clusters belong to bitmaps that are no longer valid",
    ),
    K.BEYOND_END: (
        "A cluster behind the end of the file is counted as used",
        "{n} clusters behind the end of the file are counted as used",
    ),
    K.REFBLOCK_RESERVED: (
        "A refcount table entry has reserved bits set",
        "{n} refcount table entries have reserved bits set",
    ),
    K.REFBLOCK_UNALIGNED: (
        "A refcount block does not start where a cluster starts",
        "{n} refcount blocks do not start where a cluster starts",
    ),
    K.REFBLOCK_OUTSIDE: (
        "A refcount block lies beyond the end of the file",
        "{n} refcount blocks lie beyond the end of the file",
    ),
    K.REFBLOCK_SHARED: (
        "A refcount block is also used for something else",
        "{n} refcount blocks are also used for something else",
    ),
    K.L1_RESERVED: (
        "An L1 entry has reserved bits set",
        "{n} L1 entries have reserved bits set",
    ),
    K.L1_STRAY: (
        "An L1 entry has flags but no offset, or what is found through it is wrong",
        "L1 entries have flags but no offset: {n} entries found through them are wrong",
    ),
    K.L2_TABLE_UNALIGNED: (
        "An L1 entry points into the middle of a cluster",
        "{n} L1 entries point into the middle of a cluster",
    ),
    K.L2_TABLE_OUTSIDE: (
        "An L2 table lies beyond the end of the file",
        "{n} L2 tables lie beyond the end of the file",
    ),
    K.TABLE_OUTSIDE: (
        "A structure reaches beyond the end of the file",
        "{n} structures reach beyond the end of the file",
    ),
    K.L2_RESERVED: (
        "An L2 entry has reserved bits set",
        "{n} L2 entries have reserved bits set",
    ),
    K.DATA_UNALIGNED: (
        "An L2 entry points into the middle of a cluster",
        "{n} L2 entries point into the middle of a cluster",
    ),
    K.ZERO_UNALIGNED: (
        "A zero cluster reserves space in the middle of a cluster",
        "{n} zero clusters reserve space in the middle of a cluster",
    ),
    K.DATA_OUTSIDE: (
        "A data cluster lies beyond the end of the file",
        "{n} data clusters lie beyond the end of the file",
    ),
    K.ZERO_FLAG: (
        "An L2 entry has the zero flag, which this image cannot have",
        "{n} L2 entries have the zero flag, which this image cannot have",
    ),
    K.SUBCLUSTERS: (
        "The subcluster bitmap of an L2 entry contradicts itself",
        "The subcluster bitmaps of {n} L2 entries contradict themselves",
    ),
    K.COMPRESSED_COPIED: (
        "A compressed cluster has the COPIED flag",
        "{n} compressed clusters have the COPIED flag",
    ),
    K.COMPRESSED_MISPLACED: (
        "A cluster is marked compressed where none can be",
        "{n} clusters are marked compressed where none can be",
    ),
    K.COMPRESSED_OUTSIDE: (
        "A compressed cluster lies beyond the end of the file",
        "{n} compressed clusters lie beyond the end of the file",
    ),
    K.COMPRESSED_DAMAGED: (
        "A compressed cluster cannot be unpacked",
        "{n} compressed clusters cannot be unpacked",
    ),
    K.SNAPSHOT_INCOMPLETE: (
        "A snapshot does not record its disk size",
        "{n} snapshots do not record their disk size",
    ),
    K.SNAPSHOT_DATA_FILE: (
        "The image has a snapshot and an external data file",
        "The image has {n} snapshots and an external data file",
    ),
    K.BITMAP_TABLE: (
        "A bitmap table entry is impossible",
        "{n} bitmap table entries are impossible",
    ),
    K.LUKS_LENGTH: (
        "The LUKS header claims far more space than one can take",
        "The LUKS header claims far more space than one can take",
    ),
    K.UNREADABLE: ("A table cannot be read", "{n} tables cannot be read"),
    K.TOO_LARGE: (
        "A structure claims an absurd amount of space",
        "{n} structures claim an absurd amount of space",
    ),
}
_STRUCTURE: dict[FindingKind, str] = {
    **dict.fromkeys(
        (K.REFBLOCK_RESERVED, K.REFBLOCK_UNALIGNED, K.REFBLOCK_OUTSIDE, K.REFBLOCK_SHARED),
        "refcount table",
    ),
    **dict.fromkeys((K.L1_RESERVED, K.L1_STRAY, K.L2_TABLE_UNALIGNED), "L1 table"),
    **dict.fromkeys((K.SNAPSHOT_INCOMPLETE, K.SNAPSHOT_DATA_FILE), "snapshot table"),
    K.BITMAP_TABLE: "bitmaps",
    K.LEAK_BITMAPS: "bitmaps",
    K.LUKS_LENGTH: "LUKS header",
    K.TABLE_OUTSIDE: "file",
    K.TOO_LARGE: "file",
    K.UNREADABLE: "file",
    **dict.fromkeys(
        (
            K.L2_TABLE_OUTSIDE,
            K.L2_RESERVED,
            K.DATA_UNALIGNED,
            K.ZERO_UNALIGNED,
            K.DATA_OUTSIDE,
            K.ZERO_FLAG,
            K.SUBCLUSTERS,
            K.COMPRESSED_COPIED,
            K.COMPRESSED_MISPLACED,
            K.COMPRESSED_OUTSIDE,
            K.COPIED_SET,
            K.COPIED_MISSING,
        ),
        "L2 table",
    ),
    K.COMPRESSED_DAMAGED: "compressed data",
}


def report(
    image: Image,
    geometry: Geometry,
    collector: Collector,
    found: Survey,
    cancelled: Callable[[], None],
) -> tuple[Finding, ...]:
    """The findings of a check and of opening, worst first, then by how many places they have."""
    groups = collector.groups
    users = users_of_tables(image, groups.values(), found.regions, found.data, cancelled)
    incomplete = collector.check_errors > 0
    listed = [
        *(finding for finding in image.problems if _matters(finding, groups)),
        *(
            _finding(image, geometry, kind, group, users, incomplete=incomplete)
            for kind, group in groups.items()
            if group.count
        ),
    ]
    return tuple(sorted(listed, key=lambda finding: (-finding.severity, -finding.count)))


def _matters(finding: Finding, groups: dict[FindingKind, Group]) -> bool:
    """Whether a problem seen at opening belongs to the health of this file."""
    if finding.kind is P.DIRTY_BIT:
        return K.REFCOUNT_STALE not in groups  # which says the same and more
    if finding.kind is P.EXTENSION_UNKNOWN:
        return K.LEAK in groups  # what is leaked may be the extension's
    return finding.kind not in _NOT_HEALTH


def _finding(
    image: Image,
    geometry: Geometry,
    kind: FindingKind,
    group: Group,
    users: Users,
    *,
    incomplete: bool,
) -> Finding:
    guests, guests_cut = guest_ranges(image, geometry, group, users)
    hosts, hosts_cut = host_ranges(geometry, group)
    one, several = _WHAT[kind]
    what = several.format(n=f"{group.count:,}")
    if group.count == 1:
        what = one
        if what.startswith("A cluster ") and group.hosts and len(hosts) == 1:
            number = hosts[0].start >> geometry.cluster_bits
            what = f"Cluster {number}{what.removeprefix('A cluster')}"
    if kind is K.REFCOUNT_HIGH and group.flags:
        kind = K.REFCOUNT_HIGH_COPIED
    if group.notes:
        joint = ": " if kind is K.OVERLAP else " ("
        what += joint + _listed(sorted(group.notes)) + ("" if kind is K.OVERLAP else ")")
    where = _guest_words(guests)
    if where:
        what += f"; {where}"
    if kind is K.LEAK and incomplete:
        what += "; some may belong to what could not be read"
    return Finding(
        kind,
        what + ".",
        group.count,
        _STRUCTURE.get(kind, "refcounts"),
        hosts,
        guests,
        group.truncated or guests_cut or hosts_cut,
        tuple(text for _, text in group.examples),
    )


def _listed(names: list[str]) -> str:
    shown = names[:6]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def _guest_words(guests: tuple[GuestRange, ...]) -> str:
    """The first ranges, in words: what a person looks for first."""
    if not guests:
        return ""
    first = guests[0]
    shown = ", ".join(
        f"0x{at.start:x} to 0x{at.start + at.length:x}"
        for at in guests[:3]
        if at.state == first.state
    )
    words = f"guest {shown}"
    if first.state != "active":
        words += f" of snapshot {first.state.removeprefix('snapshot:')}"
    shown_count = sum(1 for at in guests[:3] if at.state == first.state)
    if len(guests) > shown_count:
        words += f" and {len(guests) - shown_count} more"
    return words
