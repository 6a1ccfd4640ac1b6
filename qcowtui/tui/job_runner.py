"""Runs jobs for a screen: one thread for the image, one for looking places up, one for watching.

A thread cannot be killed, only asked: every job gets a token that it asks between bounded reads,
and the next queue waits for the one before it to let go of the session.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from textual.message import Message
from textual.screen import Screen

from qcow.errors import Cancelled
from qcow.jobs import CancelToken, Progress

from ..views.selection import Selection
from ..views.session import Session
from ..views.work import Job, run_job
from .messages import JobEnded, JobProgress, JobStarted, LookedUp, QueueEnded, Watched

#: Seconds between two messages of a running job.
_INTERVAL = 1 / 15
#: A screen that has more unread messages than this gets no progress until it has caught up.
_BACKLOG = 10


class JobRunner:
    """Starts and cancels the work for one session; everything comes back as messages."""

    def __init__(self, screen: Screen[None], session: Session) -> None:
        self._screen = screen
        self._session = session
        self._using_session = threading.Lock()
        self._queue = CancelToken()
        self._lookup = CancelToken()
        self._seen: tuple[int, int] | None = None
        #: Whether a queue was started and has not ended.
        self.busy = False

    def start(self, jobs: Sequence[Job], *, reread: bool = False) -> None:
        """Run ``jobs`` instead of what is running; with ``reread`` parse the file anew first."""
        self._queue.cancel()
        token = self._queue = CancelToken()
        self.busy = True
        self._in_thread("jobs", lambda: self._run(tuple(jobs), token, reread))

    def stop(self) -> None:
        """Cancel the running queue; what was found stays."""
        self._queue.cancel()

    def close(self) -> None:
        """Cancel everything and let go of the file once the threads have."""
        self._queue.cancel()
        self._lookup.cancel()
        with self._using_session:
            self._session.close()

    def look_up(self, place: Selection) -> None:
        """Find out more about ``place``, instead of the one asked for before."""
        self._lookup.cancel()
        token = self._lookup = CancelToken()
        self._in_thread("lookup", lambda: self._look_up(place, token))

    def watch(self) -> None:
        """Look once whether the file changed and whether somebody still uses it."""
        self._in_thread("watch", self._watch)

    # ---- in the threads

    def _in_thread(self, group: str, work: Callable[[], None]) -> None:
        self._screen.run_worker(
            work, name=group, group=group, thread=True, exclusive=True, exit_on_error=False
        )

    def _post(self, message: Message) -> None:
        if self._screen.is_attached:
            self._screen.post_message(message)

    def _run(self, jobs: tuple[Job, ...], token: CancelToken, reread: bool) -> None:
        with self._using_session:
            if reread and not token.cancelled:
                self._session.reread()
            for job in jobs:
                if token.cancelled:
                    break
                self._run_one(job, token)
        if token is self._queue:
            self.busy = False
            self._post(QueueEnded(token.cancelled))

    def _run_one(self, job: Job, token: CancelToken) -> None:
        begun = last = time.monotonic()

        def tell(progress: Progress) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _INTERVAL and self._screen.message_queue_size <= _BACKLOG:
                last = now
                self._post(JobProgress(job, progress, now - begun))

        self._post(JobStarted(job))
        state = run_job(job, self._session, tell, token)
        self._post(JobEnded(job, state, time.monotonic() - begun))

    def _look_up(self, place: Selection, token: CancelToken) -> None:
        from ..views.lookup import look_up

        try:
            self._post(LookedUp(look_up(self._session, place, cancel=token)))
        except Cancelled:
            return

    def _watch(self) -> None:
        from ..views.jobs import ask_holders

        ask_holders(self._session)
        stamp = self._session.file.modified()
        changed, self._seen = self._seen not in (None, stamp), stamp
        state = self._session.lock_state
        in_use = state.writer or any(holder.writing for holder in self._session.holders)
        self._post(Watched(changed, in_use))
