"""What is said of guest data that is not to be had: zeros, or what the backing file has there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...findings import GuestRange
from ...image.image import Image
from ...layout.constants import OFLAG_ZERO
from ...layout.tables import U64
from .remedy import Option
from .scan import Entries

if TYPE_CHECKING:
    from ...edit.repairing import Repair

#: Keys of the options.
ZERO, BACKING = "zero", "backing"
_ELSE = "Everything else."
_ALL_ZERO = np.uint64(0xFFFFFFFF << 32)

Ranges = tuple[GuestRange, ...]


def zero_option(changes: Ranges, loses: str, writes: str) -> Option:
    """The guest reads zeros in the ranges ``changes``."""
    title = "Let the guest read zeros there"
    return Option(ZERO, title, _ELSE, loses, writes, certain=False, changes=changes)


def backing_option(
    changes: Ranges, loses: str, writes: str, *, key: str = BACKING, keeps: str = _ELSE
) -> Option:
    """The guest reads the backing file in the ranges ``changes``."""
    title = f"Let the guest read {shown_by_nothing(backed=True)}"
    return Option(key, title, keeps, loses, writes, certain=False, changes=changes)


def options_for(image: Image, changes: Ranges, loses: str, writes: str) -> tuple[Option, ...]:
    """Zeros, and the backing file where the image has one."""
    zero = zero_option(changes, loses, writes)
    return (zero,) if image.backing is None else (zero, backing_option(changes, loses, writes))


def shown_by_nothing(*, backed: bool) -> str:
    """What a guest reads where nothing is mapped."""
    return "what the backing file has there" if backed else "zeros there"


def given_up(tx: Repair, found: Entries, key: str) -> tuple[U64, U64 | None]:
    """The values of the entries, and their bitmaps, by which the option ``key`` comes true."""
    return zeroed(tx, found) if key == ZERO else unmapped(found)


def unmapped(found: Entries) -> tuple[U64, U64 | None]:
    """Entries that map nothing."""
    return (
        np.zeros_like(found.values),
        None if found.bitmaps is None else np.zeros_like(found.bitmaps),
    )


def zeroed(tx: Repair, found: Entries) -> tuple[U64, U64 | None]:
    """Entries that read as zeros, in whatever way the image can say that."""
    if found.bitmaps is not None:
        return np.zeros_like(found.values), np.full_like(found.bitmaps, _ALL_ZERO)
    if tx.geometry.version >= 3:
        return np.full_like(found.values, np.uint64(OFLAG_ZERO)), None
    if tx.image.backing is None:
        return unmapped(found)
    # Version 2 over a backing file can say it only with a cluster of zeros.
    zeros = bytes(tx.geometry.cluster_size)
    places = [tx.place(zeros) for _ in range(len(found.values))]
    return np.array(places, dtype=np.uint64), None
