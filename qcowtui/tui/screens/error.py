"""What went wrong, what follows, what to do next: a panel that stays until it is read."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from .panel import PanelScreen


class ErrorScreen(PanelScreen[None]):
    """All texts are sentences that are safe to show."""

    HINT = "esc leave"

    def __init__(self, title: str, cause: str, consequence: str, next_step: str) -> None:
        super().__init__()
        self._heading = title
        self._parts = (
            ("What happened", cause),
            ("What follows", consequence),
            ("What to do", next_step),
        )

    def title_text(self) -> str:
        return self._heading

    def contents(self) -> list[Widget]:
        found: list[Widget] = []
        for heading, text in self._parts:
            if text:
                bold = Content.styled(f"{heading}\n", "bold $text-error")
                found.append(self.paragraph(bold + Content(text)))
        return found
