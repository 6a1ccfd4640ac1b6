"""``resize``: another size for the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qcow.errors import EditRefused, UsageError
from qcow.text import safe

from ..create_options import size_option
from ..editing import EDITING, EXITS, change
from ..opening import opened
from ..options import Arguments, CommandError, Option
from ..output import Output
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action
    from qcow.edit.resizing import Preallocation

_SHRINK = Option("shrink", help="A smaller size is meant; refused where something would be lost")
_PREALLOCATION = Option(
    "preallocation", value="MODE", help="Of the new area: off (default), metadata, falloc or full"
)
_FORCE = Option("force", help="With --shrink: cut off partitions and data, too")
_MODES = ("off", "metadata", "falloc", "full")


def run(arguments: Arguments, output: Output) -> int:
    if len(arguments.operands) < 2:
        raise CommandError("Not enough arguments")
    if len(arguments.operands) > 2:
        raise CommandError("Expecting image file name and size")
    path, text = arguments.operands
    mode = arguments.get(_PREALLOCATION.key) or "off"
    if mode not in _MODES:
        raise UsageError(f"Invalid preallocation mode '{safe(mode)}'")
    sign = text[:1] if text[:1] in ("+", "-") else ""
    number = size_option("size", text.removeprefix(sign))

    def make() -> list[Action]:
        from qcow.actions.resize import Resize

        return [
            Resize(
                _size(path, arguments, sign, number),
                shrink=arguments.has(_SHRINK.key),
                preallocation=cast("Preallocation", mode),
                force=arguments.has(_FORCE.key),
            )
        ]

    return change(path, arguments, output, make, asks=arguments.has(_SHRINK.key))


def _size(path: str, arguments: Arguments, sign: str, number: int) -> int:
    """The size meant, in bytes: whole sectors, as qemu-img has it."""
    size = number
    if sign:
        with opened(path, arguments) as image:
            if image.virtual_size is None:
                raise EditRefused(f"'{safe(path)}' has no size that could be changed.")
            size = image.virtual_size + (number if sign == "+" else -number)
    if size <= 0:
        raise UsageError("New image size must be positive")
    return -(-size // 512) * 512


VERB = Verb(
    "resize",
    "make the disk larger or smaller",
    "FILE [+|-]SIZE",
    (_SHRINK, _PREALLOCATION, _FORCE, *EDITING),
    run,
    (
        ("disk.qcow2 +10G", "10 GiB more at the end; partitions are the guest's matter."),
        ("--shrink --dry-run disk.qcow2 20G", "What would be cut off, in every snapshot."),
        ("--preallocation=falloc disk.qcow2 40G", "With the space of the new area set aside."),
    ),
    (
        "Shrinking is refused where a partition or data lies behind the new end. Snapshots keep "
        "their own size.",
    ),
    EXITS,
)
