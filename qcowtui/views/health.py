"""What a check's numbers amount to, in the words people go by."""

from __future__ import annotations

from typing import NamedTuple

from qcow.findings import Severity
from qcow.inspect.check import CheckResult

from .tones import Tone
from .units import plural

#: The kind of finding that says an image was not shut down cleanly, and nothing worse.
POSTPONED = "QCOW-REFCOUNT-STALE"


class Health(NamedTuple):
    """``corruptions`` and ``leaks`` count places; ``postponed``: they are only counts not written.

    ``unchecked``: places that could not be checked.
    """

    corruptions: int
    leaks: int
    unchecked: int
    postponed: bool

    @property
    def corrupt(self) -> bool:
        """Whether something is wrong that must be repaired before anything writes."""
        return self.corruptions > 0 and not self.postponed

    @property
    def tone(self) -> Tone:
        if self.corrupt:
            return Tone.BAD
        if self.unchecked or self.leaks:
            return Tone.WARNING
        return Tone.NOTE if self.postponed else Tone.GOOD


def health(check: CheckResult) -> Health:
    """The result of a check without the drama: postponed refcounts are no corruption to people."""
    corruptions = check.corruptions + check.extra_corruptions
    grave = [found for found in check.findings if found.severity >= Severity.CORRUPTION]
    postponed = bool(grave) and all(found.code == POSTPONED for found in grave)
    leaks = 0 if postponed else check.leaks + check.extra_leaks
    return Health(corruptions, leaks, check.check_errors, postponed)


def health_words(found: Health) -> str:
    """One sentence, without a full stop."""
    if found.corrupt:
        text = plural(found.corruptions, "corruption")
        if found.leaks:
            text += f" and {plural(found.leaks, 'leaked cluster')}"
        text += ": fix before anything writes to this image"
    elif found.postponed:
        text = (
            "Not cleanly shut down: refcounts were postponed, QEMU rebuilds them; no data is lost"
        )
    elif found.leaks:
        leaked = plural(found.leaks, "leaked cluster")
        text = f"{leaked}: space only, after a look at what is in them"
    elif found.unchecked:
        text = "No errors in what could be checked"
    else:
        text = "No metadata errors found; guest content not verified"
    if found.unchecked:
        text += f" ({plural(found.unchecked, 'place')} could not be checked)"
    return text
