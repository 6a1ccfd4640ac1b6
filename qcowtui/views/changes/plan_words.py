"""A plan in words: the same ones in the app and on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from qcow.text import safe

from ..tones import Tone
from ..units import plural, size

if TYPE_CHECKING:
    from qcow.edit.plan import Plan

#: Of a command line that is shown.
LONGEST_COMMAND = 4096
_SECTOR = 512


def written(plan: Plan) -> int:
    """Bytes written to all files."""
    return plan.written + plan.outcome.written_elsewhere


def length_words(plan: Plan, *, done: bool = False) -> str:
    """``The file keeps its 64 MiB.``; ``done``: in the past."""
    before, after = plan.length_before, plan.length_after
    if before == after:
        return f"The file {'kept' if done else 'keeps'} its {size(after)}."
    grows, shrinks = ("grew", "shrank") if done else ("grows", "shrinks")
    how = grows if after > before else shrinks
    if size(before) == size(after):
        return f"The file {how} by {size(abs(after - before))}."
    return f"The file {how} from {size(before)} to {size(after)}."


def undo_words(plan: Plan) -> str:
    """Whether there is a way back, and for how long."""
    if plan.verb == "undo":
        return "Redo makes it again, until something else changes the image."
    if plan.undoable:
        return "Can be undone until the space is reclaimed or another program writes."
    return f"Cannot be undone: {continued(plan.outcome.no_undo)}"


def continued(sentence: str) -> str:
    """A sentence as the rest of another one."""
    return sentence[:1].lower() + sentence[1:]


class PlanRow(NamedTuple):
    """``label`` is empty for a text that stands alone, a space where the one above goes on.

    Both are safe to show.
    """

    label: str
    text: str
    tone: Tone = Tone.PLAIN


def plan_rows(plan: Plan, reclaim_key: str) -> tuple[PlanRow, ...]:
    """Everything a person has to know of a plan before it is carried out, the gist first.

    ``reclaim_key``: the key that gives freed space back, for people.
    """
    outcome = plan.outcome
    rows = [PlanRow("", outcome.summary, Tone.STRONG)]
    rows += [PlanRow("warning", text, Tone.WARNING) for text in outcome.warnings]
    if plan.changes_nothing:
        return (*rows, PlanRow("", "There is nothing to change."))
    if plan.gained and not plan.returned:
        text = f"{size(plan.gained)} inside the file; {reclaim_key} then gives it back to the host"
        rows.append(PlanRow("frees", text, Tone.GOOD))
    if plan.returned:
        rows.append(PlanRow("gives back", f"{size(plan.returned)} to the host", Tone.GOOD))
    if outcome.loses:
        rows.append(PlanRow("loses", outcome.loses, Tone.WARNING))
    rows.append(PlanRow("guest", guest_words(plan)))
    rows.append(PlanRow("writes", _writes(plan)))
    tone = Tone.PLAIN if plan.undoable else Tone.BAD
    rows.append(PlanRow("undo", undo_words(plan), tone))
    rows += [PlanRow(" " if at else "does", step) for at, step in enumerate(outcome.steps)]
    rows.append(PlanRow("as typed", safe(plan.command, LONGEST_COMMAND), Tone.MUTED))
    return tuple(rows)


def guest_words(plan: Plan) -> str:
    """What changes for whoever reads the disk."""
    outcome = plan.outcome
    if plan.verb in ("undo", "redo"):
        return f"reads what it read {'before' if plan.verb == 'undo' else 'after'} that change"
    if plan.verb == "relink" and outcome.changed_bytes is None:
        return "what it will read cannot be told beforehand"
    if outcome.changed_bytes:
        return f"{size(outcome.changed_bytes)} of the disk read differently afterwards"
    if outcome.changed:
        total = sum(one.length for one in outcome.changed)
        return f"{size(total)} of the disk in {plural(len(outcome.changed), 'range')} are concerned"
    return "reads the same disk as before"


def _writes(plan: Plan) -> str:
    elsewhere = plan.outcome.written_elsewhere
    parts = [f"{size(plan.written)}, to free places of the file and its first 512 bytes"]
    if plan.written <= _SECTOR:
        parts = ["the first 512 bytes of the file" if plan.written else "nothing to this file"]
    if elsewhere:
        parts.append(f"{size(elsewhere)} to other files")
    if plan.extra and plan.extra > plan.length_after - plan.length_before:
        parts.append(f"needs {size(plan.extra)} of room meanwhile")
    return f"{', '.join(parts)}. {length_words(plan)}"


def queue_words(plans: Sequence[Plan]) -> str:
    """What several plans amount to: ``2 changes: free 30.1 MiB, write 384 KiB``."""
    parts = []
    if freed := sum(plan.gained for plan in plans):
        parts.append(f"free {size(freed)}")
    if returned := sum(plan.returned for plan in plans):
        parts.append(f"give back {size(returned)}")
    parts.append(f"write {size(sum(map(written, plans)))}")
    return f"{plural(len(plans), 'change')}: {', '.join(parts)}"


def done_words(plans: Sequence[Plan]) -> str:
    """What was done, in one line or two."""
    if len(plans) == 1 and plans[0].changes_nothing:
        return "There was nothing to change."
    summary = f"{plans[0].outcome.summary}\n" if len(plans) == 1 else ""
    parts = [f"wrote {size(sum(map(written, plans)))}"]
    if freed := sum(plan.gained for plan in plans):
        parts.append(f"freed {size(freed)}")
    if returned := sum(plan.returned for plan in plans):
        parts.append(f"gave {size(returned)} back")
    what = "" if len(plans) == 1 else f"{plural(len(plans), 'change')} made, "
    return f"{summary}Done: {what}{', '.join(parts)}."
