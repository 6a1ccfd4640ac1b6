"""What a piece of text means for the eye; the screen decides on the colour of each tone."""

from __future__ import annotations

from enum import Enum

from qcow.findings import Severity


class Tone(Enum):
    """From quiet to loud.  A tone is never the only channel: the words say the same."""

    PLAIN = "plain"
    MUTED = "muted"  # glosses, units, what may be skipped
    STRONG = "strong"  # headings, the current thing
    GOOD = "good"
    NOTE = "note"  # worth knowing
    WARNING = "warning"  # odd or risky
    BAD = "bad"  # damage, or something that cannot be had


_BY_SEVERITY = {
    Severity.INFO: Tone.NOTE,
    Severity.WARNING: Tone.WARNING,
    Severity.LEAK: Tone.WARNING,
    Severity.CORRUPTION: Tone.BAD,
    Severity.ERROR: Tone.BAD,
}


def severity_tone(severity: Severity) -> Tone:
    """The tone in which a finding of that severity is shown."""
    return _BY_SEVERITY[severity]
