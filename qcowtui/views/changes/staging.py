"""The queue of planned changes: each is planned on what those before it lead to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from qcow.errors import EditRefused
from qcow.image.image import Image
from qcow.jobs import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from qcow.edit.apply import Action, Preview
    from qcow.edit.plan import Plan
    from qcow.storage.gate import Gate

    from ..session import Session


class Staged(NamedTuple):
    """A planned change; ``preview`` holds the image as it would be after it."""

    action: Action
    plan: Plan
    preview: Preview


class Request(NamedTuple):
    """A change somebody asks for.

    ``title`` is short and safe to show.  ``forced`` is the same change with a protection off, for
    when it is refused; ``forced_means`` says what that risks.
    """

    title: str
    action: Action
    forced: Action | None = None
    forced_means: str = ""


def plan_next(
    session: Session, action: Action, progress: ProgressCallback, cancel: CancelToken
) -> Staged:
    """Plan ``action`` after what is planned already; the session stays as it is.

    Raises what ``qcow.edit.apply.Preview.add`` raises.
    """
    image = session.file_image
    if not isinstance(image, Image):
        raise EditRefused("Only qcow2 images can be changed.")
    before = [staged.action for staged in session.staged]
    return planned(image, before, action, session.gate, progress, cancel)


def planned(
    image: Image,
    before: Sequence[Action],
    action: Action,
    gate: Gate,
    progress: ProgressCallback,
    cancel: CancelToken,
) -> Staged:
    """Plan ``action`` on what the actions ``before`` make of ``image``.

    All of them are planned anew: the image on the screen goes on showing the earlier plan, and
    stays right when this one fails.
    """
    from qcow.edit.apply import Preview

    preview = Preview(image, gate=gate, progress=progress, cancel=cancel)
    try:
        for earlier in before:
            preview.add(earlier)
        return Staged(action, preview.add(action), preview)
    except BaseException:
        preview.close()
        raise
