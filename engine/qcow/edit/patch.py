"""An in-place change of live bytes.  A *switch* from one state of an image to another is some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..storage.base import Storage

#: What a disk writes as one; bytes are old or new by such pieces after a power cut.
SECTOR = 512


@dataclass(frozen=True, slots=True)
class Patch:
    """``before`` at byte ``offset`` of the file becomes ``after``; both are equally long.

    Raises ValueError when they are not, when they are empty and for an impossible offset.
    """

    offset: int
    before: bytes
    after: bytes

    def __post_init__(self) -> None:
        if len(self.before) != len(self.after) or not self.after or self.offset < 0:
            raise ValueError(
                f"no patch: {len(self.before)} bytes for {len(self.after)} at {self.offset}"
            )

    @property
    def end(self) -> int:
        return self.offset + len(self.after)

    def reversed(self) -> Patch:
        """The patch that takes this one back."""
        return Patch(self.offset, self.after, self.before)


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
