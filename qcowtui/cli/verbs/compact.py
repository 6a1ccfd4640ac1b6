"""``compact``: make an image as short as it can be, in place, with all its snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..editing import EDITING, EXITS, change
from ..options import Arguments, Option, one_operand
from ..output import Output
from ..qemu_size import parse_size
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action

_ZEROES = Option("zeroes", "z", help="Also give up the space of data that is all zeros")
_ORDER = Option("defragment", help="Also put the data into the order of the disk")
_KEEP = Option("no-reclaim", help="Only move: undo stays possible, and reclaim shortens the file")
_SPARE = Option(
    "spare", value="N", help="Room that may be taken meanwhile (default: by what is free)"
)


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    given = arguments.get(_SPARE.key)
    spare = None if given is None else parse_size(given, "spare room")

    def make() -> list[Action]:
        from qcow.actions.compact import Compact

        return [
            Compact(
                zeroes=arguments.has(_ZEROES.key),
                defragment=arguments.has(_ORDER.key),
                reclaim=not arguments.has(_KEEP.key),
                spare=spare,
            )
        ]

    return change(path, arguments, output, make, asks=True)


VERB = Verb(
    "compact",
    "make the file as short as it can be, in place, snapshots included",
    "FILE",
    (_ZEROES, _ORDER, _KEEP, _SPARE, *EDITING),
    run,
    (
        ("--dry-run disk.qcow2", "How much shorter the file would get."),
        ("-p --zeroes disk.qcow2", "Do it, and give up the space of zeros as well."),
    ),
    (
        "Data from the end of the file moves into holes; no second file is needed. The work goes "
        "in rounds, each of which leaves a sound image: after an interruption, run it again and "
        "it goes on. What was done before can then no longer be undone.",
    ),
    EXITS,
)
