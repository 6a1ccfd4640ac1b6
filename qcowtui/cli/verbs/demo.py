"""``demo``: sample images to look around in."""

from __future__ import annotations

import os
from pathlib import Path

from qcow.errors import StorageError
from qcow.text import safe

from .. import exit_codes
from ..options import OUTPUTS, Arguments, CommandError, Option, wants_json
from ..output import Output
from ..qemu_json import dumps
from ..terminal import has_screen
from ..verb import Verb

_WRITE_ONLY = "write-only"


def run(arguments: Arguments, output: Output) -> int:
    if len(arguments.operands) > 1:
        raise CommandError("Expecting at most one folder")
    as_json = wants_json(arguments)
    folder = Path(arguments.operands[0]) if arguments.operands else _default_folder()
    opens = has_screen() and not as_json and not arguments.has(_WRITE_ONLY)
    if opens:
        output.diagnostic(f"Writing sample images to {safe(str(folder))} ...")
    from qcowtui.samples.demo_set import write_demo_set

    try:
        images = write_demo_set(folder)
    except OSError as error:
        why = error.strerror or "it is no folder name"
        raise StorageError(
            f"Could not write the sample images to '{safe(str(folder))}': {why}"
        ) from error
    if opens:
        from qcowtui.tui import run as run_app

        return run_app(str(images[0]))
    if as_json:
        names = [os.fsencode(path) for path in images]
        output.line(dumps({"folder": os.fsencode(folder), "images": [*names]}))
    else:
        output.lines([safe(str(path)) for path in images])
    return exit_codes.OK


def _default_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache, "qcowtui", "demo")


VERB = Verb(
    "demo",
    "write sample images and open the app on one of them",
    "[FOLDER]",
    (
        *OUTPUTS,
        Option(_WRITE_ONLY, "w", help="Write the images and print their names, open nothing"),
    ),
    run,
    (
        ("", "The samples are kept in ~/.cache/qcowtui/demo; delete them at will."),
        ("--write-only samples", "Only write them, into the folder `samples`."),
    ),
    (
        "The images are made without QEMU, the same each time: one with three snapshots and a "
        "backing chain, a fragmented and a compressed one, one with leaks, one with corruption, "
        "one that was not shut down, one that should not be trusted.",
    ),
)
