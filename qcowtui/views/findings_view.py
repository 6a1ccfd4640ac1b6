"""Findings for the screen: worst first, one row for each cause, with everything that follows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from qcow.findings import Finding, GuestRange, Range, Severity

from .health import POSTPONED, health, health_words
from .selection import ACTIVE, Selection, select_guest, select_host
from .session import Part, PartState, Session
from .states import state_name
from .tones import Tone, severity_tone
from .units import offset, plural, size

#: Places and examples listed in the details.
_MAX_LISTED = 8

_WORDS = {
    Severity.ERROR: "ERROR",
    Severity.CORRUPTION: "CORRUPT",
    Severity.LEAK: "LEAK",
    Severity.WARNING: "WARNING",
    Severity.INFO: "NOTE",
}


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One cause.  All texts are safe to show."""

    finding: Finding
    severity: str  # in capitals
    tone: Tone
    what: str
    count: str  # ``6 places``; empty for a single one
    hits: str  # ``hits 96 KiB``: guest data of all states, summed; empty when there is none


class _Spans:
    """Ranges that do not overlap each other, to be asked again and again."""

    def __init__(self, spans: Iterable[tuple[int, int]]) -> None:
        ordered = sorted(spans)
        self._starts = [start for start, _ in ordered]
        self._stops = [stop for _, stop in ordered]

    def overlaps(self, start: int, stop: int) -> bool:
        """Whether any byte of ``[start, stop)`` is in one of them."""
        before = bisect_left(self._starts, stop)
        return before > 0 and self._stops[before - 1] > start


def _by_state(ranges: Iterable[GuestRange]) -> dict[str, _Spans]:
    states: dict[str, list[tuple[int, int]]] = {}
    for one in ranges:
        states.setdefault(one.state, []).append((one.start, one.start + one.length))
    return {state: _Spans(spans) for state, spans in states.items()}


