"""Why an image cannot be changed now."""

from __future__ import annotations

from qcow.findings import Severity
from qcow.image.image import Image

from ..badges import holder_names
from ..session import Session


class Keyed(str):
    """A sentence in which ``{id}`` stands for the key of a command; nothing of it is foreign."""

    __slots__ = ()


LOCKED = Keyed("Press {edit.unlock} to allow changes.")
UNFINISHED = Keyed("An unfinished change waits; {edit.recover} completes it first.")
NO_IMAGE = Keyed("Only qcow2 images can be changed; {repair.start} looks whether this was one.")
NOT_FOLLOWED = Keyed("The backing file is not open: {chain.follow} allows that.")
PLANNED = Keyed("Changes are planned: {edit.apply} applies them, {edit.drop} drops the last one.")


def obstacle(session: Session) -> str | None:
    """Why nothing can be changed, a sentence; None when it can.  It may be :class:`Keyed`."""
    return (
        unlock_obstacle(session)
        or (UNFINISHED if session.journal is not None else None)
        or _damage(session)
        or (None if session.unlocked else LOCKED)
    )


def shut(session: Session) -> str | None:
    """The same for what may be done to a damaged image: repairing it, taking a change back."""
    return (
        unlock_obstacle(session)
        or (UNFINISHED if session.journal is not None else None)
        or (None if session.unlocked else LOCKED)
    )


def unlock_obstacle(session: Session) -> str | None:
    """Why changes cannot even be allowed."""
    image = session.file_image
    if not isinstance(image, Image):
        return NO_IMAGE
    if session.live:
        who = holder_names(session.holders, writers_only=True)
        return f"In use{f' by {who}' if who else ''}: it can be changed once it is released."
    return None


def _damage(session: Session) -> str | None:
    """What has to be repaired first, in the image with all that is planned."""
    image = session.image
    if not isinstance(image, Image):
        return None
    repair = "{repair.start} repairs it first."
    if image.geometry is None or image.refused is not None:
        return Keyed(f"The image is damaged: {repair}")
    if any(problem.severity >= Severity.CORRUPTION for problem in image.problems):
        return Keyed(f"The image is damaged: {repair}")
    if image.header.corrupt:
        return Keyed(f"The image is marked corrupt: {repair}")
    if image.header.dirty:
        return Keyed(f"The image was not cleanly shut down (dirty): {repair}")
    check = session.check
    if check is not None and (check.corruptions or check.extra_corruptions or check.check_errors):
        return Keyed(f"The check found errors in the image: {repair}")
    return None
