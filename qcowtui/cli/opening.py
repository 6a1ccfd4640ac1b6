"""Opening the images a command line names, and saying in QEMU's words why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qcow.errors import LockedError, QcowError, UnsupportedFormat
from qcow.image.image import Image
from qcow.opening import AnyImage
from qcow.opening import open as open_image
from qcow.storage.gate import Gate, has_protocol
from qcow.storage.locks import LockMode
from qcow.text import safe

from .options import FOLLOW, FORCE_SHARE, FORMAT, Arguments


class NotOpened(QcowError):
    """An image named on the command line cannot be opened; the message is complete."""


def lock_mode(arguments: Arguments) -> LockMode:
    """How ``-U`` wants the image locked."""
    return LockMode.FORCE_SHARE if arguments.has(FORCE_SHARE.key) else LockMode.READER


def gate_of(arguments: Arguments) -> Gate:
    """What a verb that asks for guest data may open beside the image."""
    return Gate.follow() if arguments.has(FOLLOW.key) else Gate.own_folder()


@contextmanager
def opened(path: str, arguments: Arguments, *, format_key: str = FORMAT.key) -> Iterator[AnyImage]:
    """The image at ``path`` for the time of the block.  Raises NotOpened."""
    image = open_named(path, arguments.get(format_key), lock_mode(arguments))
    try:
        yield image
    finally:
        image.close()


def open_named(path: str, format: str | None, lock: LockMode) -> AnyImage:
    """Open an image as :func:`qcow.open` does.  Raises NotOpened with qemu-img's message."""
    try:
        return open_image(path, format=format, lock=lock)
    except LockedError as error:
        advice = "With -U it is looked at all the same; what is shown may then be inconsistent."
        raise not_opened(path, error, *who_holds(path), advice) from error
    except QcowError as error:
        raise not_opened(path, error, *_hint(path)) from error


def not_opened(path: str, error: QcowError, *further: str) -> NotOpened:
    """qemu-img's message about why, with ``further`` lines."""
    return NotOpened("\n".join((f"Could not open '{safe(path)}': {error}", *further)))


def who_holds(path: str) -> list[str]:
    """Lines about who has the image open, as far as that can be seen."""
    from qcow.storage.holders import holders

    try:
        found, hidden = holders(path)
    except QcowError:
        found, hidden = [], 0
    lines = [
        f"It is open for {'writing' if holder.writing else 'reading'} by {holder.command}"
        + (f" (pid {holder.pid})." if holder.pid else ".")
        for holder in found
    ]
    if not found and hidden:
        lines.append("Who holds it cannot be seen without the rights to look at other processes.")
    return lines


def _hint(path: str) -> list[str]:
    if has_protocol(path.encode("utf-8", "surrogateescape")):
        shown = safe(path.partition(":")[0])
        return [f"This version opens files and block devices only, not '{shown}:' addresses."]
    return []


def require_readable(image: AnyImage) -> None:
    """Raise NotOpened when QEMU would refuse the image: its verbs have nothing to say about it."""
    if isinstance(image, Image) and image.refused is not None:
        name = safe(image.name)
        raise NotOpened(
            f"Could not open '{name}': {image.refused.what}\n"
            f"`qcowtui header {name}` shows what is there nevertheless."
        )


def require_qcow2(image: AnyImage) -> Image:
    """``image`` as a qcow2 image.  Raises UnsupportedFormat."""
    if isinstance(image, Image):
        return image
    raise UnsupportedFormat(
        f"{safe(image.name)} is a {image.format} image; this question is about qcow2 images."
    )
