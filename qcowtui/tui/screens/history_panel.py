"""The history of an image's changes: what can be taken back, and what no longer."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from ...views.changes.past import Past
from ...views.tones import Tone
from ..panes.toned import content
from .panel import PanelScreen

_DONE, _UNDONE = "●", "○"


class HistoryScreen(PanelScreen[None]):
    """Oldest first, with the place where the image stands now."""

    TITLE_TEXT = "History of changes"
    HINT = "↑ ↓ scroll · esc leave"
    DEFAULT_CSS = """
    HistoryScreen > .panel { width: 110; }
    """

    def __init__(self, past: Past, undo_key: str, redo_key: str) -> None:
        """The keys are those of the user, for people."""
        super().__init__()
        self._past = past
        self._keys = {"undo": undo_key, "redo": redo_key}

    def contents(self) -> list[Widget]:
        past = self._past
        found: list[Widget] = []
        if past.changes:
            lines = [content(("Newest last; ● made, ○ taken back.", Tone.MUTED)), *self._changes()]
            found.append(self.paragraph(Content("\n").join(lines)))
        if past.no_undo:
            found.append(self.paragraph(content((past.no_undo, Tone.WARNING))))
        if past.undoable:
            found.append(
                self.paragraph(
                    content(
                        (
                            "Undo and redo are one write each. They end when the space is "
                            "reclaimed or another program writes to the image.",
                            Tone.MUTED,
                        )
                    )
                )
            )
        if past.given_up:
            found.append(self.paragraph(Content("\n").join(self._given_up())))
        return found

    def _changes(self) -> list[Content]:
        lines = []
        undone_before = False
        for change in self._past.changes:
            if change.undone and not undone_before:
                undone_before = True
                lines.append(content(("   ── the image is here ──", Tone.NOTE)))
            mark = _UNDONE if change.undone else _DONE
            tone = Tone.MUTED if change.undone else Tone.PLAIN
            key = f"  ← {self._keys[change.next]} {change.next}" if change.next else ""
            time = (f" {change.time}  ", Tone.MUTED)
            lines.append(
                content((mark, Tone.NOTE), time, (change.command, tone), (key, Tone.STRONG))
            )
        if not undone_before:
            lines.append(content(("   ── the image is here ──", Tone.NOTE)))
        return lines

    def _given_up(self) -> list[Content]:
        lines = [content(("No longer possible", Tone.STRONG))]
        for note in self._past.given_up:
            lines.append(content((f"{note.time}  {note.reason}", Tone.WARNING)))
            lines += [content((f"    {command}", Tone.MUTED)) for command in note.commands]
        return lines