class FindingsView:
    """All findings of a session, worst first."""

    def __init__(self, session: Session, filter: str = "") -> None:
        self._session = session
        ordered = sorted(session.findings, key=lambda found: (-found.severity, -found.count))
        self.total = len(ordered)
        wanted = filter.casefold()
        self.rows: tuple[FindingRow, ...] = tuple(
            _row(found) for found in ordered if wanted in _haystack(found)
        )
        self._hosts = [
            _Spans((one.start, one.end) for one in row.finding.host_ranges) for row in self.rows
        ]
        self._guests = [_by_state(row.finding.guest_ranges) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def places(self, position: int) -> list[Selection]:
        """Where a finding is on the map: a place for each range, host clusters before guest ones.

        Without a usable geometry there are none.
        """
        finding = self.rows[position].finding
        image = self._session.qcow2
        if image is None or image.geometry is None:
            return []
        bits, end = image.geometry.cluster_bits, self._session.storage.size()
        hosts = [
            select_host(found.start >> bits)
            for found in finding.host_ranges
            if 0 <= found.start < end
        ]
        return hosts or [
            select_guest(found.start, found.state)
            for found in finding.guest_ranges
            if found.state != ACTIVE or found.start < image.virtual_size
        ]

    def about(self, place: Selection) -> frozenset[int]:
        """The positions of the findings that concern the selected cluster."""
        size = self._session.cluster_size
        found = set()
        if place.host_cluster is not None:
            start = place.host_cluster * size
            found |= {n for n, hit in enumerate(self._hosts) if hit.overlaps(start, start + size)}
        if place.guest_offset is not None:
            start = place.guest_offset
            found |= {
                n
                for n, hits in enumerate(self._guests)
                if place.state in hits and hits[place.state].overlaps(start, start + size)
            }
        return frozenset(found)

    def details(self, position: int) -> tuple[tuple[str, str], ...]:
        """(heading, text) pairs that say everything about one finding."""
        return tuple(self._details(self.rows[position].finding))

    def _details(self, finding: Finding) -> Iterator[tuple[str, str]]:
        kind = finding.kind
        yield "", _for_screen(finding.what)
        yield "what it is", kind.meaning
        if finding.guest_ranges:
            yield "guest data hit", self._guest_words(finding.guest_ranges, finding.truncated)
        if finding.host_ranges:
            yield "in the file", host_words(finding.host_ranges, finding.truncated)
        yield "what follows", kind.consequence
        yield "what to do", _for_screen(kind.next_step)
        if finding.examples:
            yield "examples", "\n".join(finding.examples[:_MAX_LISTED])
        yield "code", kind.code

    def _guest_words(self, ranges: Sequence[GuestRange], truncated: bool) -> str:
        by_state: dict[str, list[GuestRange]] = {}
        for found in ranges:
            by_state.setdefault(found.state, []).append(found)
        parts = []
        for state, hit in by_state.items():
            listed = ", ".join(
                f"{offset(one.start)}-{offset(one.start + one.length)}" for one in hit[:_MAX_LISTED]
            )
            more = len(hit) - _MAX_LISTED
            rest = f" and {plural(more, 'more range', 'more ranges')}" if more > 0 else ""
            total = size(sum(one.length for one in hit))
            parts.append(f"{total} of {self._state(state)}: {listed}{rest}")
        return "; ".join(parts) + (" (and more)" if truncated else "")

    def _state(self, label: str) -> str:
        image = self._session.qcow2
        if label == ACTIVE or image is None:
            return "the active disk"
        return f"snapshot {state_name(image, label)}"


def host_words(ranges: Sequence[Range], truncated: bool = False) -> str:
    """``3 ranges, 192 KiB: 0x50000-0x60000, ...``."""
    listed = ", ".join(f"{offset(one.start)}-{offset(one.end)}" for one in ranges[:_MAX_LISTED])
    more = len(ranges) - _MAX_LISTED
    rest = f" and {more:,} more" if more > 0 else ""
    total = size(sum(one.length for one in ranges))
    return f"{plural(len(ranges), 'range')}, {total}: {listed}{rest}" + (
        " (and more)" if truncated else ""
    )


def check_words(session: Session) -> tuple[str, str, Tone]:
    """(word, sentence, tone) of the check's result, in the words of qemu-img's exit codes."""
    failure = session.failures.get(Part.CHECK)
    if failure is not None:
        return "NOT CHECKED", failure, Tone.BAD
    result = session.check
    if session.qcow2 is None:
        return "NOT CHECKED", "A raw image has no metadata that could be checked.", Tone.MUTED
    if result is None:
        running = session.state_of(Part.CHECK) is PartState.PARTIAL
        return ("CHECKING" if running else "NOT CHECKED"), "", Tone.MUTED
    known = health(result, session.triage)
    word = "OK"
    if known.corrupt:
        word = "CORRUPT"
    elif known.unchecked:
        word = "INCOMPLETE"
    elif known.postponed:
        word = "DIRTY"
    elif known.leaks:
        word = "LOST DATA" if known.lost else "LEAKS"
    return word, f"{health_words(known)}.", known.tone


def _row(finding: Finding) -> FindingRow:
    hits = sum(found.length for found in finding.guest_ranges)
    word, tone = _WORDS[finding.severity], severity_tone(finding.severity)
    if finding.code == POSTPONED:  # expected after a crash: no reason for alarm
        word, tone = "DIRTY", Tone.NOTE
    return FindingRow(
        finding,
        word,
        tone,
        finding.kind.title,
        plural(finding.count, "place") if finding.count > 1 else "",
        f"hits {size(hits)}" if hits else "",
    )


def _for_screen(text: str) -> str:
    """The engine's words with the key in the place of the command line's option."""
    return text.replace("--follow", "f")


def _haystack(finding: Finding) -> str:
    words = (finding.code, finding.kind.title, finding.what, _WORDS[finding.severity])
    return "\n".join(words).casefold()
