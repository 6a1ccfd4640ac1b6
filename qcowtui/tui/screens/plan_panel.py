"""The plan of a change: worked out, shown, and put into the queue or carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from textual import on
from textual.content import Content

from qcow.errors import Cancelled, QcowError, ReferenceRefused
from qcow.jobs import CancelToken, ProgressCallback
from qcow.text import safe

from ...views.changes.confirming import Strength, strength
from ...views.changes.plan_strip import GLYPHS, MEANINGS, Cell, plan_strip
from ...views.changes.plan_words import plan_rows
from ...views.changes.staging import Request, Staged
from ...views.tones import Tone
from ...views.work import progress_text
from ..bindings import with_keys
from ..messages import TaskEnded, TaskMoved
from ..panes.toned import content
from ..task import Task
from .change_panel import ChangePanel, Choice

if TYPE_CHECKING:
    from qcow.edit.apply import Action
    from qcow.edit.plan import Plan

Planner = Callable[["Action", ProgressCallback, CancelToken], Staged]

_TONES = {
    Cell.SAME: Tone.MUTED,
    Cell.GONE: Tone.MUTED,
    Cell.FREED: Tone.WARNING,
    Cell.WRITTEN: Tone.GOOD,
}


class Planned(NamedTuple):
    """``now``: carry it out, with what was planned before it, instead of queueing it."""

    staged: Staged
    now: bool


class PlanScreen(ChangePanel[Planned | None]):
    """The result is None when the user left it at that.  Nothing is written while this is open."""

    HINT = "esc leave"

    def __init__(
        self,
        request: Request,
        plan: Planner,
        *,
        queued: int = 0,
        now: str = "",
        reclaim_key: str = "reclaim",
    ) -> None:
        """``queued``: changes planned before.  ``now`` names the answer that carries it out at
        once, for a change that is never queued."""
        super().__init__()
        self._request = request
        self._plan = plan
        self._queued = queued
        self._now = now
        self._reclaim_key = reclaim_key
        self._at_work: Task[Staged] | None = None
        self._staged: Staged | None = None
        self._forced = False

    def title_text(self) -> str:
        return self._request.title

    def on_mount(self) -> None:
        self._start(self._request.action)

    def _start(self, action: Action) -> None:
        self._show_progress("Working out the plan …")
        self._at_work = Task(self, lambda progress, cancel: self._plan(action, progress, cancel))
        self._at_work.start()

    @property
    def at_work(self) -> bool:
        return self._at_work is not None

    # ---- while it is worked out

    def _show_progress(self, text: str) -> None:
        self.show_body(Content(text), content(("Nothing is written.", Tone.MUTED)))
        self.show_choices(hint="esc stop and leave")

    @on(TaskMoved)
    def _moved(self, event: TaskMoved) -> None:
        if event.task is self._at_work:
            text = progress_text("Planning", event.progress, event.in_phase)
            self.show_body(Content(text), content(("Nothing is written.", Tone.MUTED)))

    @on(TaskEnded)
    def _ended(self, event: TaskEnded) -> None:
        self._at_work = None
        if isinstance(event.error, Cancelled):
            self.dismiss(None)
        elif event.error is not None:
            self._show_refusal(event.error)
        else:
            staged: Staged = event.result
            self._staged = staged
            self._show_plan(staged.plan)

    def action_leave(self) -> None:
        if self._at_work is not None:
            self._at_work.cancel()  # its end leaves
            return
        if self._staged is not None:
            self._staged.preview.close()
        self.dismiss(None)

    # ---- a plan

    def _show_plan(self, plan: Plan) -> None:
        rows = plan_rows(plan, self._reclaim_key)
        lines = self.columns([(row.label, (row.text, row.tone)) for row in rows])
        if self._forced:
            said = f"A protection is off: {self._request.forced_means}"
            lines.insert(0, content((said, Tone.WARNING)))
        if plan.freed_ranges or plan.written_ranges:
            lines += [Content(""), *self._strip(plan)]
        self.show_body(*lines)
        leave = Choice("", "Leave", "forget this plan", self.action_leave)
        if plan.changes_nothing:
            self.show_choices(leave, hint="enter leave · y copy the command line")
            return
        now = Choice("a", self._now or "Apply it now", self._cost(plan), self._apply)
        queue = Choice("", "Add to the queue", "nothing is written yet", self._queue)
        choices = (now, leave) if self._now else (queue, now, leave)
        self.show_choices(*choices, hint="enter choose · y copy the command line · esc leave")

    def _cost(self, plan: Plan) -> str:
        if self._queued:
            return f"after the {self._queued} planned before it"
        asked = strength([plan])
        if asked is Strength.WORD:
            return "asks for a word, for there is no way back"
        return "asks once more" if asked is Strength.KEY else "at once"

    def _strip(self, plan: Plan) -> list[Content]:
        runs = plan_strip([plan], self.inside)
        line = content(*((GLYPHS[cell] * cells, _TONES[cell]) for cell, cells in runs))
        shown = {cell for cell, _ in runs}
        words = "   ".join(f"{GLYPHS[c]} {MEANINGS[c]}" for c in MEANINGS if c in shown)
        return [line, content((f"the file from end to end:  {words}", Tone.MUTED))]

    def _queue(self) -> None:
        if self._staged is not None:
            self.dismiss(Planned(self._staged, now=False))

    def _apply(self) -> None:
        if self._staged is not None:
            self.dismiss(Planned(self._staged, now=True))

    def key_y(self) -> None:
        """Copy the command line that does the same."""
        if self._staged is not None:
            text = safe(self._staged.plan.command, 4096)
            self.app.copy_to_clipboard(text)
            self.say("The command line was copied, if your terminal allows it.")

    # ---- a refusal

    def _show_refusal(self, error: Exception) -> None:
        cause = str(error)
        if not isinstance(error, QcowError):
            cause = (
                f"Planning stopped on a defect of qcowtui itself ({type(error).__name__}: "
                f"{safe(str(error), 200)}). Please report it."
            )
        if isinstance(error, ReferenceRefused):
            follow = with_keys("Here, {chain.follow} allows it.", self.qcow_app.keymap)
            cause = f"{cause}\n{follow}"
        self.show_body(
            content(("It is not done.", Tone.BAD)),
            Content(cause),
            Content(""),
            content(("Nothing was changed.", Tone.MUTED)),
        )
        leave = Choice("", "Leave it", "", self.action_leave)
        forced = self._request.forced
        if forced is None or self._forced or not isinstance(error, QcowError):
            self.show_choices(leave, hint="esc leave")
            return
        means = self._request.forced_means
        nevertheless = Choice("f", "Plan it nevertheless", means, self._force)
        self.show_choices(leave, nevertheless, hint="enter choose · esc leave")

    def _force(self) -> None:
        self._forced = True
        assert self._request.forced is not None
        self._start(self._request.forced)
