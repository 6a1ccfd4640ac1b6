"""``history``: which changes of an image can be taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcow.text import safe

from .. import exit_codes
from ..opening import opened, require_qcow2
from ..options import COMMON, OUTPUTS, Arguments, one_operand, wants_json
from ..output import Output
from ..qemu_json import JsonObject, dumps
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.history import History
    from qcowtui.views.changes.past import Past

_SHOWN = 4096


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    as_json = wants_json(arguments)
    with opened(path, arguments) as opened_image:
        image = require_qcow2(opened_image)
        if not as_json:
            from qcowtui.views.changes.past import look_back

            output.lines(_lines(look_back(path, image)))
            return exit_codes.OK
        from qcow.edit.editor import refcount_digest
        from qcow.edit.history import History

        def generation() -> bytes:
            return refcount_digest(image)

        history = History.load(path, image.storage, generation)
        why = (
            history.why_not_undo(image.storage, generation),
            history.why_not_redo(image.storage, generation),
        )
    output.line(dumps(_json(path, history, *why)))
    return exit_codes.OK


def _json(path: str, history: History, no_undo: str | None, no_redo: str | None) -> JsonObject:
    return {
        "filename": path,
        "undo": no_undo is None,
        "no-undo-reason": no_undo,
        "redo": no_redo is None,
        "no-redo-reason": no_redo,
        "entries": [
            {
                "time-ns": entry.time_ns,
                "command": safe(entry.command, _SHOWN),
                "action": dict(entry.action),
                "undone": place >= history.position,
            }
            for place, entry in enumerate(history.entries)
        ],
        "given-up": [
            {
                "time-ns": note.time_ns,
                "reason": safe(note.reason, _SHOWN),
                "commands": [safe(command, _SHOWN) for command in note.commands],
            }
            for note in history.notes
        ],
    }


def _lines(past: Past) -> list[str]:
    lines = []
    for note in past.given_up:
        lines.append(f"Given up {note.time}: {note.reason}")
        lines += [f"            {command}" for command in note.commands]
    for number, change in enumerate(past.changes, 1):
        mark = "  (undone)" if change.undone else ""
        if change.next:
            mark += f"  <- {change.next}"
        lines.append(f"{number:>3}  {change.time}  {change.command}{mark}")
    if past.no_undo is not None:
        lines.append(past.no_undo)
    return lines


VERB = Verb(
    "history",
    "which changes can be taken back, and which no longer",
    "FILE",
    (*COMMON, *OUTPUTS),
    run,
    (("disk.qcow2", "Each change with its time and command line, oldest first."),),
    ("Nothing is written, neither to the image nor to the history.",),
)
