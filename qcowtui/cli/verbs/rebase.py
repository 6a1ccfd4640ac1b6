"""``rebase``: put an image on another backing file and keep its disk as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcow.errors import UsageError
from qcow.text import safe

from ..editing import (
    BACKING,
    BACKING_FORMAT,
    CHANGE_SNAPSHOTS,
    EDITING,
    EXITS,
    change,
)
from ..options import CACHE, Arguments, CommandError, Option, one_operand
from ..output import Output
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action

_UNSAFE = Option(
    "backing-unsafe", "u", help="Change the name alone, whatever the disk reads then (see relink)"
)
_CACHE = Option("cache", "t", "MODE", "Accepted as in qemu-img, and without effect")
_FORMATS = ("qcow2", "raw")


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    unsafe = arguments.has(_UNSAFE.key)
    if not arguments.has(BACKING.key) and not unsafe:
        raise CommandError("Must specify backing file (-b) or use unsafe mode (-u)")
    format = arguments.get(BACKING_FORMAT.key)
    if format is not None and format not in _FORMATS:
        raise UsageError(f"Invalid format name: '{safe(format)}'")
    backing = arguments.get(BACKING.key) or None

    def make() -> list[Action]:
        if unsafe:
            from qcow.actions.relink import Relink

            return [Relink(backing, format, force=True)]
        from qcow.actions.rebase import Rebase

        return [Rebase(backing, format, keep_snapshots=not arguments.has(CHANGE_SNAPSHOTS.key))]

    return change(path, arguments, output, make, asks=unsafe)


VERB = Verb(
    "rebase",
    "put an image on another backing file; its disk stays the same",
    "-b BACKING -F FMT FILE",
    (
        BACKING,
        BACKING_FORMAT,
        _UNSAFE,
        CHANGE_SNAPSHOTS,
        *EDITING,
        _CACHE,
        CACHE._replace(long="backing-cache"),
    ),
    run,
    (
        ("-b base-v2.qcow2 -F qcow2 overlay.qcow2", "What the new base lacks is copied first."),
        ('-b "" overlay.qcow2', "No base any more: the same as flatten."),
        ("-u -b moved/base.qcow2 -F qcow2 overlay.qcow2", "The name alone; relink is safer."),
    ),
    (
        "The work goes in batches, each of which leaves a sound image on the old base; the name "
        "changes last. A relative name is relative to the folder of FILE.",
    ),
    EXITS,
)
