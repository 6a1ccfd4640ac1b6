"""``map``: which ranges of the guest disk are stored where."""

from __future__ import annotations

from ..opening import gate_of, lock_mode, opened, require_readable
from ..options import COMMON, FOLLOW, OUTPUTS, Arguments, Option, one_operand, wants_json
from ..output import Output
from ..qemu_size import parse_size
from ..verb import Verb


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    as_json = wants_json(arguments)
    start = parse_size(arguments.get("start-offset") or "0", "start offset")
    given = arguments.get("max-length")
    length = None if given is None else parse_size(given, "max length")
    with opened(path, arguments) as image:
        require_readable(image)
        from qcow.chain import open_chain

        from ..qemu_map import print_human, print_json

        with open_chain(image, gate_of(arguments), lock=lock_mode(arguments)) as chain:
            show = print_json if as_json else print_human
            return show(chain, start, length, output)


VERB = Verb(
    "map",
    "which guest ranges are stored where, through the backing chain",
    "FILE",
    (
        *COMMON,
        *OUTPUTS,
        Option("start-offset", "s", "OFFSET", "Begin at this guest offset (k, M, G, T suffixes)"),
        Option("max-length", "l", "LENGTH", "Go on for this many bytes"),
        FOLLOW,
    ),
    run,
    (
        ("--output=json disk.qcow2", "Every range: present, zero, data, layer (depth), offset."),
        ("-s 1G -l 16M disk.qcow2", "What the guest sees from 1 GiB on, if stored plainly."),
    ),
    (
        "The table names the file and the place of every range that is stored as it is; with "
        "compressed or encrypted clusters it ends with an error, as in qemu-img: JSON has them "
        "all. Backing files are opened if they lie in the image's own folder and their format is "
        "stated.",
    ),
)
