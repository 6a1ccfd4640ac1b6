"""Carrying out planned changes, and explaining what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from qcow.errors import (
    Cancelled,
    ChangedError,
    IndeterminateError,
    LockedError,
    NoSpaceError,
    QcowError,
)
from qcow.jobs import CancelToken, ProgressCallback
from qcow.text import safe

from ..units import plural

if TYPE_CHECKING:
    from qcow.edit.apply import Action
    from qcow.edit.mending import Mending
    from qcow.edit.plan import ImageMark, Plan
    from qcow.storage.gate import Gate
    from qcow.storage.holders import Holder
    from qcow.storage.local import LocalFile


class Report(NamedTuple):
    """``done`` are the changes that were made; after an ``error`` the others were not.

    ``partly``: the one that failed had made a part of its work last.  ``notes`` are sentences.
    """

    done: tuple[Plan, ...]
    asked: int
    error: Exception | None = None
    partly: bool = False
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the file may be another one than before."""
        return bool(self.done) or self.partly or isinstance(self.error, IndeterminateError)

    @property
    def keeps_plans(self) -> bool:
        """Whether what was planned can be tried again as it is."""
        return not self.changed and not isinstance(self.error, ChangedError)


class Explained(NamedTuple):
    """Sentences, safe to show."""

    cause: str
    consequence: str
    next_step: str


def apply_all(
    path: str,
    actions: Sequence[Action],
    planned_on: ImageMark,
    *,
    mending: Mending | None = None,
    gate: Gate,
    own: Iterable[LocalFile],
    begin: Callable[[int], None],
    progress: ProgressCallback,
    cancel: CancelToken,
) -> Report:
    """Carry the actions out under the locks; ``begin`` is told the number of each.

    ``mending``: how a file is seen that is no image until it is repaired.

    Nothing is raised: what goes wrong is in the report.
    """
    from qcow.edit.apply import open_for_change

    done: list[Plan] = []
    notes: list[str] = []
    partly = False
    try:
        with open_for_change(
            path,
            also=tuple({depth for action in actions for depth in action.writes_below}),
            mending=mending,
            gate=gate,
            own=own,
            progress=progress,
            cancel=cancel,
        ) as change:
            recovered = change.recovered.action if change.recovered is not None else ""
            notes += _notes(recovered, change.access.report.readers)
            change.require(planned_on)
            for number, action in enumerate(actions):
                begin(number)
                try:
                    done.append(change.run(action))
                except Exception:
                    partly = bool(change.editor.switches)
                    raise
    except Exception as error:
        return Report(tuple(done), len(actions), error, partly, tuple(notes))
    return Report(tuple(done), len(actions), notes=tuple(notes))


def _notes(recovered: str, readers: Iterable[Holder]) -> list[str]:
    found = []
    if recovered:
        found.append(f"An earlier change that was interrupted was completed: {safe(recovered)}")
    for reader in readers:
        found.append(
            f"{reader.command} (process {reader.pid}) has the image open for reading; what it "
            "shows may be out of date now."
        )
    return found


def explained(report: Report) -> Explained:
    """What happened, what follows, what to do, of a report with an error."""
    error = report.error
    assert error is not None
    return Explained(_cause(error), _consequence(report), _next_step(report))


def _cause(error: Exception) -> str:
    if isinstance(error, Cancelled):
        return "You cancelled it."
    if isinstance(error, QcowError):
        return str(error)
    return (
        f"It stopped on a defect of qcowtui itself ({type(error).__name__}: "
        f"{safe(str(error), 200)}). Please report it."
    )


def _consequence(report: Report) -> str:
    if isinstance(report.error, IndeterminateError):
        return "The image is the old or the new one; either is complete and sound."
    if not report.changed:
        return "Nothing was changed: the image is as it was."
    made = len(report.done)
    first = f"{plural(made, 'change')} of {report.asked} {'was' if made == 1 else 'were'} made. "
    part = "A part of the next one was made, too. " if report.partly else ""
    sound = "The image is complete and sound; undo takes back what was made."
    return f"{first if made else ''}{part}{sound}"


def _next_step(report: Report) -> str:
    error = report.error
    kept = "What was planned is still planned" if report.keeps_plans else ""
    if isinstance(error, ChangedError):
        return "What was planned no longer fits and was dropped: plan it on the image as it is."
    if isinstance(error, LockedError):
        return f"End the program that uses the image, then apply again. {kept}."
    if isinstance(error, NoSpaceError):
        return f"Make room on the file system, then try again. {kept or 'Plan the rest anew'}."
    if kept:
        return f"{kept}: apply it again, or drop it."
    return "Look at the image as it is now, and plan the rest anew."
