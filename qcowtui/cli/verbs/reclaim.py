"""``reclaim``: give the space of what was replaced or deleted back to the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..editing import EDITING, EXITS, change
from ..options import Arguments, one_operand
from ..output import Output
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action


def run(arguments: Arguments, output: Output) -> int:
    return change(one_operand(arguments), arguments, output, _make, asks=True)


def _make() -> list[Action]:
    from qcow.actions.history import Reclaim

    return [Reclaim()]


VERB = Verb(
    "reclaim",
    "give the space of what was replaced or deleted back to the host",
    "FILE",
    EDITING,
    run,
    (
        ("--dry-run disk.qcow2", "How much the host gets back."),
        ("disk.qcow2", "Give it back. Changes made before can then no longer be undone."),
    ),
    (
        "Nothing moves and no table changes: holes are punched where no cluster is in use, and the "
        "file ends behind the last one that is.",
    ),
    EXITS,
)
