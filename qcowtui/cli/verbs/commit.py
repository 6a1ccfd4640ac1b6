"""``commit``: write what an overlay holds to its backing file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcow.errors import EditRefused
from qcow.text import safe

from ..editing import EDITING, EXITS, change
from ..opening import gate_of, lock_mode, opened
from ..options import Arguments, CommandError, Option, one_operand
from ..output import Output
from ..qemu_size import parse_size
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action

_BASE = Option(
    "base", "b", "BASE", "The file to commit to, of the chain (default: the next); as -d"
)
_DEPTH = Option("depth", value="N", help="The same by its place: 1 is the backing file")
_DROP = Option("drop", "d", help="Do not empty FILE afterwards")
_DEPENDENTS = Option(
    "allow-dependents", help="Even where other images or snapshots read the base and would change"
)
_CACHE = Option("cache", "t", "MODE", "Accepted as in qemu-img, and without effect")
_RATE = Option(
    "rate-limit",
    "r",
    "RATE",
    refused="A rate limit (-r) is not supported: `ionice` can slow the work down.",
)


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    if arguments.has(_BASE.key) and arguments.has(_DEPTH.key):
        raise CommandError("-b and --depth are two ways to say the same")
    depth = parse_size(arguments.get(_DEPTH.key) or "1", "depth", low=1)

    def make() -> list[Action]:
        from qcow.actions.commit import Commit

        name = arguments.get(_BASE.key)
        return [
            Commit(
                base=depth if name is None else _depth_of(path, name, arguments),
                drop=arguments.has(_DROP.key) or name is not None,
                allow_dependents=arguments.has(_DEPENDENTS.key),
            )
        ]

    return change(path, arguments, output, make, asks=True)


def _depth_of(path: str, name: str, arguments: Arguments) -> int:
    from qcow.actions.commit import find_base
    from qcow.chain import open_chain
    from qcow.image.image import Image

    with opened(path, arguments) as image:
        if not isinstance(image, Image):
            raise EditRefused(f"'{safe(path)}' is a {image.format} image, which has no base.")
        if image.backing is None:
            raise EditRefused("Image does not have a backing file")
        with open_chain(image, gate_of(arguments), lock=lock_mode(arguments)) as chain:
            return find_base(chain, name)


VERB = Verb(
    "commit",
    "write what an overlay holds to its backing file",
    "FILE",
    (_BASE, _DEPTH, _DROP, _DEPENDENTS, *EDITING, _CACHE, _RATE),
    run,
    (
        ("--dry-run overlay.qcow2", "What would be written to the base."),
        ("overlay.qcow2", "Write it, then empty overlay.qcow2; the disk stays the same."),
        ("-b golden.qcow2 overlay.qcow2", "Write it to a deeper base; the overlay keeps it."),
    ),
    (
        "Refused where other images in the folders of the chain read the base, for their disks "
        "would change: flatten them first. After an interruption, run it again and it goes on.",
    ),
    EXITS,
)
