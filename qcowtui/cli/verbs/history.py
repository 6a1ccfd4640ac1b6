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

_SHOWN = 4096


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    as_json = wants_json(arguments)
    with opened(path, arguments) as opened_image:
        image = require_qcow2(opened_image)
        from qcow.edit.editor import refcount_digest
        from qcow.edit.history import History

        def generation() -> bytes:
            return refcount_digest(image)

        history = History.load(path, image.storage, generation)
        why = (
            history.why_not_undo(image.storage, generation),
            history.why_not_redo(image.storage, generation),
        )
    if as_json:
        output.line(dumps(_json(path, history, *why)))
    else:
        output.lines(_lines(history, *why))
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


def _lines(history: History, no_undo: str | None, no_redo: str | None) -> list[str]:
    from qcow.edit.history import when

    lines = []
    for note in history.notes:
        lines.append(f"Given up {when(note.time_ns)}: {safe(note.reason, _SHOWN)}")
        lines += [f"            {safe(command, _SHOWN)}" for command in note.commands]
    for place, entry in enumerate(history.entries):
        mark = ""
        if place >= history.position:
            mark = "  (undone)"
        if place == history.position - 1 and no_undo is None:
            mark += "  <- undo"
        if place == history.position and no_redo is None:
            mark += "  <- redo"
        lines.append(f"{place + 1:>3}  {when(entry.time_ns)}  {safe(entry.command, _SHOWN)}{mark}")
    if no_undo is not None:
        lines.append(no_undo)
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
