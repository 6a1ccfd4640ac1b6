"""A damaged image and what can be done about it, in words; the app and the command line share it.

Plain values: whatever a remedy needs of the image is read by :func:`diagnosed`, in a worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from qcow.findings import Finding, GuestRange, Severity
from qcow.jobs import CancelToken, ProgressCallback
from qcow.text import safe

from .changes.staging import Staged
from .selection import ACTIVE
from .tones import Tone
from .units import plural, size

if TYPE_CHECKING:
    from qcow.actions.repair import Case, Option, Remedy
    from qcow.edit.apply import Action
    from qcow.edit.mending import Mending
    from qcow.edit.plan import Plan
    from qcow.inspect.check import CheckResult
    from qcow.inspect.lost import LostImage, Proposal

    from .session import Session

#: Guest ranges named one by one, reasons and technical details listed.
_RANGES, _REASONS, _DETAILS = 2, 3, 10
_UNDO = "one key takes it all back, until space is reclaimed"
#: Findings of a wizard; the rest keep their defaults.
MAX_FINDINGS = 500


class Row(NamedTuple):
    """A label and its text, both safe to show."""

    label: str
    text: str
    tone: Tone = Tone.PLAIN


class OptionView(NamedTuple):
    """One way to treat a damage.  ``loss`` is a few words; ``rows`` say it all."""

    key: str
    title: str
    loss: str
    rows: tuple[Row, ...]


class FindingView(NamedTuple):
    """A damage and its options.  ``default`` is the key of the option that is taken unasked.

    ``about`` explains it, ``details`` are for who wants to know where.  ``places``: guest ranges.
    ``first``: what else is found depends on it, so a choice makes it worth looking again.
    """

    id: str
    what: str
    about: tuple[Row, ...]
    details: tuple[Row, ...]
    places: tuple[GuestRange, ...]
    options: tuple[OptionView, ...]
    default: str | None
    first: bool

    def option(self, key: str | None) -> OptionView | None:
        """The option with this key; None where it is left as it is."""
        return next((option for option in self.options if option.key == key), None)


class Diagnosed(NamedTuple):
    """What was found.  ``besides``: sentences about what has no remedy of its own.

    ``more``: findings that are not listed.  ``mending``: how a file is seen that lost its header.
    """

    findings: tuple[FindingView, ...]
    besides: tuple[str, ...]
    errors: int
    leaks: int
    more: int
    keys: frozenset[str]
    mending: Mending | None = None

    @property
    def summary(self) -> str:
        """What the check found and how many causes it has."""
        causes = len(self.findings) + self.more
        found = counted(self.errors, self.leaks)
        if self.mending is not None:
            found = "no header" if found == "none" else f"no header, and {found}"
        if not causes:
            return f"The check found {found}, and nothing is known that would repair it."
        noun = "finding" if causes == 1 else "findings"
        return f"The check found {found}. There is a remedy for {causes:,} {noun}."


def counted(errors: int, leaks: int) -> str:
    """``4 errors and 1 leaked cluster``, or ``none``."""
    parts = []
    if errors:
        parts.append(plural(errors, "error"))
    if leaks:
        parts.append(plural(leaks, "leaked cluster"))
    return " and ".join(parts) or "none"


def before_and_after(plan: Plan, check: CheckResult) -> str:
    """``4 errors and 1 leaked cluster → none``: of a repair that was made, and the check after."""
    facts = plan.outcome.facts
    before = counted(facts["errors-before"], facts["leaks-before"])
    after = counted(
        check.corruptions + check.extra_corruptions + check.check_errors,
        check.leaks + check.extra_leaks,
    )
    return f"{before} → {after}"


# ---- what the command line says, too


def option_rows(option: Option) -> tuple[Row, ...]:
    """What an option keeps, loses, writes and affects, and why it is offered."""
    loses = option.loses or "nothing"
    rows = [
        Row("keeps", option.keeps),
        Row("loses", loses, Tone.WARNING if option.loses else Tone.GOOD),
        Row("writes", option.writes),
    ]
    if option.changes:
        rows.append(Row("affects", guest_places(option.changes)))
    rows += [Row("because", sentence) for sentence in option.evidence[:_REASONS]]
    return tuple(rows)


def guest_places(ranges: Sequence[GuestRange]) -> str:
    """``guest data: 64 KiB at 0x20000``, the first ones and the sum."""
    shown = ", ".join(
        f"{size(r.length)} at {r.start:#x}" + ("" if r.state == ACTIVE else f" of {safe(r.state)}")
        for r in ranges[:_RANGES]
    )
    if len(ranges) <= _RANGES:
        return f"guest data: {shown}"
    every = size(sum(r.length for r in ranges))
    return f"guest data: {shown}, and {len(ranges) - _RANGES:,} more ranges; {every} in all"


def besides(case: Case, remedies: Iterable[Remedy]) -> list[Finding]:
    """What the check found that has no remedy of its own, from leaks on."""
    told = {remedy.finding.code for remedy in remedies}
    return [
        finding
        for finding in case.checked.findings
        if finding.severity >= Severity.LEAK and finding.code not in told
    ]


# ---- looking


def diagnosed(
    session: Session,
    choices: Mapping[str, str],
    mending: Mending | None,
    progress: ProgressCallback,
    cancel: CancelToken,
) -> Diagnosed:
    """Check the image of the file and find what can be done.  Nothing is written.

    ``mending``: how a file is seen that lost its header.  Raises Cancelled, QcowError.
    """
    from qcow.actions.repair import diagnose
    from qcow.actions.repair.lost_header import header_lost
    from qcow.edit.apply import Preview

    with Preview(
        session.file_image, mending=mending, gate=session.gate, progress=progress, cancel=cancel
    ) as preview:
        editor = preview.editor
        case, remedies = diagnose(
            editor.image, chain=editor.chain(), answers=choices, progress=progress, cancel=cancel
        )
        if mending is not None:
            remedies = (header_lost(editor.image), *remedies)
    checked = case.checked
    return Diagnosed(
        tuple(_finding(remedy) for remedy in remedies[:MAX_FINDINGS]),
        tuple(finding.what for finding in besides(case, remedies)),
        checked.corruptions + checked.extra_corruptions + checked.check_errors,
        checked.leaks + checked.extra_leaks,
        max(0, len(remedies) - MAX_FINDINGS),
        frozenset(key for remedy in remedies for key in (remedy.id, *remedy.questions)),
        mending,
    )


def _finding(remedy: Remedy) -> FindingView:
    from qcow.actions.repair.mends import Mend

    finding = remedy.finding
    about = [Row("cause", finding.kind.meaning)]
    if finding.guest_ranges:
        about.append(Row("hits", guest_places(finding.guest_ranges)))
    return FindingView(
        remedy.id,
        finding.what,
        tuple(about),
        tuple(_details(remedy)),
        finding.guest_ranges or tuple(r for o in remedy.options[:1] for r in o.changes),
        tuple(_option(remedy, option) for option in remedy.options),
        remedy.default,
        isinstance(remedy, Mend),
    )


def _details(remedy: Remedy) -> Iterator[Row]:
    from .findings_view import host_words

    finding = remedy.finding
    yield Row("named", f"{finding.code}, {remedy.id}", Tone.MUTED)
    yield Row("follows", finding.kind.consequence)
    if finding.host_ranges:
        yield Row("in the file", host_words(finding.host_ranges, finding.truncated), Tone.MUTED)
    for number, example in enumerate(finding.examples[:_DETAILS]):
        yield Row(" " if number else "the check", safe(example, 200), Tone.MUTED)


def _option(remedy: Remedy, option: Option) -> OptionView:
    words = ["loses nothing" if option.lossless else "loses something"]
    if not option.certain:
        words.append("not certain")
    if option.key == remedy.default:
        words.append("proposed")
    rows = option_rows(option)
    return OptionView(
        option.key, option.title, ", ".join(words), (*rows[:3], Row("undo", _UNDO), *rows[3:])
    )


# ---- files that lost their header


def scan(session: Session, progress: ProgressCallback, cancel: CancelToken) -> LostImage:
    """What is left of a qcow2 image in a file that is none.  Raises EditRefused, Cancelled."""
    from qcow.errors import EditRefused
    from qcow.inspect.lost import scan_lost

    found = scan_lost(session.file_image.storage, progress=progress, cancel=cancel)
    if not found.proposals:
        raise EditRefused("No structures of a qcow2 image were found: it seems to be a raw image.")
    return found


def proposal_words(found: LostImage) -> str:
    """The likeliest header of such a file, and why."""
    best = found.proposals[0]
    reasons = "\n".join(best.evidence[:2])  # the check itself is told below
    found_then = counted(best.errors, best.leaks) if best.errors or best.leaks else "no damage"
    return (
        f"The file does not start with a qcow2 header, but what follows one is there. Version "
        f"{best.header.version} with clusters of {size(best.header.cluster_size)} fits; a check "
        f"then finds {found_then}.\n{reasons}"
    )


def proposal_choice(proposal: Proposal) -> str:
    """One header among several that could be made, in at most 72 characters."""
    header = proposal.header
    faults = f"{proposal.errors:,} errors, {proposal.leaks:,} leaks"
    parts = [
        f"v{header.version}",
        size(header.cluster_size) + (" extended" if header.extended_l2 else ""),
        f"{1 << proposal.geometry.refcount_order} bits",
        f"{header.l1_table_offset:#x}",
        faults if proposal.errors or proposal.leaks else "no damage",
    ]
    return " · ".join(parts)


def plan_mended(
    session: Session,
    action: Action,
    mending: Mending,
    progress: ProgressCallback,
    cancel: CancelToken,
) -> Staged:
    """Plan a repair of a file that is no image without ``mending``.  Raises as planning does."""
    from qcow.edit.apply import Preview

    preview = Preview(
        session.file_image, mending=mending, gate=session.gate, progress=progress, cancel=cancel
    )
    try:
        return Staged(action, preview.add(action), preview)
    except BaseException:
        preview.close()
        raise
