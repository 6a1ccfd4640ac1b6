"""``create``: a new, empty image."""

from __future__ import annotations

from typing import Any

from qcow.errors import QcowError, UsageError
from qcow.text import safe

from .. import exit_codes
from ..create_options import (
    create_options,
    formatting_line,
    given_options,
    options_help,
    require_format,
)
from ..options import (
    OBJECT,
    OUTPUTS,
    QUIET,
    Arguments,
    CommandError,
    Option,
    wants_json,
)
from ..output import Output
from ..progress import progress_line
from ..qemu_json import dumps
from ..qemu_options import option_list
from ..qemu_size import parse_size
from ..verb import Verb

_FORMAT = "format"
_BACKING = "backing"
_BACKING_FORMAT = "backing-format"
_UNSAFE = "backing-unsafe"
_OPTIONS = "options"
_DRY_RUN = "dry-run"


class NotCreated(QcowError):
    """The image cannot be created; the message is complete."""


def run(arguments: Arguments, output: Output) -> int:
    as_json = wants_json(arguments)
    format = arguments.get(_FORMAT) or "raw"
    if any(text in ("help", "?") for text in arguments.all(_OPTIONS)):
        require_format(format)
        output.lines(options_help(format))
        return exit_codes.OK
    operands = arguments.operands
    if not operands:
        raise CommandError("Expecting image file name")
    if len(operands) > 2:
        raise CommandError(f"Unexpected argument: {safe(operands[2])}")
    path = operands[0]
    size = parse_size(operands[1], "image size") if len(operands) == 2 else None
    listed = option_list(arguments.all(_OPTIONS))
    try:
        require_format(format)
        _create(path, format, _given(arguments, format, listed, size), arguments, output, as_json)
    except QcowError as error:
        raise NotCreated(f"{safe(path)}: {error}") from error
    return exit_codes.OK


def _given(arguments: Arguments, format: str, listed: str, size: int | None) -> dict[str, Any]:
    given = given_options(format, listed)
    if size is not None:
        if "size" in given:
            raise UsageError("The image size must be specified only once")
        given["size"] = size
    for key, name in ((_BACKING, "backing_file"), (_BACKING_FORMAT, "backing_fmt")):
        value = arguments.get(key)
        if value is not None:
            if format == "raw":
                raise UsageError(f"Backing {key[8:] or 'file'} not supported for file format 'raw'")
            given[name] = value
    return given


def _create(
    path: str,
    format: str,
    given: dict[str, Any],
    arguments: Arguments,
    output: Output,
    as_json: bool,
) -> None:
    from qcow.actions.create import create, plan_create

    options = create_options(format, given, unsafe=arguments.has(_UNSAFE))
    plan = plan_create(path, options)
    quiet = arguments.has(QUIET.key)
    dry_run = arguments.has(_DRY_RUN)
    if not as_json and not quiet:
        size = plan.options.size
        assert size is not None
        output.line(formatting_line(path, format, given, size))
        if dry_run:
            output.lines([plan.summary, *plan.warnings, "Nothing was written (--dry-run)."])
        output.flush()
    if not dry_run:
        with progress_line(output) as progress:
            plan = create(path, options, progress=progress)
    if as_json:
        output.line(dumps({**plan.to_json(), "dry-run": dry_run}))


VERB = Verb(
    "create",
    "make a new, empty image",
    "FILE [SIZE]",
    (
        Option(_FORMAT, "f", "FMT", "Format of the new image: raw (default) or qcow2"),
        Option(_BACKING, "b", "FILE", "Backing file, as the image is to name it; needs -F"),
        Option(_BACKING_FORMAT, "F", "FMT", "Format of the backing file"),
        Option(_UNSAFE, "u", help="Do not look at the backing file; needs SIZE"),
        Option(_OPTIONS, "o", "OPTS", "Further options (a=b,c=d); -o help lists them"),
        Option(_DRY_RUN, help="Say what would be made and make nothing"),
        *OUTPUTS,
        QUIET,
        OBJECT,
    ),
    run,
    (
        ("-f qcow2 disk.qcow2 20G", "An empty disk of 20 GiB."),
        (
            "-f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2",
            "A disk that starts as base.qcow2 and keeps its own changes.",
        ),
        (
            "-f qcow2 -o preallocation=falloc,cluster_size=2M disk.qcow2 1T",
            "With all of its space set aside.",
        ),
    ),
    (
        "The file is written under a hidden name, checked and made durable; then it gets its name. "
        "So whatever happens, FILE is complete or what it was before. A file that is there gives "
        "way, as with qemu-img, unless somebody uses it; a block device is written in place.",
        "A relative backing or data file name is relative to the folder of FILE.",
    ),
)
