"""A plan and its result, for a person."""

from __future__ import annotations

import shlex
import textwrap

from qcow.edit.plan import Plan
from qcow.text import safe
from qcowtui.views.changes.plan_words import continued, length_words, undo_words, written
from qcowtui.views.units import size

_WIDTH = 96


def plan_lines(plan: Plan, path: str) -> list[str]:
    """What would be done, before it is."""
    outcome = plan.outcome
    lines = _wrapped(outcome.summary)
    if plan.changes_nothing:
        return [*lines, *_warnings(plan), "There is nothing to change."]
    for step in outcome.steps:
        lines += _wrapped(step, "  - ")
    if outcome.changed_bytes:
        lines.append(f"Changes {size(outcome.changed_bytes)} of what the guest reads.")
    writes = f"Writes {size(written(plan))}. " if written(plan) else ""
    lines += [f"{writes}{length_words(plan)}", *_gains(plan, path)]
    lines += [*_warnings(plan), *_wrapped(undo_words(plan))]
    if outcome.loses:
        lines += _wrapped(f"Loses {continued(outcome.loses)}")
    return lines


def result_lines(plan: Plan, path: str, *, shown: bool, undo: bool) -> list[str]:
    """What was done; ``shown``: the plan was before.  ``undo``: a way back was kept."""
    lines = [] if shown else [*_wrapped(plan.outcome.summary), *_warnings(plan)]
    if plan.changes_nothing:
        return [*lines, "There was nothing to change."]
    done = f"Done: wrote {size(written(plan))}." if written(plan) else "Done."
    lines += [f"{done} {length_words(plan, done=True)}", *_gains(plan, path)]
    if not plan.undoable:
        lines += [] if shown else _wrapped(undo_words(plan))
    elif undo:
        back = "redo" if plan.verb == "undo" else "undo"
        lines.append(f"{back}: {typed('qcowtui', back, path)}")
    return lines


def typed(*words: str) -> str:
    """A command line that can be typed, made safe to show."""
    return safe(shlex.join(words), 4096)


def _gains(plan: Plan, path: str) -> list[str]:
    lines = []
    if plan.gained and not plan.returned:
        reclaim = typed("qcowtui", "reclaim", path)
        lines.append(f"Frees {size(plan.gained)}; `{reclaim}` gives it back to the host.")
    if plan.returned:
        lines.append(f"Gives {size(plan.returned)} back to the host.")
    return lines


def _warnings(plan: Plan) -> list[str]:
    return [row for text in plan.outcome.warnings for row in _wrapped(f"Warning: {text}")]


def _wrapped(text: str, lead: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_on_hyphens=False,
        break_long_words=False,
    )
