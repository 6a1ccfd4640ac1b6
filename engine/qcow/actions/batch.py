"""How much guest data a long change makes last at a time."""

from __future__ import annotations

#: Bytes at least.
BATCH = 256 << 20


def batch(virtual_size: int) -> int:
    """Guest bytes that one switch of an image of that size shall be worth: what a kill can cost.

    The checks of a switch cost more in a large image, the memory of what is written in between
    costs more the longer it is kept.
    """
    return max(BATCH, virtual_size >> 10)
