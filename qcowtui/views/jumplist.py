"""Where the user has been: back and forward, as in a browser."""

from __future__ import annotations

from .selection import Selection

#: Places kept.
MAX_PLACES = 100


class JumpList:
    """Places in the order they were visited; the current one is the last, or stepped back from."""

    def __init__(self) -> None:
        self._places: list[Selection] = []
        self._at = -1

    def visit(self, leaving: Selection, place: Selection) -> None:
        """Note a jump from ``leaving`` to ``place``; what was ahead is forgotten."""
        del self._places[self._at + 1 :]
        for one in (leaving, place):
            if not one.empty and not (self._places and self._places[-1].same_place(one)):
                self._places.append(one)
        del self._places[:-MAX_PLACES]
        self._at = len(self._places) - 1

    @property
    def can_go_back(self) -> bool:
        return self._at > 0

    @property
    def can_go_forward(self) -> bool:
        return self._at + 1 < len(self._places)

    def back(self) -> Selection | None:
        """The place before; None at the first."""
        return self._step(-1) if self.can_go_back else None

    def forward(self) -> Selection | None:
        """The place after; None at the last."""
        return self._step(1) if self.can_go_forward else None

    def _step(self, by: int) -> Selection:
        self._at += by
        return self._places[self._at]
