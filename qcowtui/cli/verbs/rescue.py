"""``rescue``: everything that can still be read of an image, and a map of what cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcow.errors import Cancelled
from qcow.image.image import Image
from qcow.text import safe

from .. import exit_codes
from ..editing import NETWORK, PROGRESS, Interrupted
from ..interrupts import cancelled_by_ctrl_c
from ..opening import gate_of, opened
from ..options import (
    COMMON,
    FOLLOW,
    OUTPUTS,
    QUIET,
    Arguments,
    CommandError,
    Option,
    one_operand,
    wants_json,
)
from ..output import Output
from ..progress import progress_events, progress_line
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.actions.rescue import Rescued

_RAW = Option("raw", value="OUT", help="Write the disk to this raw file, its map to OUT.map")
_SNAPSHOT = Option("snapshot", "s", "SNAPSHOT", "Rescue this snapshot: an ID, else a name")
_FORCE = Option("force", help="Start anew where OUT exists; what it holds is lost")
#: Reasons and ranges shown; JSON and the map have all.
_SHOWN = 4


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    out = arguments.get(_RAW.key)
    if not out:
        raise CommandError("rescue needs --raw OUT, the file to write to")
    if arguments.get(PROGRESS.key) not in (None, "", "jsonl"):
        raise CommandError("--progress stands alone or with jsonl as argument.")
    snapshot = arguments.get(_SNAPSHOT.key)
    as_json = wants_json(arguments)
    with (
        opened(path, arguments) as image,
        cancelled_by_ctrl_c(lambda: None) as cancel,
        progress_line(output) as line,
    ):
        from qcow.actions.rescue import rescue

        events = progress_events(output) if arguments.get(PROGRESS.key) == "jsonl" else line
        if isinstance(image, Image) and image.unusable is not None and image.geometry is None:
            image.usable_geometry()
        try:
            done = rescue(
                image,
                out,
                state="active" if snapshot is None else f"snapshot:{snapshot}",
                gate=gate_of(arguments),
                force=arguments.has(_FORCE.key),
                allow_network=arguments.has(NETWORK.key),
                progress=events,
                cancel=cancel,
            )
        except Cancelled as error:
            raise Interrupted(
                "Interrupted: what was read by then is kept; the same command goes on from there."
            ) from error
    if as_json:
        from ..qemu_json import dumps

        output.line(dumps({"filename": safe(path, 4096), **done.to_json()}))
    elif not arguments.has(QUIET.key):
        output.lines(_lines(done, out))
    return exit_codes.RESCUE_INCOMPLETE if done.lost else exit_codes.OK


def _lines(done: Rescued, out: str) -> list[str]:
    from qcowtui.views.units import plural, size, size_and_bytes

    lines = []
    if done.resumed:
        lines.append(f"{size(done.resumed)} had been read before.")
    if not done.lost:
        return [*lines, f"Everything was read: {size_and_bytes(done.size)} in {safe(out, 4096)}."]
    share = done.lost * 100 / done.size
    lines += [
        f"Read {size(done.read)} of {size(done.size)}; "
        f"{size_and_bytes(done.lost)} ({share:.2g} %) could not be read and are zeros."
    ]
    for reason, count in sorted(done.reasons.items(), key=lambda item: -item[1])[:_SHOWN]:
        lines.append(f"  {size(count)}: {reason}")
    for start, length in done.lost_ranges[:_SHOWN]:
        lines.append(f"  lost: {size(length)} at {start:#x}")
    if len(done.lost_ranges) > _SHOWN:
        lines.append(f"  and {plural(len(done.lost_ranges) - _SHOWN, 'more range')}")
    return [*lines, f"All of them are in {safe(done.map_path, 4096)}."]


VERB = Verb(
    "rescue",
    "read out everything that can still be read, with a map of the rest",
    "--raw OUT FILE",
    (_RAW, _SNAPSHOT, _FORCE, *COMMON, *OUTPUTS, PROGRESS, QUIET, FOLLOW, NETWORK),
    run,
    (
        ("--raw disk.raw disk.qcow2", "The whole disk; zeros where nothing can be read."),
        (
            "--raw disk.raw --follow overlay.qcow2",
            "Through its backing files, wherever they are; what an earlier run read is kept.",
        ),
    ),
    (
        "OUT.map says which bytes were read (+), lost (-) or not tried yet (?), in the format of "
        "GNU ddrescue. A rescue that was interrupted, or that lost something, goes on when the "
        "same command is given again. FILE is never written to. Where the file has bad sectors, "
        "copy it with ddrescue first if you can.",
    ),
    (
        (exit_codes.RESCUE_INCOMPLETE, "some of the disk could not be read"),
        (exit_codes.INTERRUPTED, "interrupted (Ctrl-C); it can be continued"),
    ),
)
