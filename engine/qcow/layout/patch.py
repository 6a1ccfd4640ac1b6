"""An in-place change of live bytes.  A *switch* from one state of an image to another is some."""

from __future__ import annotations

from dataclasses import dataclass


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
