"""Findings on the command line: as JSON members, and as paragraphs for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qcow.findings import Finding, GuestRange, Range, Severity
from qcow.text import safe
from qcowtui.views.units import plural, size

from .qemu_json import Json, JsonObject

_WIDTH = 96
_INDENT = "    "
#: Ranges and examples shown of one finding; JSON has all that are known.
_SHOWN = 4


def findings_json(findings: Iterable[Finding]) -> list[Json]:
    """See docs/json.md, "Findings"."""
    return [_members(finding) for finding in findings]


def _members(finding: Finding) -> JsonObject:
    kind = finding.kind
    return {
        "code": finding.code,
        "severity": finding.severity.label,
        "title": kind.title,
        "what": finding.what,
        "count": finding.count,
        "structure": finding.structure,
        "host-ranges": [{"start": r.start, "length": r.length} for r in finding.host_ranges],
        "guest-ranges": [
            {"state": _raw(r.state), "start": r.start, "length": r.length}
            for r in finding.guest_ranges
        ],
        "truncated": finding.truncated,
        "examples": list(finding.examples),
        "meaning": kind.meaning,
        "consequence": kind.consequence,
        "next-step": kind.next_step,
    }


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def finding_lines(finding: Finding) -> list[str]:
    """One finding: what, where, what follows, what is safe to do next."""
    times = f" ({plural(finding.count, 'place')})" if finding.count > 1 else ""
    head = f"{finding.severity.label.upper()} {finding.code}{times}"
    lines = [head, *_paragraph(finding.what)]
    if finding.guest_ranges and f"{finding.guest_ranges[-1].start:#x}" not in finding.what:
        lines += _paragraph(f"Guest data: {_guest_places(finding.guest_ranges)}")
    if finding.host_ranges:
        lines += _paragraph(f"In the file: {_host_places(finding.host_ranges)}")
    lines += [f"{_INDENT}{example}" for example in finding.examples[:_SHOWN]]
    if finding.severity > Severity.INFO:
        lines += _paragraph(f"{finding.kind.consequence} {finding.kind.next_step}")
    return lines


def _paragraph(text: str) -> list[str]:
    import textwrap  # most checks find nothing to say

    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _host_places(ranges: Sequence[Range]) -> str:
    shown = ", ".join(f"{r.start:#x} to {r.end:#x}" for r in ranges[:_SHOWN])
    return shown + _rest(len(ranges), sum(r.length for r in ranges))


def _guest_places(ranges: Sequence[GuestRange]) -> str:
    shown = ", ".join(
        f"{r.start:#x} to {r.start + r.length:#x}"
        + ("" if r.state == "active" else f" of {safe(r.state)}")
        for r in ranges[:_SHOWN]
    )
    return shown + _rest(len(ranges), sum(r.length for r in ranges))


def _rest(count: int, length: int) -> str:
    more = f" and {count - _SHOWN:,} more" if count > _SHOWN else ""
    return f"{more}; {size(length)} in all"
