"""Keeping persistent dirty bitmaps right while guest data changes (qcow2 spec, "Bitmaps").

A bitmap that is enabled records every change of guest data; the one that says less than that would
make the next incremental backup wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .bitmap_data import Ranges, resize, set_ranges

if TYPE_CHECKING:
    from .transaction import Transaction


def mark_dirty(tx: Transaction, ranges: Sequence[tuple[int, int]]) -> None:
    """Set the bits of guest bytes ``ranges`` (start, end) in every enabled bitmap.

    A bitmap that is inconsistent says nothing, and stays as it is.
    """
    recording = [entry for entry in tx.bitmaps if entry.auto and not entry.in_use]
    if recording and ranges:
        found = Ranges.of(ranges)
        for entry in recording:
            set_ranges(tx, entry, found)


def resize_bitmaps(tx: Transaction, size: int) -> None:
    """Make every bitmap fit a disk of ``size`` bytes; bits of an area that is new are clear.

    Raises EditRefused for an inconsistent bitmap and for one that would become too large.
    """
    for entry in list(tx.bitmaps):
        resize(tx, entry, size)
