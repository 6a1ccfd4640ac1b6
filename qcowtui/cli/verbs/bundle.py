"""``bundle``: the metadata of an image alone, to be sent with a bug report."""

from __future__ import annotations

from qcow.errors import Cancelled
from qcow.text import safe

from .. import exit_codes
from ..editing import NETWORK, Interrupted
from ..interrupts import cancelled_by_ctrl_c
from ..opening import opened, require_qcow2
from ..options import COMMON, OUTPUTS, QUIET, Arguments, CommandError, Option, wants_json
from ..output import Output
from ..progress import progress_line
from ..verb import Verb

_REDACT = Option("redact", help="Replace the names of snapshots, bitmaps and other files")
_FORCE = Option("force", help="Replace OUT if it exists")


def run(arguments: Arguments, output: Output) -> int:
    if len(arguments.operands) != 2:
        raise CommandError("Expecting the image and the file to write")
    path, out = arguments.operands
    as_json = wants_json(arguments)
    with (
        opened(path, arguments) as image,
        cancelled_by_ctrl_c(lambda: None) as cancel,
        progress_line(output) as progress,
    ):
        from qcow.actions.bundle import bundle

        try:
            done = bundle(
                require_qcow2(image),
                out,
                redact=arguments.has(_REDACT.key),
                force=arguments.has(_FORCE.key),
                allow_network=arguments.has(NETWORK.key),
                progress=progress,
                cancel=cancel,
            )
        except Cancelled as error:
            raise Interrupted("Interrupted: nothing was written.") from error
    if as_json:
        from ..qemu_json import dumps

        members = {"filename": safe(path, 4096), "bundle": safe(out, 4096), **done.to_json()}
        output.line(dumps(members))
        return exit_codes.OK
    if arguments.has(QUIET.key):
        return exit_codes.OK
    from qcowtui.views.units import size

    names = "names replaced" if done.redacted else "names as they are (--redact replaces them)"
    output.line(
        f"Wrote {size(done.metadata)} of metadata to {safe(out, 4096)}, a sparse file of "
        f"{size(done.length)}; no guest data, {names}."
    )
    if done.withheld:
        output.line(
            f"{size(done.withheld)} that should be tables look like guest data and were left out."
        )
    if done.faithful:
        output.line("`qcowtui check --no-decode` finds the same in it as in the image.")
    else:
        output.line("A check does not find quite the same in it as in the image.")
    return exit_codes.OK


VERB = Verb(
    "bundle",
    "a copy with the metadata alone, for bug reports; no guest data",
    "FILE OUT",
    (_REDACT, _FORCE, *COMMON, *OUTPUTS, QUIET, NETWORK),
    run,
    (
        ("disk.qcow2 report.qcow2", "As long as the image, and sparse: a few MiB on the host."),
        ("--redact disk.qcow2 report.qcow2", "The same without your names."),
    ),
    (
        "Written are the header, the tables, the refcounts and what is leaked and certainly a "
        "table. Guest data and key material never are; table sectors that look like guest data "
        "are left out. Pack it with `tar -S` or zstd. Compressed clusters are data too: check "
        "the copy with --no-decode.",
    ),
    (
        (1, "it could not be written"),
        (exit_codes.INTERRUPTED, "interrupted (Ctrl-C)"),
    ),
)
