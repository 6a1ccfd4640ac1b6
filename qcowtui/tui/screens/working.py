"""The work behind a dashboard: starting and stopping jobs, following a file that is in use."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from textual import on
from textual.timer import Timer

from ...commands.registry import command
from ...views.badges import badges
from ...views.selection import select_host
from ...views.session import Part, PartState, Session
from ...views.summary import facts, file_name, verdict
from ...views.units import duration
from ...views.work import CHECK, HOST_MAP, LIVE, OPENING, Job, progress_text
from ..bindings import key_of
from ..job_runner import JobRunner
from ..messages import Exchange, JobEnded, JobProgress, JobStarted, QueueEnded, Watched
from ..widgets.progress_line import ProgressLine
from ..widgets.title_bar import TitleBar
from .navigating import NavigatedScreen

#: Seconds between two looks at a file that another process uses.
_WATCH = 0.7
#: A live view that takes long to read is read less often: this many times its own duration.
_PAUSE = 3.0


#: Seconds between two looks at what a running job has found so far.
_REDRAW = 0.2
_HOW_TO_STOP = "esc stops"


class WorkingScreen(NavigatedScreen):
    """Fills the session after opening, and again when the file changes."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.runner = JobRunner(self, session)
        self._watcher: Timer | None = None
        self._begun = 0.0
        self._drawn = 0.0  # when what a job has found so far was drawn last
        self._rested_at = 0.0  # when the last refresh of a live view may be followed by another
        self._stale = False

    def on_mount(self) -> None:
        self.show_title()
        # The first paint waits for nothing: work begins when it is done.
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self._start(LIVE if self.session.live else OPENING)
        if self.session.live:
            self._watch_on()
        self.runner.watch()

    def _start(
        self,
        jobs: tuple[Job, ...],
        *,
        reread: bool = False,
        change: Callable[[], None] | None = None,
    ) -> None:
        self._begun = time.monotonic()
        self.runner.start(jobs, reread=reread, change=change)

    def on_unmount(self) -> None:
        self.runner.close()

    # ---- commands

    def action_check(self) -> None:
        """Check again, with what the map needs for it."""
        self.runner.run_next(CHECK, HOST_MAP)

    def action_reload(self) -> None:
        """Read the file anew."""
        self._start(LIVE if self.session.live else OPENING, reread=True)

    def stop_jobs(self) -> bool:
        """Stop what is running; whether anything was."""
        if not self.runner.busy:
            return False
        self.runner.stop()
        return True

    # ---- what the jobs say

    @on(Exchange)
    def _exchange(self, event: Exchange) -> None:
        event.change()
        event.done.set()
        self.tell_part(Part.IMAGE)
        self.tell_part(Part.PLANS)
        self.show_title()
        self.refresh_bindings()

    @on(JobStarted)
    def _job_started(self, event: JobStarted) -> None:
        self.query_one(ProgressLine).show(f"{event.job.title} …", hint=_HOW_TO_STOP)

    @on(JobProgress)
    def _job_moved(self, event: JobProgress) -> None:
        text = progress_text(event.job.title, event.progress, event.elapsed)
        self.query_one(ProgressLine).show(text, event.progress.fraction, _HOW_TO_STOP)
        # Drawing what has grown takes from the time the job needs: a few times a second will do.
        now = time.monotonic()
        if now - self._drawn >= _REDRAW:
            self._drawn = now
            for part in event.job.parts:
                self.tell_part(part)

    @on(JobEnded)
    def _job_ended(self, event: JobEnded) -> None:
        for part in event.job.parts:
            self.tell_part(part)
        self.show_title()
        if event.job is HOST_MAP:
            if self.session.selection.empty:
                self.select(select_host(0))
            else:
                self.select_again()
        self.refresh_bindings()

    @on(QueueEnded)
    def _queue_ended(self, event: QueueEnded) -> None:
        took = time.monotonic() - self._begun
        self._rested_at = time.monotonic() + max(_WATCH, _PAUSE * took)
        if not gc.get_freeze_count():
            # What is there now stays: without it a look for garbage takes no longer than a paint.
            gc.freeze()
            gc.set_threshold(50_000, 20, 20)
        if event.cancelled:
            text = "Stopped: what was read so far stays. F5 reads again."
        elif self.session.live:
            text = f"Live view, read in {duration(took)}. Not checked: c checks it anyway."
        elif self.session.staged:
            text = self.staged_words()
        else:
            text = verdict(self.session)
            if self.session.state_of(Part.CHECK) is PartState.COMPLETE:
                text += f" · read in {duration(took)}"
        self.query_one(ProgressLine).show(text)

    def show_title(self) -> None:
        """The file, what is known of it, and its badges."""
        self.query_one(TitleBar).show(
            file_name(self.session),
            (*facts(self.session), *self._ways(self.session)),
            badges(self.session),
        )

    def staged_words(self) -> str:
        """What is planned, and the keys for it."""
        from ...views.changes.plan_words import queue_words

        keymap = self.qcow_app.keymap
        ways = [
            f"{key_of(keymap, command(id))} {word}"
            for id, word in (
                ("edit.apply", "apply"),
                ("edit.drop", "drop the last"),
                ("edit.show_plan", "what it changes"),
            )
        ]
        words = queue_words([staged.plan for staged in self.session.staged])
        return f"Planned: {' · '.join(ways)} · {words}"

    def _ways(self, session: Session) -> list[str]:
        """Keys for what can be done about the space and the last change."""
        keymap, found = self.qcow_app.keymap, []
        if self.reason_against(command("repair.start")) is None:
            found.append(f"{key_of(keymap, command('repair.start'))} repair")
        if not session.unlocked or session.staged:
            return found
        if session.past is not None and session.past.no_undo is None:
            found.append(f"{key_of(keymap, command('edit.undo'))} undo")
        if session.space is not None and session.space.reclaimable.certain:
            found.append(f"{key_of(keymap, command('edit.reclaim'))} reclaim")
        return found

    # ---- files that another process uses

    def _watch_on(self) -> None:
        if self._watcher is None:
            self._watcher = self.set_interval(_WATCH, self.runner.watch)

    def _watch_off(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None

    @on(Watched)
    def _watched(self, event: Watched) -> None:
        was_live = self.session.live
        if event.in_use:
            self.session.live = True
            self._watch_on()
            self._stale |= event.changed
            if self._stale and not self.runner.busy and time.monotonic() >= self._rested_at:
                self._stale = False
                self._start(LIVE, reread=True)
        elif was_live and self.session.try_lock():
            self.session.live = False
            self._watch_off()
            self._start(OPENING, reread=True)
        self.tell_part(Part.LOCK)
        self.show_title()
