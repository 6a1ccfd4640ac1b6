"""How sure somebody has to be before plans are carried out: the more can be lost, the surer."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcow.edit.plan import Plan


class Strength(IntEnum):
    """What it takes to go ahead."""

    ENTER = 0  # nothing is lost, and it can be undone
    KEY = 1  # something goes that undo can bring back: a key of its own
    WORD = 2  # there is no way back: a word is typed


def strength(plans: Sequence[Plan]) -> Strength:
    """What the plans take together."""
    real = [plan for plan in plans if not plan.changes_nothing]
    if any(not plan.undoable for plan in real):
        return Strength.WORD
    return Strength.KEY if any(plan.outcome.loses for plan in real) else Strength.ENTER


def word(plans: Sequence[Plan]) -> str:
    """The word to type: the command of the first plan there is no way back from."""
    return next(plan.verb for plan in plans if not plan.undoable and not plan.changes_nothing)
