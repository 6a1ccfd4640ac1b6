"""``snapshot -l``: the internal snapshots of an image."""

from __future__ import annotations

from qcow.image.image import Image

from .. import exit_codes
from ..opening import opened, require_readable
from ..options import (
    COMMON,
    OUTPUTS,
    Arguments,
    Option,
    one_operand,
    wants_json,
)
from ..output import Output
from ..qemu_human import snapshot_table
from ..qemu_info import snapshot_info
from ..qemu_json import Json, dumps, qdict
from ..verb import Verb


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    as_json = wants_json(arguments)
    with opened(path, arguments) as image:
        require_readable(image)
        snapshots = image.snapshots if isinstance(image, Image) else ()
        if as_json:
            listed: list[Json] = [qdict(snapshot_info(snapshot)) for snapshot in snapshots]
            output.line(dumps(listed))
        else:
            output.lines(snapshot_table(snapshots))
    return exit_codes.OK


def _changes(letter: str, doing: str) -> Option:
    return Option(
        "",
        letter,
        "SNAPSHOT",
        refused=f"snapshot -{letter} ({doing} a snapshot) changes the image; this version only "
        "looks.",
    )


VERB = Verb(
    "snapshot",
    "the internal snapshots of an image",
    "-l FILE",
    (
        Option("list", "l", help="List the snapshots (so it does without this option)"),
        *COMMON,
        *OUTPUTS,
        Option("quiet", "q", help="Accepted: there is nothing to keep quiet about"),
        _changes("a", "apply"),
        _changes("c", "create"),
        _changes("d", "delete"),
    ),
    run,
    (
        ("-l disk.qcow2", "ID, name, VM state size, date and clock of each."),
        ("-l --output=json disk.qcow2", "The same as a list of objects, empty without snapshots."),
    ),
    ("Opens no other file. `qcowtui space` says how many bytes each snapshot alone holds.",),
)
