"""``compare``: do two disks hold the same guest data?"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from qcow.chain import Chain, open_chain
from qcow.errors import QcowError, UsageError
from qcow.image.image import Image
from qcow.inspect.states import resolve_state
from qcow.text import safe

from .. import exit_codes
from ..opening import NotOpened, gate_of, lock_mode, open_named, require_readable
from ..options import (
    CACHE,
    COMMON,
    FOLLOW,
    FORMAT,
    QUIET,
    Arguments,
    CommandError,
    Option,
    require_cache_mode,
)
from ..output import Output
from ..progress import qemu_progress
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.inspect.compare import Comparison, ReadFailed, StatusFailed

_SECOND_FORMAT = "second-format"
_STATES = ("a-state", "b-state")


def run(arguments: Arguments, output: Output) -> int:
    paths = _paths(arguments)
    try:
        require_cache_mode(arguments)
    except UsageError as error:
        output.error(str(error))
        return exit_codes.COMPARE_NOT_OPENED
    formats = (arguments.get(FORMAT.key), arguments.get(_SECOND_FORMAT))
    quiet = arguments.has(QUIET.key)
    strict = arguments.has("strict")
    with ExitStack() as files:
        try:
            one, other = (
                _disk(path, format, arguments.get(state), arguments, files)
                for path, format, state in zip(paths, formats, _STATES, strict=True)
            )
        except QcowError as error:
            output.error(str(error))
            return exit_codes.COMPARE_NOT_OPENED
        from qcow.inspect.compare import ReadFailed, StatusFailed, compare

        wanted = arguments.has("progress") and not quiet
        with qemu_progress(output, wanted=wanted) as progress:
            try:
                found = compare(one, other, strict=strict, progress=progress)
            except (ReadFailed, StatusFailed) as error:
                output.error(_failure(error, paths))
                return error.exit_code
            except QcowError as error:  # 1 would say that the images differ
                output.error(str(error))
                return exit_codes.COMPARE_NOT_OPENED
            if not quiet:
                output.lines(_verdict(found))
    return exit_codes.OK if found.identical else exit_codes.COMPARE_DIFFERENT


def _paths(arguments: Arguments) -> tuple[str, str]:
    operands = arguments.operands
    if len(operands) == 2:
        return operands[0], operands[1]
    if len(operands) == 1 and any(arguments.has(state) for state in _STATES):
        return operands[0], operands[0]
    raise CommandError("Expecting two image file names")


def _disk(
    path: str, format: str | None, state: str | None, arguments: Arguments, files: ExitStack
) -> Chain:
    """The disk to compare.  Raises QcowError."""
    lock = lock_mode(arguments)
    image = open_named(path, format, lock)
    files.callback(image.close)
    require_readable(image)
    if isinstance(image, Image) and image.encrypted:
        try:
            image.require_plain()
        except QcowError as error:
            raise NotOpened(f"Could not open '{safe(path)}': {error}") from error
    chain = files.enter_context(open_chain(image, gate_of(arguments), lock=lock))
    return chain if state is None else resolve_state(image, chain, state)


def _failure(error: ReadFailed | StatusFailed, paths: tuple[str, str]) -> str:
    from qcow.inspect.compare import StatusFailed

    name = safe(paths[error.side])
    if isinstance(error, StatusFailed):
        return f"Sector allocation test failed for {name}: {error}"
    return f"Error while reading offset {error.offset} of {name}: {error}"


def _verdict(found: Comparison) -> list[str]:
    """qemu-img's words."""
    from qcow.inspect.compare import Mismatch

    lines = ["Warning: Image size mismatch!"] if found.size_warning else []
    if found.mismatch is Mismatch.SIZE:
        return ["Strict mode: Image size mismatch!"]
    if found.mismatch is Mismatch.STATUS:
        return [f"Strict mode: Offset {found.offset} block status mismatch!"]
    if found.mismatch is Mismatch.CONTENT:
        return [*lines, f"Content mismatch at offset {found.offset}!"]
    return [*lines, "Images are identical."]


VERB = Verb(
    "compare",
    "do two disks, or two snapshots, hold the same guest data?",
    "FILE1 FILE2",
    (
        *COMMON,
        Option(_SECOND_FORMAT, "F", "FMT", "The second image's format (-f is the first one's)"),
        Option("strict", "s", help="Size and allocation must be equal as well"),
        Option(
            _STATES[0],
            value="STATE",
            help="Of FILE1 compare this state: active, snapshot:ID-or-NAME or layer:N",
        ),
        Option(_STATES[1], value="STATE", help="The same for FILE2; one FILE stands for both"),
        Option("progress", "p", help="Print how far it is"),
        QUIET,
        CACHE,
        FOLLOW,
    ),
    run,
    (
        ("disk.qcow2 copy.raw", "Where they differ first, or that they do not."),
        (
            "--a-state=snapshot:before disk.qcow2",
            "Whether the disk still holds what the snapshot holds.",
        ),
        ("-s disk.qcow2 copy.qcow2", "Also whether the same ranges are allocated."),
    ),
    ("Backing files are opened if they lie in the image's own folder and their format is stated.",),
    (
        (exit_codes.OK, "identical"),
        (exit_codes.COMPARE_DIFFERENT, "different"),
        (exit_codes.COMPARE_NOT_OPENED, "an image cannot be opened"),
        (exit_codes.COMPARE_NOT_MAPPED, "a mapping is damaged"),
        (exit_codes.COMPARE_NOT_READ, "guest data cannot be read"),
    ),
)
