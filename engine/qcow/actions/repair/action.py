"""The action ``repair``: the chosen remedies in one transaction, and one switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...edit.editor import Editor
from ...edit.mending import Mending
from ...edit.plan import Outcome
from ...edit.verify import View
from ...errors import EditRefused, VerificationError
from ...findings import Finding, FindingKind, GuestRange, Severity
from ...inspect.check import CheckResult
from ...inspect.check import kinds as K
from ...layout import problems as P
from ...text import plural, safe
from ..command_line import command_line
from .diagnosis import Case, choose, diagnose
from .lost_header import header_lost
from .mends import Mend
from .remedy import Option, Remedy


@dataclass(frozen=True)
class RepairImage:
    """Apply remedies: the defaults, changed by ``choices`` (id or question -> key or answer).

    ``only``: the ids of the findings to treat; None for all.  Raises EditRefused when nothing can
    be done without a choice, UsageError for a choice that does not exist.
    """

    choices: Mapping[str, str] = field(default_factory=dict)
    only: frozenset[str] | None = None
    verb = "repair"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        parts = ["--apply"]
        for one in sorted(self.only or ()):
            parts += ["--only", one]
        for key, value in self.choices.items():
            parts += ["--choice", f"{key}={value}"]
        return command_line("repair", *parts, path)

    def describe(self) -> dict[str, Any]:
        return {
            "verb": "repair",
            "choices": {safe(key): safe(value) for key, value in self.choices.items()},
            "only": None if self.only is None else sorted(map(safe, self.only)),
        }

    def run(self, editor: Editor) -> Outcome:
        lost = editor.mending
        case, remedies = diagnose(
            editor.image,
            chain=editor.chain(),
            answers=self.choices,
            only=self.only,
            cancel=editor.cancel,
        )
        if lost is not None:
            remedies = (header_lost(editor.image), *remedies)
        chosen = choose(remedies, self.choices, self.only)
        if not remedies:
            wrong = [f for f in case.checked.findings if f.severity >= Severity.CORRUPTION]
            if wrong:
                raise EditRefused(f"There is no remedy yet for this: {wrong[0].what}")
            return Outcome(summary="There is nothing to repair.", facts=_facts(case, [], []))
        if not chosen:
            raise EditRefused(
                f"{plural(len(remedies), 'finding')}, and each needs a choice: `repair --plan` "
                "shows what each choice keeps and loses."
            )
        _decided(case, remedies, chosen)
        if case.mending is not None:
            tables = (*(() if lost is None else lost.tables), *case.mending.tables)
            editor.mend(Mending(case.mending.header, tables))
        left = [remedy for remedy in remedies if not _treated(remedy, chosen)]
        tx = editor.begin_repair()
        for remedy, option in chosen:
            tx.step("repairing", 0, len(chosen), "findings")
            remedy.apply(tx, option)
        changes = tuple(change for _, option in chosen for change in option.changes)
        moved = any(option.moves for _, option in chosen)
        views = [_view(view, editor, changes) for view in tx.kept_views(moved=moved)]
        remains: list[Finding] = []

        def judge(result: CheckResult) -> None:
            _judge(result, case, left)
            remains.extend(_without_remedy(result, left))

        editor.commit(tx, views, judge)
        return Outcome(
            summary=f"Repairs {plural(len(chosen), 'finding')}"
            + (f"; {len(left)} left for you to decide." if left else "."),
            steps=tuple(f"{remedy.finding.what} {option.title}." for remedy, option in chosen),
            warnings=(
                *(f"Not repaired: {remedy.finding.what}" for remedy in left),
                *(f"There is no remedy yet for this: {finding.what}" for finding in remains),
            ),
            loses=" ".join(option.loses for _, option in chosen if option.loses),
            changed=changes,
            facts=_facts(case, chosen, left, remains),
        )


def _without_remedy(result: CheckResult, left: list[Remedy]) -> list[Finding]:
    """What a check of the result finds, beside what was left for a choice."""
    open_ = {remedy.finding.kind for remedy in left}
    return [
        finding
        for finding in result.findings
        if finding.severity >= Severity.CORRUPTION and finding.kind not in open_
    ]


def _treated(remedy: Remedy, chosen: list[tuple[Remedy, Option]]) -> bool:
    return any(
        remedy is done or remedy.id in done.instead_of or done.id in remedy.instead_of
        for done, _ in chosen
    )


def _decided(case: Case, remedies: tuple[Remedy, ...], chosen: list[tuple[Remedy, Option]]) -> None:
    """Raise EditRefused while something is open without which nothing can be counted.

    What an unreadable snapshot shares with others would be counted as theirs alone.
    """
    done = [remedy for remedy, _ in chosen]
    unusable = case.image.unusable
    for remedy in remedies:
        kind_ = remedy.finding.kind
        if remedy in done or not isinstance(remedy, Mend):
            continue
        if unusable is not None or kind_ in (P.SNAPSHOT_TABLE_INVALID, P.SNAPSHOT_ENTRY):
            raise EditRefused(
                f"{remedy.finding.what} Decide on that first (--choice {remedy.id}=...); "
                "`repair --plan` shows what each choice keeps and loses."
            )
    if unusable is not None:
        raise EditRefused(f"There is no remedy yet for this: {unusable.what}")


def _view(view: View, editor: Editor, changes: tuple[GuestRange, ...]) -> View:
    """The view with the ranges of its state that the remedies may change."""
    state, disk = "active", True
    if view.before is not None:
        snapshot = editor.image.snapshots[view.before]
        state, disk = snapshot.label, not snapshot.vm_state_size
    ranges = sorted((r.start, r.start + r.length) for r in changes if r.state == state)
    return view._replace(changed=tuple(ranges), disk=disk)


def _judge(result: CheckResult, case: Case, left: list[Remedy]) -> None:
    """Raise VerificationError when the result is wrong in a way, or more, than the image was.

    Damage that has no remedy, or that was left by choice, may stay as it was.
    """
    before = case.checked
    known = {finding.kind for finding in before.findings}
    wrong = [f for f in result.findings if f.severity >= Severity.CORRUPTION]
    new = [finding for finding in wrong if finding.kind not in known]
    if new:
        raise VerificationError(
            "The prepared repair did not pass its check: it was not made, the image is as it was. "
            f"{new[0].what}"
        )
    for remedy in left:
        kind = remedy.finding.kind
        if kind in _OUTSIDE and _count(result, kind) < _count(before, kind):
            raise EditRefused(
                f"{remedy.finding.what} What is repaired would be written there: decide on that "
                "first; `repair --plan` shows what each choice keeps and loses."
            )
    count = result.corruptions + result.extra_corruptions + result.check_errors
    if count > before.corruptions + before.extra_corruptions + before.check_errors:
        raise VerificationError(
            "The prepared repair has more errors than the image: it was not made, the image is as "
            "it was."
        )


#: What pointers lead to that the file does not have; it must not grow there unasked.
_OUTSIDE = (K.DATA_OUTSIDE, K.COMPRESSED_OUTSIDE, K.L2_TABLE_OUTSIDE)


def _count(result: CheckResult, kind: FindingKind) -> int:
    return sum(finding.count for finding in result.findings if finding.kind is kind)


def _facts(
    case: Case,
    chosen: list[tuple[Remedy, Option]],
    left: list[Remedy],
    remains: list[Finding] | None = None,
) -> dict[str, Any]:
    return {
        "errors-before": case.checked.corruptions + case.checked.extra_corruptions,
        "leaks-before": case.checked.leaks + case.checked.extra_leaks,
        "applied": [{"id": remedy.id, "option": option.key} for remedy, option in chosen],
        "left": [remedy.to_json() for remedy in left],
        "remains": [{"code": finding.code, "what": finding.what} for finding in remains or ()],
    }
