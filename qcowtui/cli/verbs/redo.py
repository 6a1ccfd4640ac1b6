"""``redo``: make the change again that undo took back."""

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
    from qcow.actions.history import Redo

    return [Redo()]


VERB = Verb(
    "redo",
    "make the change again that undo took back",
    "FILE",
    EDITING,
    run,
    (
        ("disk.qcow2", "After one undo or several: one step forward again."),
        ("--dry-run disk.qcow2", "Which change that would be."),
    ),
    ("It works as long as nothing else changed the image since the undo.",),
    EXITS,
)
