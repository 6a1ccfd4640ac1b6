"""What can be asked of the guest disk and of the file as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from qcow.errors import UsageError
from qcow.text import safe

from ..typed_size import size_value
from ..units import offset, size, size_and_bytes
from .staging import Request

_SECTOR = 512


def new_size(text: str, now: int) -> int:
    """Bytes of the disk that ``20G``, ``+10G`` or ``-512M`` mean; whole sectors.

    Raises UsageError.
    """
    typed = text.strip().replace("iB", "").replace(" ", "")
    sign = typed[:1] if typed[:1] in ("+", "-") else ""
    number = size_value(typed.removeprefix(sign))
    if number is None:
        raise UsageError(f'"{safe(text, 40)}" is no size. Try 20G, +10G or -512M.')
    wanted = now + number if sign == "+" else now - number if sign == "-" else number
    if wanted <= 0:
        raise UsageError("Nothing would be left of the disk.")
    return -(-wanted // _SECTOR) * _SECTOR


def resize_meaning(text: str, now: int) -> tuple[str, bool]:
    """(what a typed size comes to, whether it is none), safe to show."""
    if not text.strip():
        return "", True
    try:
        wanted = new_size(text, now)
    except UsageError as error:
        return str(error), True
    if wanted == now:
        return "That is its size already.", True
    if wanted > now:
        return f"Grows to {size_and_bytes(wanted)}, by {size(wanted - now)}.", False
    return (
        f"Shrinks to {size_and_bytes(wanted)}, by {size(now - wanted)}. It is refused where data "
        "or a partition lies behind the new end.",
        False,
    )


def resize(values: Mapping[str, str], now: int) -> Request:
    """Another size: ``size`` as typed, ``preallocation`` for growing.  Raises UsageError."""
    from qcow.actions.resize import Resize

    wanted = new_size(values["size"], now)
    if wanted < now:
        return Request(
            f"Shrink the disk to {size(wanted)}",
            Resize(wanted, shrink=True),
            Resize(wanted, shrink=True, force=True),
            "data behind the new end is cut off",
        )
    mode = {"metadata": "metadata", "falloc": "falloc", "full": "full"}.get(values["preallocation"])
    title = f"Grow the disk to {size(wanted)}"
    return Request(title, Resize(wanted, preallocation=mode or "off"))  # type: ignore[arg-type]


class GuestRange(NamedTuple):
    """Bytes of the guest disk."""

    start: int
    length: int


def guest_range(values: Mapping[str, str], disk: int) -> GuestRange:
    """The range that ``start`` and ``length`` mean.  Raises UsageError."""
    found = []
    for name in ("start", "length"):
        number = size_value(values[name].strip().replace("iB", "").replace(" ", ""))
        if number is None:
            raise UsageError(f'"{safe(values[name], 40)}" is no {name}. Try 64k, 10G or 0x1f0000.')
        found.append(number)
    start, length = found
    if not length:
        raise UsageError("A range needs a length.")
    if start + length > disk:
        raise UsageError(f"The range ends beyond the disk, which has {size_and_bytes(disk)}.")
    return GuestRange(start, length)


def range_meaning(values: Mapping[str, str], disk: int) -> tuple[str, bool]:
    """(what the range is, whether it is none), safe to show."""
    try:
        chosen = guest_range(values, disk)
    except UsageError as error:
        return str(error), True
    end = chosen.start + chosen.length
    return f"Guest bytes {offset(chosen.start)} to {offset(end)}: {size(chosen.length)}.", False


def discard(values: Mapping[str, str], disk: int) -> Request:
    """Give a range up, or fill it with zeros to the byte (``how``).  Raises UsageError."""
    from qcow.actions.discard import Discard, Zero

    chosen = guest_range(values, disk)
    ranges = ((chosen.start, chosen.length),)
    shown = f"{size(chosen.length)} from {offset(chosen.start)}"
    if values["how"] == "zero":
        return Request(f"Fill {shown} with zeros", Zero(ranges))
    return Request(f"Discard {shown}", Discard(ranges))


def compact(values: Mapping[str, str]) -> Request:
    """The file as short as it can be; ``how`` says what else."""
    from qcow.actions.compact import Compact

    how = values["how"]
    action = Compact(
        zeroes=how in ("zeroes", "all"), defragment=how == "all", reclaim=how != "keep"
    )
    return Request("Compact the file", action)


def reclaim() -> Request:
    """Free space back to the host, and with it undo."""
    from qcow.actions.history import Reclaim

    return Request("Reclaim free space", Reclaim())


def undo() -> Request:
    """The last change back."""
    from qcow.actions.history import Undo

    return Request("Undo the last change", Undo())


def redo() -> Request:
    """The change taken back last, again."""
    from qcow.actions.history import Redo

    return Request("Redo the change taken back last", Redo())
