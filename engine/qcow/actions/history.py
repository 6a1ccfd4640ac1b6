"""The actions ``undo``, ``redo`` and ``reclaim``: going back, going forward, and giving that up."""

from __future__ import annotations

from typing import Any

from ..edit.editor import Editor
from ..edit.plan import Outcome
from ..edit.reclaim import reclaim
from ..record import record
from ..text import plural, safe
from .command_line import command_line


@record
class Undo:
    """Take the last change back: one switch to the root before it.

    Raises EditRefused when there is nothing to undo or another program wrote since.
    """

    verb = "undo"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        return command_line("undo", path)

    def describe(self) -> dict[str, Any]:
        return {"verb": "undo"}

    def run(self, editor: Editor) -> Outcome:
        entry = editor.undo()
        command = safe(entry.command, 4096)
        return Outcome(
            summary=f"Takes back: {command}",
            steps=("Writes the 512 bytes of the header as they were before.",),
            facts={"undone": command, "time-ns": entry.time_ns},
        )


@record
class Redo:
    """Make the change that was taken back last once more: one switch to the root after it.

    Raises EditRefused when there is nothing to redo or another program wrote since.
    """

    verb = "redo"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        return command_line("redo", path)

    def describe(self) -> dict[str, Any]:
        return {"verb": "redo"}

    def run(self, editor: Editor) -> Outcome:
        entry = editor.redo()
        command = safe(entry.command, 4096)
        return Outcome(
            summary=f"Makes again: {command}",
            steps=("Writes the 512 bytes of the header as they were after it.",),
            facts={"redone": command, "time-ns": entry.time_ns},
        )


@record
class Reclaim:
    """Give back to the host what the present state does not need, and with it undo."""

    verb = "reclaim"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        return command_line("reclaim", path)

    def describe(self) -> dict[str, Any]:
        return {"verb": "reclaim"}

    def run(self, editor: Editor) -> Outcome:
        undoable = editor.undo_count
        done = reclaim(editor)
        return Outcome(
            summary="Gives the space of freed clusters back to the host.",
            steps=(
                "Punches holes where no used cluster lies.",
                "Cuts the file behind the last used cluster.",
            ),
            loses=f"The way back: {plural(undoable, 'change')} can no longer be undone."
            if undoable
            else "",
            no_undo="What is reclaimed is gone.",
            facts={"punched": done.punched, "cut": done.cut},
        )
