"""What a check's numbers amount to, in the words people go by."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qcow.findings import Severity
from qcow.inspect.check import CheckResult

from .tones import Tone
from .units import count, plural

if TYPE_CHECKING:
    from qcow.inspect.triage import Triage

#: The kind of finding that says an image was not shut down cleanly, and nothing worse.
POSTPONED = "QCOW-REFCOUNT-STALE"


class Health(NamedTuple):
    """``corruptions`` and ``leaks`` count places; ``postponed``: they are only counts not written.

    ``unchecked``: places that could not be checked.  ``lost``: leaked clusters that look like guest
    data the way to which was lost; ``unsure``: others that cannot be told from guest data.  Both
    are None until the leaks were looked into.
    """

    corruptions: int
    leaks: int
    unchecked: int
    postponed: bool
    lost: int | None = None
    unsure: int | None = None

    @property
    def corrupt(self) -> bool:
        """Whether something is wrong that must be repaired before anything writes."""
        return self.corruptions > 0 and not self.postponed

    @property
    def tone(self) -> Tone:
        if self.corrupt or self.lost:
            return Tone.BAD
        if self.unchecked or self.leaks:
            return Tone.WARNING
        return Tone.NOTE if self.postponed else Tone.GOOD


def health(check: CheckResult, leaked: Triage | None = None) -> Health:
    """The result of a check without the drama: postponed refcounts are no corruption to people.

    ``leaked``: what the leaked clusters hold, once that is known.
    """
    corruptions = check.corruptions + check.extra_corruptions
    grave = [found for found in check.findings if found.severity >= Severity.CORRUPTION]
    postponed = bool(grave) and all(found.code == POSTPONED for found in grave)
    leaks = 0 if postponed else check.leaks + check.extra_leaks
    found = Health(corruptions, leaks, check.check_errors, postponed)
    if leaked is None or not leaks:
        return found
    from qcow.inspect.triage import LeakClass

    lost = len(leaked.of(LeakClass.ORPHAN_L2, LeakClass.GUEST_DATA, LeakClass.HOLE_DATA))
    return found._replace(lost=lost, unsure=len(leaked.locked) - lost)


def health_words(found: Health) -> str:
    """One sentence, without a full stop."""
    if found.corrupt:
        text = plural(found.corruptions, "corruption")
        if found.leaks:
            text += f" and {plural(found.leaks, 'leaked cluster')}"
            if found.lost:
                text += f", {count(found.lost)} of them lost guest data by their looks"
        text += ": fix before anything writes to this image"
    elif found.postponed:
        text = (
            "Not cleanly shut down: refcounts were postponed, QEMU rebuilds them; no data is lost"
        )
    elif found.leaks:
        text = f"{plural(found.leaks, 'leaked cluster')}: {_leak_words(found)}"
    elif found.unchecked:
        text = "No errors in what could be checked"
    else:
        text = "No metadata errors found; guest content not verified"
    if found.unchecked:
        text += f" ({plural(found.unchecked, 'place')} could not be checked)"
    return text


def _leak_words(found: Health) -> str:
    if found.lost is None or found.unsure is None:
        return "wasted space, or lost guest data"
    if found.lost:
        which = "all look" if found.lost == found.leaks else f"{count(found.lost)} look"
        return f"{which} like lost guest data, so nothing may reclaim them"
    if found.unsure:
        which = "all" if found.unsure == found.leaks else count(found.unsure)
        return f"{which} of unknown content, perhaps guest data"
    return "wasted space, none of it is guest data"
