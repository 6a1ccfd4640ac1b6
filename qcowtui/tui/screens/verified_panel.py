"""What a repair came to: the check before and after, and the way back."""

from __future__ import annotations

from textual.content import Content

from qcow.edit.plan import Plan

from ...views.damage_strip import MEANINGS, damage_strip
from ...views.health import health, health_words
from ...views.pyramid import ClassPyramid
from ...views.repair_view import before_and_after
from ...views.session import Session
from ...views.tones import Tone
from ..panes.toned import content
from .change_panel import ChangePanel, Choice

_LABEL = 8


class VerifiedScreen(ChangePanel[bool]):
    """Shown once the repaired image was checked; the result is whether to take the repair back."""

    def __init__(
        self, plan: Plan, before: ClassPyramid | None, session: Session, undo_key: str
    ) -> None:
        """``before``: the map of the damaged image, where it is known."""
        super().__init__()
        self._plan = plan
        self._before = before
        self._session = session
        self._undo_key = undo_key

    def title_text(self) -> str:
        return "Repaired"

    def on_mount(self) -> None:
        check = self._session.check
        assert check is not None, "it is shown when there is one"
        known = health(check, self._session.triage)
        outcome = self._plan.outcome
        rows: list[tuple[str, str | tuple[str, Tone]]] = [
            ("check", (before_and_after(self._plan, check), known.tone)),
            ("now", f"{health_words(known)}."),
        ]
        rows += [("left", (text, Tone.WARNING)) for text in outcome.warnings]
        if outcome.loses:
            rows.append(("lost", (outcome.loses, Tone.WARNING)))
        lines = [content((outcome.summary, Tone.STRONG)), *self.columns(rows)]
        self.show_body(*lines, *self._strips())
        back = Choice(self._undo_key, "Take it all back", "the image as it was", self._undo)
        self.show_choices(Choice("", "Done", "", self.action_leave), back, hint="enter done")

    def _strips(self) -> list[Content]:
        after = self._session.host_map
        if self._before is None or after is None:
            return []
        cells = self.inside - _LABEL
        found = [Content("")]
        for label, pyramid in (("before", self._before), ("after", after)):
            found.append(content((f"{label:<{_LABEL}}", Tone.MUTED), *damage_strip(pyramid, cells)))
        words = "   ".join(f"{glyph} {meaning}" for glyph, meaning in MEANINGS.items())
        found.append(content((f"the file from end to end:  {words}", Tone.MUTED)))
        return found

    def _undo(self) -> None:
        self.dismiss(True)

    def action_leave(self) -> None:
        self.dismiss(False)
