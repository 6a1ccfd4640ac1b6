"""Looking at an image with the eyes of a repair: what is wrong, and what can be done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from qcow.errors import Cancelled, UsageError
from qcow.formats.probe import PROBE_LENGTH, probe

from .editing import Interrupted
from .interrupts import cancelled_by_ctrl_c
from .opening import gate_of, lock_mode, open_named, opened
from .options import Arguments
from .output import Output
from .progress import progress_line

if TYPE_CHECKING:
    from qcow.actions.repair import Case, Remedy
    from qcow.edit.mending import Mending
    from qcow.edit.plan import ImageMark
    from qcow.inspect.lost import LostImage


class Diagnosis(NamedTuple):
    """What was found, the remedies in the order they are applied, and the image it is about."""

    case: Case
    remedies: tuple[Remedy, ...]
    on: ImageMark


class Lost(NamedTuple):
    """A file whose header is gone.  ``mending``: with the header chosen; None where ``question``,
    a sentence, has to be answered first."""

    found: LostImage
    mending: Mending | None
    question: str


def lost_header(
    path: str, arguments: Arguments, output: Output, choices: Mapping[str, str]
) -> Lost | None:
    """Scan a file that is no qcow2 image for what is left of one; None when it is an image.

    Raises NotOpened, EditRefused when nothing is found, Interrupted.
    """
    with open_named(path, "raw", lock_mode(arguments)) as file:
        if probe(file.storage.read(0, PROBE_LENGTH)) == "qcow2":
            return None
        from qcow.actions.repair.lost_header import mending_for
        from qcow.inspect.lost import scan_lost

        with cancelled_by_ctrl_c(lambda: None) as cancel, progress_line(output) as tell:
            try:
                found = scan_lost(file.storage, progress=tell, cancel=cancel)
            except Cancelled as error:
                raise Interrupted("Interrupted: nothing was changed.") from error
        try:
            return Lost(found, mending_for(found, choices), "")
        except UsageError as error:
            return Lost(found, None, str(error))


def diagnosed(
    path: str,
    arguments: Arguments,
    output: Output,
    choices: Mapping[str, str],
    mending: Mending | None = None,
) -> Diagnosis:
    """Check the image at ``path`` and find what can be done about it.  Nothing is written.

    ``mending``: how a file is seen that lost its header.  Raises NotOpened, UsageError,
    Interrupted.
    """
    from qcow.actions.repair import diagnose
    from qcow.actions.repair.lost_header import header_lost
    from qcow.edit.apply import Preview

    with (
        opened(path, arguments)
        if mending is None
        else open_named(path, "raw", lock_mode(arguments)) as image,
        cancelled_by_ctrl_c(lambda: None) as cancel,
        progress_line(output) as tell,
        Preview(
            image, mending=mending, gate=gate_of(arguments), progress=tell, cancel=cancel
        ) as preview,
    ):
        editor = preview.editor
        try:
            case, remedies = diagnose(
                editor.image, chain=editor.chain(), answers=choices, progress=tell, cancel=cancel
            )
        except Cancelled as error:
            raise Interrupted("Interrupted: nothing was changed.") from error
        if mending is not None:
            remedies = (header_lost(editor.image), *remedies)
        return Diagnosis(case, remedies, editor.on)
