"""``clusters``: the file in host order, and what each run of clusters is."""

from __future__ import annotations

from .. import exit_codes
from ..opening import opened, require_qcow2
from ..options import COMMON, OUTPUTS, Arguments, one_operand, wants_json
from ..output import Output
from ..progress import progress_line
from ..verb import Verb


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    as_json = wants_json(arguments)
    with opened(path, arguments) as given:
        image = require_qcow2(given)
        from qcow.inspect.owners import scan_owners

        with progress_line(output) as progress:
            owners = scan_owners(image, progress=progress, keep_references=True)
        from ..cluster_rows import print_human, print_json

        (print_json if as_json else print_human)(image, owners, output)
    return exit_codes.OK


VERB = Verb(
    "clusters",
    "the file in host order: class, refcount and references of each run",
    "FILE",
    (*COMMON, *OUTPUTS),
    run,
    (
        ("disk.qcow2", "Where header, tables, data, leaks and free clusters lie."),
        ("--output=json disk.qcow2", "The same as a list of objects, offsets in bytes."),
    ),
    (
        "Refcount is what the image records, References how many pointers were found (255 stands "
        "for more as well). They differ where clusters are leaked or corrupt.",
    ),
)
