"""``amend``: other format options for an image that exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..create_options import given_options
from ..editing import EDITING, EXITS, change
from ..options import Arguments, CommandError, Option, one_operand
from ..output import Output
from ..qemu_options import key_values, option_list
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action

_OPTIONS = Option("options", "o", "OPTS", "What to change (a=b,c=d); -o help lists what can be")
_CACHE = Option("cache", "t", "MODE", "Accepted as in qemu-img, and without effect")
_FORCE = Option("force", help="Accepted as in qemu-img, where it is for encrypted images")
_HELP = (
    ("size=<size>", "of the disk, as resize"),
    ("compat=<str>", "0.10 (version 2) or 1.1 (version 3)"),
    ("refcount_bits=<num>", "width of a refcount: 1, 2, 4, ... 64"),
    ("lazy_refcounts=<bool (on/off)>", "let QEMU write refcounts late"),
    ("data_file=<str>", "where the external data file is"),
    ("data_file_raw=<bool (on/off)>", "only off: it need not be a raw image"),
)


def run(arguments: Arguments, output: Output) -> int:
    given = arguments.all(_OPTIONS.key)
    if not given:
        raise CommandError("Must specify options (-o)")
    if any(text in ("help", "?") for text in given):
        output.line("Amendable options for qcow2:")
        output.lines([f"  {name}".ljust(34) + f" - {what}" for name, what in _HELP])
        return 0
    path = one_operand(arguments)
    text = option_list(given)

    def make() -> list[Action]:
        from qcow.actions.amend import Amend
        from qcow.actions.amend_options import AmendOptions

        AmendOptions.of(dict.fromkeys(key_values(text)))  # says which cannot be amended
        return [Amend(AmendOptions.of(given_options("qcow2", text)))]

    return change(path, arguments, output, make, asks="size" in key_values(text))


VERB = Verb(
    "amend",
    "change the format options of an image",
    "-o OPTS FILE",
    (_OPTIONS, *EDITING, _CACHE, _FORCE),
    run,
    (
        ("-o compat=1.1 old.qcow2", "Make a version 2 image one of version 3."),
        ("-o refcount_bits=64 --dry-run disk.qcow2", "What that would write."),
    ),
    ("The disk and its snapshots stay what they are.",),
    EXITS,
)
