"""Switches as the patches they are made of: taken back, looked for in a file, cut into sectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..layout.constants import SECTOR as SECTOR
from ..layout.patch import Patch as Patch
from ..storage.base import Storage


def reversed_switch(patches: Iterable[Patch]) -> tuple[Patch, ...]:
    """The switch that takes ``patches`` back."""
    return tuple(patch.reversed() for patch in patches)


def is_at(storage: Storage, patches: Iterable[Patch], side: str) -> bool:
    """Whether every patched byte of ``storage`` is as ``side`` ("before" or "after") has it."""
    return all(
        storage.read(patch.offset, len(patch.after)) == getattr(patch, side) for patch in patches
    )


def sector_pieces(offset: int, length: int) -> Iterator[slice]:
    """The parts of ``length`` bytes at ``offset`` that a disk writes as one, as slices of them."""
    at = 0
    while at < length:
        end = min(length, ((offset + at) // SECTOR + 1) * SECTOR - offset)
        yield slice(at, end)
        at = end
