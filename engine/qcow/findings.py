"""Findings: the one way this project says that something is notable, odd or wrong.

Opening, checking, auditing and following a chain all yield :class:`Finding` values.  What is
common to every finding of one kind (its stable code, meaning, consequence, what is safe to do next)
is a :class:`FindingKind`, declared once beside the code that finds it; the catalogue
(:func:`catalogue`) feeds the help and the documentation.
"""

from __future__ import annotations

from enum import IntEnum

from .record import record


class Severity(IntEnum):
    """How bad, in the words of qemu-img's exit codes; larger is worse."""

    INFO = 0  # worth knowing, nothing is wrong
    WARNING = 1  # odd or risky, no damage
    LEAK = 2  # space is wasted (exit 3)
    CORRUPTION = 3  # metadata is wrong: fix before writing (exit 2)
    ERROR = 4  # a structure cannot be used at all, something cannot be answered (exit 1)

    @property
    def label(self) -> str:
        return ("info", "warning", "leak", "corruption", "error")[self]


@record
class FindingKind:
    """All findings with one code.  Texts are plain sentences without image strings."""

    code: str  # stable, e.g. "QCOW-L2-UNALIGNED"
    severity: Severity
    title: str  # what, a short phrase
    meaning: str  # what it is and how it comes about
    consequence: str  # what follows for the guest's data
    next_step: str  # what is safe to do next, and whether it can be undone


_catalogue: dict[str, FindingKind] = {}


def kind(
    code: str, severity: Severity, title: str, meaning: str, consequence: str, next_step: str
) -> FindingKind:
    """Declare a kind of finding (module level, once per code)."""
    if code in _catalogue:
        raise ValueError(f"finding code {code} declared twice")
    declared = FindingKind(code, severity, title, meaning, consequence, next_step)
    _catalogue[code] = declared
    return declared


def catalogue() -> tuple[FindingKind, ...]:
    """Every kind declared by the modules imported so far, by code."""
    return tuple(_catalogue[code] for code in sorted(_catalogue))


@record
class Range:
    """``length`` bytes from byte ``start`` (of the file or of a guest disk: the context says)."""

    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


@record
class GuestRange:
    """Guest bytes of one state: ``state`` is ``"active"`` or ``"snapshot:ID"``."""

    start: int
    length: int
    state: str = "active"


@record
class Finding:
    """One root cause.  ``what`` is a full sentence, already safe to show.

    ``count`` is how many single places it was found in; ``host_ranges`` and ``guest_ranges`` list
    them coalesced, at most a few thousand (``truncated`` says if there were more).  ``examples``
    are up to about ten technical details, in the spelling of qemu-img where it has one.
    """

    kind: FindingKind
    what: str
    count: int = 1
    structure: str = ""  # "header", "L1 table", "snapshot table", ...
    host_ranges: tuple[Range, ...] = ()
    guest_ranges: tuple[GuestRange, ...] = ()
    truncated: bool = False
    examples: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        return self.kind.code

    @property
    def severity(self) -> Severity:
        return self.kind.severity


def worst(findings: tuple[Finding, ...] | list[Finding]) -> Severity | None:
    """The gravest severity present, or None without findings."""
    return max((finding.severity for finding in findings), default=None)
