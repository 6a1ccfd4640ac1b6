"""What can be done about a damaged image, for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qcow.actions.repair import Case, Option, Remedy
from qcow.findings import Severity
from qcowtui.views.repair_view import besides, option_rows
from qcowtui.views.units import plural, size

from .plan_output import typed

if TYPE_CHECKING:
    from .diagnosing import Lost

_WIDTH = 96
_FIRST = 12  # columns of the labels of an option
#: Remedies shown in full; JSON has all.
_SHOWN = 20
#: Headers shown of those that would fit a file that lost its own.
_HEADERS = 3


def remedy_lines(case: Case, remedies: Sequence[Remedy], path: str) -> list[str]:
    """Every finding with its options, and how to go on."""
    found = [finding for finding in case.checked.findings if finding.severity >= Severity.LEAK]
    if not remedies:
        if not found:
            return ["There is nothing to repair."]
        lines = [f"Nothing is known that would repair {plural(len(found), 'finding')}:"]
        return lines + [row for finding in found for row in _wrapped(finding.what, "  - ")]
    lines = []
    for remedy in remedies[:_SHOWN]:
        lines += [*_remedy(remedy), ""]
    if len(remedies) > _SHOWN:
        rest = len(remedies) - _SHOWN
        lines += [f"And {plural(rest, 'more finding')}; --output=json has all of them.", ""]
    others = besides(case, remedies)
    if others:
        lines += ["Found besides, and cleared up with it where the above is the cause:"]
        lines += [row for f in others for row in _wrapped(f"{f.code}: {f.what}", "  - ")]
        lines += [""]
    return lines + next_steps(remedies, path)


def lost_lines(lost: Lost, path: str) -> list[str]:
    """A file without a header: the headers that would fit, and what is to be answered."""
    lines = _wrapped(
        "The file does not start with a qcow2 header. From what is left of the image these headers "
        "were worked out:"
    )
    for number, proposal in enumerate(lost.found.proposals[:_HEADERS], 1):
        header = proposal.header
        known = f"a disk of {size(proposal.size)}" if proposal.size else "a disk of unknown size"
        lines += _wrapped(
            f"version {header.version}, clusters of {size(header.cluster_size)}, {known} "
            f"({size(proposal.least)} to {size(proposal.most)}); a check finds "
            f"{plural(proposal.errors, 'error')} and {plural(proposal.leaks, 'leaked cluster')}",
            f"  {number}. ",
        )
        for sentence in proposal.evidence[:3]:
            lines += _labelled("because", sentence)
    if len(lost.found.proposals) > _HEADERS:
        less = plural(len(lost.found.proposals) - _HEADERS, "less likely one")
        lines.append(f"And {less}; --output=json has all of them.")
    lines += _wrapped(lost.question)
    choice = typed("qcowtui", "repair", "--plan", "--choice", "size=SIZE", path)
    return [*lines, f"  answer it:     {choice}"]


def next_steps(remedies: Sequence[Remedy], path: str) -> list[str]:
    """What the default does, what is left to decide, and what to type for each."""
    ready = [remedy for remedy in remedies if remedy.default is not None]
    open_ones = [remedy for remedy in remedies if remedy.default is None]
    lines = []
    if ready:
        losing = sum(not remedy.option(remedy.default or "").lossless for remedy in ready)
        treated = f"The default treats {len(ready)} of {plural(len(remedies), 'finding')}"
        if losing:
            lines += _wrapped(
                f"{treated}; {losing} of them cannot be treated without a loss, which is stated."
            )
        else:
            lines += _wrapped(f"{treated} and loses nothing.")
        lines += [
            f"  see it first:  {typed('qcowtui', 'repair', '--dry-run', path)}",
            f"  do it:         {typed('qcowtui', 'repair', '--apply', path)}",
            f"  take it back:  {typed('qcowtui', 'undo', path)}",
        ]
    if open_ones:
        lines += _wrapped(
            f"{plural(len(open_ones), 'finding')} {'waits' if len(open_ones) == 1 else 'wait'} for "
            "your choice, and nothing is done about it before:"
        )
        for remedy in open_ones[:_SHOWN]:
            choice = f"{remedy.id}={remedy.options[0].key if remedy.options else 'leave'}"
            lines.append(f"  {typed('qcowtui', 'repair', '--apply', '--choice', choice, path)}")
    return lines


def _remedy(remedy: Remedy) -> list[str]:
    lines = [f"{remedy.id}  [{remedy.finding.code}]", *_wrapped(remedy.finding.what, "  ")]
    for option in remedy.options:
        lines += _option(option, option.key == remedy.default)
    return lines


def _option(option: Option, default: bool) -> list[str]:
    mark = "*" if default else "-"
    doubt = "" if option.certain else " (not certain)"
    lines = _wrapped(f"{option.title}{doubt}", f"  {mark} {option.key}: ")
    for row in option_rows(option):
        lines += _labelled(row.label, row.text)
    return lines


def _labelled(label: str, text: str) -> list[str]:
    return _wrapped(text, f"      {label:<{_FIRST - 4}}")


def _wrapped(text: str, lead: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * min(len(lead), 14),
        break_on_hyphens=False,
        break_long_words=False,
    )
