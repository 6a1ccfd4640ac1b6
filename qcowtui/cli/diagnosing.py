"""Looking at an image with the eyes of a repair: what is wrong, and what can be done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from qcow.errors import EditRefused
from qcow.image.image import Image
from qcow.text import safe

from .interrupts import cancelled_by_ctrl_c
from .opening import gate_of, opened
from .options import Arguments
from .output import Output
from .progress import progress_line

if TYPE_CHECKING:
    from qcow.actions.repair import Case, Remedy
    from qcow.edit.plan import ImageMark


class Diagnosis(NamedTuple):
    """What was found, the remedies in the order they are applied, and the image it is about."""

    case: Case
    remedies: tuple[Remedy, ...]
    on: ImageMark


def diagnosed(
    path: str, arguments: Arguments, output: Output, choices: Mapping[str, str]
) -> Diagnosis:
    """Check the image at ``path`` and find what can be done about it.  Nothing is written.

    Raises NotOpened, EditRefused for a file that is no qcow2 image, UsageError, Cancelled.
    """
    from qcow.actions.repair import diagnose
    from qcow.edit.apply import Preview

    with (
        opened(path, arguments) as image,
        cancelled_by_ctrl_c(lambda: None) as cancel,
        progress_line(output) as tell,
    ):
        if not isinstance(image, Image):
            raise EditRefused(
                f"'{safe(path)}' is a {image.format} image; only qcow2 images can be repaired."
            )
        with Preview(image, gate=gate_of(arguments), progress=tell, cancel=cancel) as preview:
            editor = preview.editor
            case, remedies = diagnose(
                editor.image, chain=editor.chain(), answers=choices, progress=tell, cancel=cancel
            )
            return Diagnosis(case, remedies, editor.on)
