"""``bitmap``: the persistent dirty bitmaps of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qcow.errors import UsageError

from ..editing import EDITING, EXITS, change
from ..options import Arguments, CommandError, Option
from ..output import Output
from ..qemu_size import parse_size
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action

_ADD = Option("add", help="Add the bitmap; it records changes from then on")
_REMOVE = Option("remove", help="Remove it")
_CLEAR = Option("clear", help="Forget what it recorded")
_ENABLE = Option("enable", help="Let it record changes from now on")
_DISABLE = Option("disable", help="Let it record nothing any more; it keeps what it has")
_MERGE = Option("merge", value="SOURCE", help="Add what the bitmap SOURCE has recorded")
_ACTIONS = (_ADD, _REMOVE, _CLEAR, _ENABLE, _DISABLE, _MERGE)
_GRANULARITY = Option(
    "granularity", "g", "N", "With --add: guest bytes of one bit, a power of two from 512"
)
_SOURCE = Option("source-file", "b", "FILE", "With --merge: the image that has SOURCE")
_SOURCE_FORMAT = Option("source-format", "F", "FMT", "The format of that image")


def run(arguments: Arguments, output: Output) -> int:
    keys = [option.key for option in _ACTIONS]
    steps = [(key, value) for key, value in arguments.sequence if key in keys]
    if not steps:
        raise CommandError(
            "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge"
        )
    granularity = arguments.get(_GRANULARITY.key)
    if granularity is not None and not arguments.has(_ADD.key):
        raise UsageError("granularity only supported with --add")
    source_file, source_format = (arguments.get(option.key) for option in (_SOURCE, _SOURCE_FORMAT))
    if source_format is not None and source_file is None:
        raise UsageError("-F only supported with -b")
    if source_file is not None and not arguments.has(_MERGE.key):
        raise UsageError("Merge bitmap source file only supported with --merge")
    if len(arguments.operands) != 2:
        raise CommandError("Expecting filename and bitmap name")
    path, name = arguments.operands
    bits = None if granularity is None else parse_size(granularity, "granularity", low=1)

    def make() -> list[Action]:
        from qcow.actions import bitmap

        plain: dict[str, Callable[[str], Action]] = {
            _REMOVE.key: bitmap.BitmapRemove,
            _CLEAR.key: bitmap.BitmapClear,
            _ENABLE.key: bitmap.BitmapEnable,
            _DISABLE.key: bitmap.BitmapDisable,
        }
        actions: list[Action] = []
        for key, value in steps:
            if key == _ADD.key:
                actions.append(bitmap.BitmapAdd(name, bits))
            elif key == _DISABLE.key and actions and isinstance(actions[-1], bitmap.BitmapAdd):
                actions[-1] = bitmap.BitmapAdd(name, bits, disabled=True)
            elif key == _MERGE.key:
                actions.append(bitmap.BitmapMerge(value, name, source_file, source_format))
            else:
                actions.append(plain[key](name))
        return actions

    loses = arguments.has(_REMOVE.key) or arguments.has(_CLEAR.key)
    return change(path, arguments, output, make, asks=loses)


VERB = Verb(
    "bitmap",
    "add, remove, clear, switch and merge dirty bitmaps",
    "ACTION ... FILE BITMAP",
    (*_ACTIONS, _GRANULARITY, _SOURCE, _SOURCE_FORMAT, *EDITING),
    run,
    (
        ("--add disk.qcow2 since-monday", "Record from now on what the guest changes."),
        ("--merge tuesday disk.qcow2 since-monday", "The changes of both in one."),
        ("--add --disable disk.qcow2 copy", "Several actions are done in the order given."),
    ),
    (
        "A bitmap records which parts of the disk changed, for incremental backups. Each action "
        "is a change of its own that undo takes back.",
    ),
    EXITS,
)
