"""Where the bytes of the file go, in the few kinds that matter to a person."""

from __future__ import annotations

from dataclasses import dataclass

from qcow.inspect.classes import ClusterClass

from .session import Session
from .tones import Tone

_C = ClusterClass
#: (label, class whose colour it has, classes it adds up, tone, what it means).
_KINDS: tuple[tuple[str, ClusterClass, frozenset[ClusterClass], Tone, str], ...] = (
    ("Data", _C.DATA, frozenset({_C.DATA}), Tone.PLAIN, "guest data of one state"),
    ("Compressed", _C.COMPRESSED, frozenset({_C.COMPRESSED}), Tone.PLAIN, "compressed guest data"),
    ("Shared", _C.SHARED, frozenset({_C.SHARED}), Tone.PLAIN, "guest data of several states"),
    ("VM state", _C.VM_STATE, frozenset({_C.VM_STATE}), Tone.PLAIN, "memory of saved machines"),
    (
        "Zero, reserved",
        _C.ZERO_ALLOCATED,
        frozenset({_C.ZERO_ALLOCATED}),
        Tone.PLAIN,
        "reads as zeros, space is kept",
    ),
    (
        "Metadata",
        _C.L2,
        frozenset(member for member in _C if member.is_metadata),
        Tone.PLAIN,
        "header, tables, refcounts, bitmaps",
    ),
    (
        "Corrupt",
        _C.CORRUPT,
        frozenset({_C.CORRUPT}),
        Tone.BAD,
        "counted too low, or wrongly referred to",
    ),
    (
        "Overlapping",
        _C.OVERLAPPING,
        frozenset({_C.OVERLAPPING}),
        Tone.BAD,
        "two owners that can never share",
    ),
    (
        "Leaked",
        _C.LEAKED,
        frozenset({_C.LEAKED}),
        Tone.WARNING,
        "counted, but nothing refers to it",
    ),
    ("Free inside", _C.FREE, frozenset({_C.FREE}), Tone.MUTED, "unused, between used clusters"),
    (
        "Beyond the end",
        _C.BEYOND_END,
        frozenset({_C.BEYOND_END}),
        Tone.MUTED,
        "behind the last use",
    ),
    ("Not read yet", _C.UNREAD, frozenset({_C.UNREAD}), Tone.MUTED, ""),
)


@dataclass(frozen=True, slots=True)
class Share:
    """One kind of use.  ``colour`` is the class whose colour the map has for it."""

    label: str
    colour: ClusterClass
    size: int  # bytes
    tone: Tone
    gloss: str


@dataclass(frozen=True, slots=True)
class Breakdown:
    """``shares`` are those that are present; their sizes add up to ``file_length`` (bytes)."""

    file_length: int
    shares: tuple[Share, ...]
    free_inside: int
    leaked: int
    beyond_end: int

    @property
    def reclaimable(self) -> int:
        """Bytes of the file that certainly hold nothing; leaked ones may be lost guest data."""
        return self.free_inside + self.beyond_end


def breakdown(session: Session) -> Breakdown | None:
    """The use of the file's bytes; None before the map of the file is complete."""
    by_class = _bytes_by_class(session)
    if by_class is None:
        return None
    found = []
    for label, colour, members, tone, gloss in _KINDS:
        size = sum(by_class.get(member, 0) for member in members)
        if size:
            found.append(Share(label, colour, size, tone, gloss))
    return Breakdown(
        sum(by_class.values()),
        tuple(found),
        by_class.get(_C.FREE, 0),
        by_class.get(_C.LEAKED, 0),
        by_class.get(_C.BEYOND_END, 0),
    )


def _bytes_by_class(session: Session) -> dict[ClusterClass, int] | None:
    if session.space is not None:
        return session.space.by_class
    owners = session.owners
    if owners is None:
        return None
    sizes = {kind: count * owners.cluster_size for kind, count in owners.counts.items()}
    overhang = owners.total * owners.cluster_size - session.storage.size()
    if 0 < overhang < owners.cluster_size:  # the file ends inside its last cluster
        sizes[owners.class_of(owners.total - 1)] -= overhang
    return sizes
