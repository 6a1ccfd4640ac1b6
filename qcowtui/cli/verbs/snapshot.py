"""``snapshot``: list, take, go back to, delete and rename the internal snapshots of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcow.errors import UsageError
from qcow.image.image import Image

from .. import exit_codes
from ..editing import EDITING, EXITS, change
from ..opening import opened, require_readable
from ..options import Arguments, CommandError, Option, one_operand, wants_json
from ..output import Output
from ..qemu_human import snapshot_table
from ..qemu_info import snapshot_info
from ..qemu_json import Json, dumps, qdict
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action

_LIST = Option("list", "l", help="List the snapshots (so it does without any of these options)")
_CREATE = Option("create", "c", "NAME", "Take a snapshot; several at once with several -c")
_APPLY = Option(
    "apply", "a", "SNAPSHOT", "Turn the disk back to this snapshot; the present state is kept"
)
_DELETE = Option("delete", "d", "SNAPSHOT", "Delete a snapshot; several at once with several -d")
_RENAME = Option("rename", value="SNAPSHOT NEW", help="Give a snapshot another name")
_KEEP_AS = Option(
    "keep-as", value="NAME", help="With -a: name of the snapshot that keeps the present state"
)
_DISCARD = Option("discard-current", help="With -a: keep no snapshot of the present state")
_ACTIONS = (_LIST, _APPLY, _CREATE, _DELETE, _RENAME)


def run(arguments: Arguments, output: Output) -> int:
    given = [option for option in _ACTIONS if arguments.has(option.key)]
    if len(given) > 1:
        names = "'-l', '-a', '-c', '-d'" + (", '--rename'" if _RENAME in given else "")
        raise CommandError(f"Cannot mix {names}")
    if not arguments.has(_APPLY.key):
        for option in (_KEEP_AS, _DISCARD):
            if arguments.has(option.key):
                raise CommandError(f"--{option.long} is only supported with -a")
    path = one_operand(arguments)
    if not given or given[0] is _LIST:
        return _list(path, arguments, output)
    chosen = given[0]
    values = arguments.all(chosen.key)
    if chosen is _APPLY and len(values) > 1:
        raise CommandError("Only one snapshot can be applied")
    if chosen is _RENAME and len(values) > 2:
        raise CommandError("Only one snapshot can be renamed at a time")
    keep_as = _keep_as(arguments, values[0]) if chosen is _APPLY else None

    def make() -> list[Action]:
        from qcow.actions.snapshot import (
            SnapshotApply,
            SnapshotCreate,
            SnapshotDelete,
            SnapshotRename,
        )

        if chosen is _CREATE:
            return [SnapshotCreate(values[0], more=tuple(values[1:]))]
        if chosen is _APPLY:
            return [SnapshotApply(values[0], keep_as)]
        if chosen is _DELETE:
            return [SnapshotDelete(tuple(values))]
        return [SnapshotRename(values[0], values[1])]

    return change(path, arguments, output, make, asks=chosen in (_DELETE, _APPLY))


def _keep_as(arguments: Arguments, snapshot: str) -> str | None:
    """The name under which the present state is kept; None when it is not."""
    name = arguments.get(_KEEP_AS.key)
    if arguments.has(_DISCARD.key):
        if name is not None:
            raise UsageError("--keep-as and --discard-current contradict each other.")
        return None
    from qcowtui.views.changes.snapshot_requests import keep_name

    return name or keep_name(snapshot)


def _list(path: str, arguments: Arguments, output: Output) -> int:
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


VERB = Verb(
    "snapshot",
    "list, take, go back to, delete and rename internal snapshots",
    "[-l | -c NAME | -a SNAP | -d SNAP | --rename SNAP NEW] FILE",
    (*_ACTIONS, _KEEP_AS, _DISCARD, *EDITING),
    run,
    (
        ("-l disk.qcow2", "ID, name, VM state size, date and clock of each."),
        ("-l --output=json disk.qcow2", "The same as a list of objects, empty without snapshots."),
        ("-c before-update disk.qcow2", "Keep the disk as it is now."),
        (
            "-a before-update disk.qcow2",
            "Go back to it. The state left is kept as before-before-update-DATE-TIME; "
            "--discard-current does without, as qemu-img.",
        ),
        ("-d old -d older --dry-run disk.qcow2", "What deleting both would free."),
    ),
    (
        "A snapshot is chosen by its ID, else by its name. Listing opens no other file "
        "and changes nothing. `qcowtui space` says how many bytes each snapshot alone holds.",
    ),
    EXITS,
)
