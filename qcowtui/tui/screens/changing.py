"""Changing the image: allowing it, the queue of planned changes, carrying them out, undo."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual import on

from qcow.errors import Cancelled, QcowError
from qcow.jobs import CancelToken, ProgressCallback
from qcow.text import safe

from ...commands.command import Command
from ...commands.edit_commands import EDIT, EDIT_CHAIN, EDIT_MAP, EDIT_SNAPSHOTS
from ...commands.registry import command
from ...views.session import Part, Session
from ...views.units import plural
from ...views.work import OPENING, PAST, PLANNED, progress_text
from ..bindings import key_of
from ..messages import TaskEnded, TaskMoved
from ..task import Task
from ..widgets.progress_line import ProgressLine
from .error import ErrorScreen
from .question import Answer, QuestionScreen
from .working import WorkingScreen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcow.edit.apply import Action
    from qcow.edit.mending import Mending

    from ...views.changes.applying import Report
    from ...views.changes.staging import Request, Staged
    from .apply_panel import Work
    from .plan_panel import Planned

#: What the list of changes leaves out: itself, and what only looks.
_NOT_LISTED = {"edit.menu", "edit.history", "edit.show_plan"}


class ChangingScreen(WorkingScreen):
    """Asks, plans, shows and applies; what there is to ask for is in the subclasses."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._looking: Task[Any] | None = None
        self._found: Callable[[Any], None] = lambda _result: None
        self._looking_for = ""

    def key_for(self, id: str) -> str:
        """The user's key of a command, or its name in the palette."""
        found = command(id)
        return key_of(self.qcow_app.keymap, found) or found.palette_title

    # ---- allowing changes

    def action_unlock(self) -> None:
        """Allow changes, or no longer."""
        self.session.unlocked = not self.session.unlocked
        self._plans_changed()
        if self.session.unlocked:
            self.say_why_not(
                f"Changes are allowed now. {self.key_for('edit.menu')} lists them; each shows its "
                "plan before anything is written."
            )
        else:
            self.say_why_not("Read-only again.")

    def _plans_changed(self) -> None:
        self.tell_part(Part.PLANS)
        self.show_title()
        self.refresh_bindings()

    def action_change_menu(self) -> None:
        """List what can be changed; what cannot says why."""
        listed = [
            one
            for one in (*EDIT, *EDIT_SNAPSHOTS, *EDIT_CHAIN, *EDIT_MAP)
            if one.id not in _NOT_LISTED
        ]
        reasons = {one.id: self.reason_against(one) for one in listed}
        listed.sort(key=lambda one: reasons[one.id] is not None)  # stable: what can be done first
        width = max(len(one.palette_title) for one in listed)
        answers = [self._menu_entry(one, reasons[one.id], width) for one in listed]

        async def picked(id: str | None) -> None:
            if id is not None:
                await self.run_command(command(id))

        menu = QuestionScreen("Change the image", "", answers, one_line=True)
        self.app.push_screen(menu, picked)

    def _menu_entry(self, found: Command, reason: str | None, width: int) -> Answer:
        key = key_of(self.qcow_app.keymap, found)
        title = f"{key:<4}{found.palette_title:<{width}}"
        return Answer(found.id, title, reason or "", dim=reason is not None)

    # ---- finding something out before one can ask

    @property
    def finding_out(self) -> bool:
        """Whether something is being found out."""
        return self._looking is not None

    def find_out(
        self,
        what: str,
        work: Callable[[ProgressCallback, CancelToken], Any],
        then: Callable[[Any], None],
    ) -> None:
        """Do ``work`` in a thread, then ``then`` with its result; what goes wrong is explained."""
        if self._looking is not None:
            self._looking.cancel()
        self._looking_for, self._found = what, then
        self.query_one(ProgressLine).show(f"{what} …", hint="esc stops")
        self._looking = Task(self, work)
        self._looking.start()

    @on(TaskMoved)
    def _task_moved(self, event: TaskMoved) -> None:
        if event.task is self._looking:
            text = progress_text(self._looking_for, event.progress, event.in_phase)
            self.query_one(ProgressLine).show(text, event.progress.fraction, "esc stops")

    @on(TaskEnded)
    def _task_ended(self, event: TaskEnded) -> None:
        if event.task is not self._looking:
            return
        self._looking = None
        self.query_one(ProgressLine).show("")
        if event.error is None:
            self._found(event.result)
        elif not isinstance(event.error, Cancelled):
            self.explain(f"{self._looking_for}: it did not work", event.error)

    def stop_jobs(self) -> bool:
        if self._looking is not None:
            self._looking.cancel()
            return True
        return super().stop_jobs()

    def explain(self, title: str, error: Exception) -> None:
        """Say what went wrong before anything was changed."""
        cause = str(error) if isinstance(error, QcowError) else safe(repr(error), 300)
        self.app.push_screen(ErrorScreen(title, cause, "Nothing was changed.", ""))

    # ---- planning

    def plan(self, request: Request, now: str = "") -> None:
        """Work the plan of a change out and show it.  ``now``: see ``PlanScreen``."""
        from ...views.changes.staging import plan_next
        from .plan_panel import PlanScreen

        def work(action: Action, progress: ProgressCallback, cancel: CancelToken) -> Staged:
            return plan_next(self.session, action, progress, cancel)

        screen = PlanScreen(
            request,
            work,
            queued=len(self.session.staged),
            now=now,
            reclaim_key=self.key_for("edit.reclaim"),
        )
        self.app.push_screen(screen, self._planned)

    def _planned(self, planned: Planned | None) -> None:
        if planned is None:
            return
        if not planned.now:
            self._stage(planned.staged)
            return
        before = self.session.staged

        def answered(report: Report | None) -> None:
            if report is None or (report.error is not None and report.keeps_plans):
                self._stage(planned.staged)
            else:
                planned.staged.preview.close()
            self._applied(report)

        self._carry_out((*before, planned.staged), answered, reviewed=not before)

    def _stage(self, staged: Staged) -> None:
        self._start(PLANNED, change=lambda: self.session.stage(staged))

    def action_drop(self) -> None:
        """Take the last planned change out of the queue."""
        jobs = PLANNED if len(self.session.staged) > 1 else OPENING
        self._start(jobs, change=self.session.unstage)

    def action_show_plan(self) -> None:
        """Draw what the plan frees and writes, or what the image would be."""
        self.session.difference = None
        self.session.shows_plan = not self.session.shows_plan
        self.tell_part(Part.DIFF)
        self.refresh_bindings()

    # ---- applying

    def action_apply(self) -> None:
        """Carry out what is planned."""
        self._carry_out(self.session.staged, self._applied)

    def _carry_out(
        self,
        staged: Sequence[Staged],
        then: Callable[[Report | None], None],
        *,
        reviewed: bool = False,
    ) -> None:
        self.carry_out_on(self.session.path, staged, then, reviewed=reviewed)

    def carry_out_on(
        self,
        path: str,
        staged: Sequence[Staged],
        then: Callable[[Report | None], None],
        *,
        reviewed: bool = False,
    ) -> None:
        """Ask, then carry out planned changes on the image at ``path``."""
        from .apply_panel import ApplyScreen

        self.app.push_screen(
            ApplyScreen(staged, self.work_on(path, staged), reviewed=reviewed), then
        )

    def work_on(self, path: str, staged: Sequence[Staged], mending: Mending | None = None) -> Work:
        """What applies ``staged``; ``mending``: how a file is seen that is no image until then."""
        from ...views.changes.applying import apply_all

        session = self.session
        actions = [one.action for one in staged]
        planned_on = staged[0].plan.on
        # The chain of the session may be closed by the time the work begins.
        own = session.own_files()

        def work(
            begin: Callable[[int], None], progress: ProgressCallback, cancel: CancelToken
        ) -> Report:
            self.qcow_app.has_written = True
            return self.runner.exclusively(
                lambda: apply_all(
                    path,
                    actions,
                    planned_on,
                    mending=mending,
                    gate=session.gate,
                    own=own,
                    begin=begin,
                    progress=progress,
                    cancel=cancel,
                )
            )

        return work

    def _applied(self, report: Report | None) -> None:
        if report is None:
            return
        if report.error is None or not report.keeps_plans:
            self._start(OPENING, reread=True)
        else:
            self.restart_jobs()
        self.tell_report(report)

    def restart_jobs(self) -> None:
        """Go on with what carrying something out stopped."""
        if not self.runner.busy:
            self._start(PLANNED if self.session.staged else OPENING)

    def tell_report(self, report: Report) -> None:
        """Say what came of carrying something out."""
        from ...views.changes.applying import explained
        from ...views.changes.plan_words import done_words

        notes = "\n".join(report.notes)
        if report.error is None:
            undo = f"{self.key_for('edit.undo')} takes the last change back."
            way_back = undo if report.done[-1].undoable and report.done[-1].verb != "undo" else ""
            text = "\n".join(part for part in (done_words(report.done), way_back, notes) if part)
            self.notify(text, title="Applied", markup=False, timeout=8)
            return
        said = explained(report)
        title = "Cancelled" if isinstance(report.error, Cancelled) else "It was not applied"
        if report.changed:
            title = "Only a part was applied"
        consequence = "\n".join(part for part in (said.consequence, notes) if part)
        self.app.push_screen(ErrorScreen(title, said.cause, consequence, said.next_step))

    # ---- undo, redo, the history, reclaim, an unfinished change

    def action_undo(self) -> None:
        from ...views.changes.disk_requests import undo

        self.plan(undo(), now="Undo it")

    def action_redo(self) -> None:
        from ...views.changes.disk_requests import redo

        self.plan(redo(), now="Redo it")

    def action_reclaim(self) -> None:
        from ...views.changes.disk_requests import reclaim

        self.plan(reclaim())

    def action_history(self) -> None:
        """List the changes that can be taken back."""
        from .history_panel import HistoryScreen

        past = self.session.past
        if past is None:
            self.say_why_not(
                self.session.failures.get(Part.PAST, "The history of the image is not read yet.")
            )
            return
        self.app.push_screen(
            HistoryScreen(past, self.key_for("edit.undo"), self.key_for("edit.redo"))
        )

    def action_recover(self) -> None:
        """Complete a change that was interrupted."""
        from qcow.edit.apply import recover_journal

        journal = self.session.journal
        if journal is None:
            return
        own = self.session.own_files()

        def work(_progress: ProgressCallback, _cancel: CancelToken) -> object:
            self.qcow_app.has_written = True
            return self.runner.exclusively(lambda: recover_journal(self.session.path, own=own))

        def completed(_result: object) -> None:
            self.session.journal = None
            self._start((PAST, *OPENING), reread=True)
            self.notify("The unfinished change is complete.", title="Completed", markup=False)

        def answered(key: str | None) -> None:
            if key == "complete":
                self.find_out("Completing the unfinished change", work, completed)

        answers = [
            Answer("leave", "Leave it as it is"),
            Answer("complete", "Complete it now", "what the journal holds is written to the image"),
        ]
        self.app.push_screen(QuestionScreen("Unfinished change", journal.what, answers), answered)

    # ---- leaving

    def ask_to_leave(self, leave: Callable[[], None]) -> None:
        """Leave at once, or ask when planned changes would be dropped."""
        if not self.session.staged:
            leave()
            return
        what = plural(len(self.session.staged), "planned change")

        def answered(key: str | None) -> None:
            if key == "leave":
                leave()

        answers = [Answer("stay", "Stay"), Answer("leave", "Leave", "nothing of it was written")]
        self.app.push_screen(
            QuestionScreen("Leave?", f"{what} would be dropped.", answers), answered
        )
