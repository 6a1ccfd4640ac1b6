"""``diff``: which ranges differ between two states of an image."""

from __future__ import annotations

from qcow.chain import open_chain
from qcow.inspect.states import resolve_state
from qcow.storage.gate import Gate

from .. import exit_codes
from ..opening import gate_of, lock_mode, opened, require_readable
from ..options import COMMON, FOLLOW, OUTPUTS, Arguments, CommandError, Option, wants_json
from ..output import Output
from ..progress import progress_line
from ..verb import Verb

_CONTENT = "content"


def run(arguments: Arguments, output: Output) -> int:
    if len(arguments.operands) != 3:
        raise CommandError("Expecting one image file name and two states")
    path, *states = arguments.operands
    as_json = wants_json(arguments)
    by_content = arguments.has(_CONTENT)
    with opened(path, arguments) as image:
        require_readable(image)
        from qcow.inspect.diff import diff

        from ..range_rows import print_ranges_human, print_ranges_json

        gate = _gate(arguments, states, by_content=by_content)
        with open_chain(image, gate, lock=lock_mode(arguments)) as chain:
            one, other = (resolve_state(image, chain, state) for state in states)
            with progress_line(output) as progress:
                found = diff(one, other, by_content=by_content, progress=progress)
                (print_ranges_json if as_json else print_ranges_human)(found, output)
    return exit_codes.OK


def _gate(arguments: Arguments, states: list[str], *, by_content: bool) -> Gate:
    """Tables say how states of one file differ: others are opened only for what lies in them."""
    if by_content or arguments.has(FOLLOW.key) or any(s.startswith("layer:") for s in states):
        return gate_of(arguments)
    return Gate.closed()


VERB = Verb(
    "diff",
    "which guest ranges differ between two states of an image",
    "FILE STATE STATE",
    (
        *COMMON,
        *OUTPUTS,
        Option(_CONTENT, help="Read and compare what is mapped differently, sector by sector"),
        FOLLOW,
    ),
    run,
    (
        ("disk.qcow2 snapshot:before active", "What the guest wrote since the snapshot."),
        ("--output=json disk.qcow2 snapshot:1 snapshot:2", "A list of {start, length} in bytes."),
        ("overlay.qcow2 layer:0 layer:1", "What the overlay changes over its backing file."),
    ),
    (
        "A STATE is active (the disk now), snapshot:ID-or-NAME, or layer:N (the disk as seen from "
        "the N-th file of the backing chain down; layer:0 is FILE itself).",
        "Without --content the mappings are compared: exact to the cluster (subcluster) and fast, "
        "but a cluster rewritten with what it held counts as different.",
    ),
)
