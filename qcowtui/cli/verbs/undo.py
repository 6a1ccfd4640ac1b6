"""``undo``: take the last change of an image back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..editing import EDITING, EXITS, change
from ..options import Arguments, one_operand
from ..output import Output
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action


def run(arguments: Arguments, output: Output) -> int:
    return change(one_operand(arguments), arguments, output, _make)


def _make() -> list[Action]:
    from qcow.actions.history import Undo

    return [Undo()]


VERB = Verb(
    "undo",
    "take the last change back",
    "FILE",
    EDITING,
    run,
    (
        ("disk.qcow2", "The disk and its snapshots are again what they were before the change."),
        ("--dry-run disk.qcow2", "Which change that would be."),
    ),
    (
        "One write brings the earlier state back. It works until the space of that state was given "
        "back (reclaim) or another program wrote to the image; then it says so and does nothing. "
        "`qcowtui history` lists what can be taken back.",
    ),
    EXITS,
)
