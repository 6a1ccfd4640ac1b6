"""What comes without a verb: ``qcowtui FILE`` and ``qcowtui``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qcow.errors import GuestDataError
from qcow.findings import Severity
from qcow.image.image import Image
from qcow.opening import AnyImage
from qcow.text import safe

from .. import exit_codes, registry
from ..opening import opened
from ..options import FORCE_SHARE, FORMAT, Arguments, CommandError, Option
from ..output import Output
from ..progress import progress_line
from ..terminal import has_screen
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.inspect.check import CheckResult

_PLAIN = "plain"
_ASCII = "ascii"
_RW = "rw"
_COLOR = "color"
_COLORS = ("truecolor", "256", "16", "none")


def run(arguments: Arguments, output: Output) -> int:
    operands = arguments.operands
    color = arguments.get(_COLOR)
    if color is not None and color not in _COLORS:
        raise CommandError(f"--color must be used with {', '.join(_COLORS)} as argument.")
    if operands and not os.path.lexists(operands[0]):
        _explain_unknown(operands[0])
    if len(operands) > 1:
        raise CommandError("Expecting one image file name, or a command before it")
    path = operands[0] if operands else None
    if has_screen() and not arguments.has(_PLAIN):
        if arguments.has(FORMAT.key):
            raise CommandError("-f goes with --plain: the app tells the format by itself.")
        from qcowtui.tui import run as run_app

        return run_app(path, ascii=arguments.has(_ASCII), color=color, writable=arguments.has(_RW))
    if arguments.has(_RW):
        raise CommandError("--rw is for the app; without it, name the change: `qcowtui --help`.")
    if path is None:
        raise CommandError("Name an image: without a terminal there is nothing to choose one in.")
    with opened(path, arguments) as image:
        return _overview(image, output)


def _explain_unknown(word: str) -> None:
    """Raise CommandError when ``word`` looks like a mistyped verb."""
    import difflib

    close = difflib.get_close_matches(word, registry.NAMES, 1)
    if close:
        raise CommandError(
            f"'{safe(word)}' is neither a command nor a file; did you mean `{close[0]}`?"
        )


def _overview(image: AnyImage, output: Output) -> int:
    """Header, space and check in plain text; the exit code is that of the check."""
    from ..qemu_human import info_lines
    from ..qemu_info import image_info
    from ..qemu_json import qdict

    if not isinstance(image, Image):
        output.lines(info_lines(qdict(image_info(image)), ()))
        output.lines(["", "A raw image has no metadata that could be checked."])
        return exit_codes.CHECK_UNSUPPORTED
    if image.refused is None:
        output.lines(info_lines(qdict(image_info(image)), image.snapshots))
    else:
        from .header import header_lines

        output.lines([f"image: {safe(image.name)}", *header_lines(image)])
    _space(image, output)
    return _check(image, output)


def _space(image: Image, output: Output) -> None:
    from .space import measured, space_lines

    try:
        with progress_line(output) as progress:
            used, _ = measured(image, progress)
    except GuestDataError:  # the check says what is wrong
        return
    output.lines(["", *space_lines(image, used)])


def _check(image: Image, output: Output) -> int:
    from qcow.inspect.check import check

    from ..findings_output import finding_lines
    from .check import check_summary

    with progress_line(output) as progress:
        result = check(image, progress=progress)
    if _only_stale(result):
        summary = [
            "Not cleanly shut down: refcounts are out of date; guest data and mappings are intact."
        ]
    else:
        summary = [line for line in check_summary(result) if line]
    output.lines(["", *summary])
    for finding in result.findings:
        output.lines(["", *finding_lines(finding)])
    return result.exit_code


def _only_stale(result: CheckResult) -> bool:
    """Whether all that is wrong comes from postponed refcounts (lazy refcounts)."""
    wrong = [found for found in result.findings if found.severity >= Severity.CORRUPTION]
    return bool(wrong) and all(found.code == "QCOW-REFCOUNT-STALE" for found in wrong)


VERB = Verb(
    "open",
    "open an image, or choose one",
    "[FILE]",
    (
        FORMAT,
        FORCE_SHARE,
        Option(_PLAIN, help="Print the overview, also on a terminal"),
        Option(_RW, help="Allow changes from the start; each shows its plan before it is made"),
        Option(_ASCII, help="Draw the app without line art and half blocks"),
        Option(_COLOR, value="MODE", help="truecolor, 256, 16 or none (default: ask the terminal)"),
    ),
    run,
    (("disk.qcow2", "Open it in the app."),),
)
