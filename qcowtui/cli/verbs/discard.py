"""``discard``: ranges of the disk that nobody needs, or that shall read as zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..editing import EDITING, EXITS, change
from ..options import Arguments, CommandError, Option
from ..output import Output
from ..qemu_size import parse_size
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action

_ZERO = Option("zero", "z", help="Make the ranges read as zeros, to the byte")
_REVEAL = Option("reveal-backing", help="Let the backing file's data show again instead of zeros")
_KEEP = Option("keep-allocation", help="With --zero: keep the clusters set aside")


def run(arguments: Arguments, output: Output) -> int:
    path, *places = arguments.operands or [""]
    if not places or len(places) % 2:
        raise CommandError("Expecting image file name, offset and length")
    zero = arguments.has(_ZERO.key)
    if zero and arguments.has(_REVEAL.key):
        raise CommandError("--zero and --reveal-backing contradict each other")
    if arguments.has(_KEEP.key) and not zero:
        raise CommandError("--keep-allocation is only supported with --zero")
    ranges = tuple(
        (parse_size(start, "offset"), parse_size(length, "length"))
        for start, length in zip(places[::2], places[1::2], strict=True)
    )

    def make() -> list[Action]:
        from qcow.actions.discard import Discard, Zero

        if zero:
            return [Zero(ranges, arguments.has(_KEEP.key))]
        return [Discard(ranges, arguments.has(_REVEAL.key))]

    return change(path, arguments, output, make, asks=True)


VERB = Verb(
    "discard",
    "give up ranges of the disk, or make them read as zeros",
    "FILE OFFSET LENGTH [OFFSET LENGTH ...]",
    (_ZERO, _REVEAL, _KEEP, *EDITING),
    run,
    (
        (
            "disk.qcow2 10G 2G",
            "The whole clusters in these 2 GiB are given up; they read as zeros.",
        ),
        ("--zero disk.qcow2 1M 512", "Zeros to the byte, where only part of a cluster is meant."),
    ),
    ("Snapshots keep what they show.",),
    EXITS,
)
