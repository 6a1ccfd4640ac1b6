"""``relink``: point an image at its backing file's new name or place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..editing import BACKING, BACKING_FORMAT, EDITING, EXITS, change
from ..options import Arguments, CommandError, Option, one_operand
from ..output import Output
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action

_FORCE = Option("force", help="Also where the file is missing or cannot be told to be right")


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    if not arguments.has(BACKING.key):
        raise CommandError("Must specify backing file (-b)")

    def make() -> list[Action]:
        from qcow.actions.relink import Relink

        return [
            Relink(
                arguments.get(BACKING.key) or None,
                arguments.get(BACKING_FORMAT.key),
                arguments.has(_FORCE.key),
            )
        ]

    return change(path, arguments, output, make)


VERB = Verb(
    "relink",
    "point an image at its backing file's new name or place",
    "-b BACKING -F FMT FILE",
    (BACKING, BACKING_FORMAT, _FORCE, *EDITING),
    run,
    (
        ("-b images/base.qcow2 -F qcow2 overlay.qcow2", "The base was moved to another folder."),
        ("-b base.raw -F raw --dry-run overlay.qcow2", "Whether that file is the right one."),
    ),
    (
        "No data is copied, so the file has to hold what the old one held. It is read to find out; "
        "a file that is missing, of another format, or would change the disk is refused unless "
        "--force is given. To move to a different base and keep the disk, use rebase.",
        "A relative name is relative to the folder of FILE.",
    ),
    EXITS,
)
