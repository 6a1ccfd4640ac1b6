"""``flatten``: make an image independent of its backing files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..editing import CHANGE_SNAPSHOTS, EDITING, EXITS, change
from ..options import Arguments, one_operand
from ..output import Output
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action


def run(arguments: Arguments, output: Output) -> int:
    def make() -> list[Action]:
        from qcow.actions.flatten import Flatten

        return [Flatten(keep_snapshots=not arguments.has(CHANGE_SNAPSHOTS.key))]

    return change(one_operand(arguments), arguments, output, make)


VERB = Verb(
    "flatten",
    "copy everything from the backing files, so that none is needed",
    "FILE",
    (CHANGE_SNAPSHOTS, *EDITING),
    run,
    (
        ("--dry-run overlay.qcow2", "How much would be copied."),
        ("-p --follow overlay.qcow2", "Do it, wherever the backing files are."),
    ),
    (
        "The disk stays the same. The work goes in batches, each of which leaves a sound image: "
        "after an interruption, run it again and it goes on.",
    ),
    EXITS,
)
