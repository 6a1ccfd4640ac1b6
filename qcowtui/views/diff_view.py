"""The differences between two states as a list of guest ranges."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from .session import Part, PartState, Session
from .tones import Tone
from .units import offset, percent, plural


@dataclass(frozen=True, slots=True)
class RangeRow:
    """Guest bytes that differ: ``start`` and ``length``."""

    start: int
    length: int

    @property
    def words(self) -> str:
        """``0x140000-0x150000``."""
        return f"{offset(self.start)}-{offset(self.start + self.length)}"


@dataclass(frozen=True, slots=True)
class DiffView:
    """``title`` names the states (safe to show), ``verdict`` sums up what differs."""

    title: str
    verdict: str
    tone: Tone = Tone.PLAIN
    rows: tuple[RangeRow, ...] = ()
    unlisted: int = 0  # ranges that are on the map but not in ``rows``

    def position(self, guest_offset: int | None) -> int | None:
        """The row of the range that a guest offset is in."""
        if guest_offset is None:
            return None
        at = bisect_right(self.rows, guest_offset, key=lambda row: row.start) - 1
        inside = at >= 0 and guest_offset < self.rows[at].start + self.rows[at].length
        return at if inside else None


def diff_view(session: Session, key: str = "d") -> DiffView:
    """What is known of the difference that is on the map; ``key`` is what picks the states."""
    found = session.difference
    failure = session.failures.get(Part.DIFF)
    if failure is not None:
        return DiffView("" if found is None else found.title, failure, Tone.BAD)
    if found is None:
        hint = f" Press {key} to pick two of them." if key else ""
        return DiffView("", f"No states are compared.{hint}", Tone.MUTED)
    rows = tuple(RangeRow(*one) for one in found.listed)
    verdict = found.verdict
    if found.ranges:
        disk = max(1, found.pyramid.total * found.cluster_size)
        verdict += f", {percent(found.differing, disk)} of the disk"
    if session.state_of(Part.DIFF) is not PartState.COMPLETE:
        verdict += " so far"
    return DiffView(found.title, verdict, Tone.PLAIN, rows, found.ranges - len(rows))


def more_words(view: DiffView) -> str:
    """What is said below a list that is not complete."""
    if not view.unlisted:
        return ""
    return f"and {plural(view.unlisted, 'more range')}; all of them are on the map"
