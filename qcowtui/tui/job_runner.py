"""Runs jobs for a screen: one thread for the image, one for looking places up, one for watching.

A thread cannot be killed, only asked: every job gets a token that it asks between bounded reads,
and the next queue waits for the one before it to let go of the session.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from textual.message import Message
from textual.screen import Screen

from qcow.errors import Cancelled, QcowError
from qcow.jobs import CancelToken, Progress

from ..views.selection import Selection
from ..views.session import Session
from ..views.work import Job, run_job
from .messages import Exchange, JobEnded, JobProgress, JobStarted, LookedUp, QueueEnded, Watched

Result = TypeVar("Result")

#: Seconds between two messages of a running job.
_INTERVAL = 1 / 15
#: A screen that has more unread messages than this gets no progress until it has caught up.
_BACKLOG = 10
#: Seconds between two looks whether the queue was cancelled, while waiting for the screen.
_PATIENCE = 0.05
#: Seconds that leaving waits for the threads to let go of the file.
_FAREWELL = 2.0


class JobRunner:
    """Starts and cancels the work for one session; everything comes back as messages."""

    def __init__(self, screen: Screen[None], session: Session) -> None:
        self._screen = screen
        self._session = session
        self._using_session = threading.Lock()
        self._queue = CancelToken()
        self._jobs: deque[Job] = deque()
        self._lookup = CancelToken()
        self._lookups: SimpleQueue[tuple[Selection, CancelToken] | None] | None = None
        self._seen: tuple[int, int] | None = None
        #: Whether a queue was started and has not ended.
        self.busy = False

    def start(
        self,
        jobs: Sequence[Job],
        *,
        reread: bool = False,
        change: Callable[[], None] | None = None,
    ) -> None:
        """Run ``jobs`` instead of what is running; with ``reread`` parse the file anew first.

        ``change`` makes the session take another image, in the screen's thread, before the jobs.
        """
        self._queue.cancel()
        token = self._queue = CancelToken()
        jobs_of_queue = self._jobs = deque(jobs)
        self.busy = True
        self._in_thread("jobs", lambda: self._run(jobs_of_queue, token, reread, change))

    def run_next(self, *jobs: Job) -> None:
        """Run ``jobs`` before what is waiting, after what is running."""
        if self.busy:
            self._jobs.extendleft(reversed(jobs))
        else:
            self.start(jobs)

    def exclusively(self, work: Callable[[], Result]) -> Result:
        """Stop the queue and do ``work`` while no other job uses the session; from any thread."""
        self._queue.cancel()
        with self._using_session:
            return work()

    def stop(self) -> None:
        """Cancel the running queue; what was found stays."""
        self._queue.cancel()

    def close(self) -> None:
        """Cancel everything and let go of the file once the threads have."""
        self._queue.cancel()
        self._lookup.cancel()
        if self._lookups is not None:
            self._lookups.put(None)
        if self._using_session.acquire(timeout=_FAREWELL):
            self._session.close()
            self._using_session.release()

    def look_up(self, place: Selection) -> None:
        """Find out more about ``place``, instead of the one asked for before."""
        self._lookup.cancel()
        token = self._lookup = CancelToken()
        if self._lookups is None:
            self._lookups = SimpleQueue()
            self._in_thread("lookup", partial(self._look_up_all, self._lookups))
        self._lookups.put((place, token))

    def watch(self) -> None:
        """Look once whether the file changed and whether somebody still uses it."""
        self._in_thread("watch", self._watch)

    # ---- in the threads

    def _in_thread(self, name: str, work: Callable[[], None]) -> None:
        # Not a worker of Textual's: each of those costs the screen a handful of messages, and
        # looking up where the cursor rests follows every key.  Posting needs the app's context.
        context = copy_context()
        Thread(target=context.run, args=(work,), name=name, daemon=True).start()

    def _post(self, message: Message) -> None:
        if self._screen.is_attached:
            self._screen.post_message(message)

    def _run(
        self,
        jobs: deque[Job],
        token: CancelToken,
        reread: bool,
        change: Callable[[], None] | None,
    ) -> None:
        with self._using_session:
            if reread:
                self._reread(token)
            if change is not None:
                self._exchange(change, token)
            while jobs and not token.cancelled:
                self._run_one(jobs.popleft(), token)
        if token is self._queue:
            self.busy = False
            self._post(QueueEnded(token.cancelled))

    def _reread(self, token: CancelToken) -> None:
        try:
            image = self._session.parse_again()
        except QcowError:  # not an image for the moment: what is known stays
            return
        self._exchange(lambda: self._session.adopt(image), token)

    def _exchange(self, change: Callable[[], None], token: CancelToken) -> None:
        """The screen's thread exchanges the image, so that no view is torn."""
        done = threading.Event()
        self._post(Exchange(change, done))
        while not token.cancelled and not done.wait(_PATIENCE):
            pass

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

    def _look_up_all(self, asked: SimpleQueue[tuple[Selection, CancelToken] | None]) -> None:
        """One thread for all places: starting one costs the screen as much as a part of a paint."""
        from ..views.lookup import look_up

        while (one := asked.get()) is not None:
            place, token = one
            with contextlib.suppress(Cancelled):
                token.check()
                self._post(LookedUp(look_up(self._session, place, cancel=token)))

    def _watch(self) -> None:
        from ..views.jobs import ask_holders

        ask_holders(self._session)
        stamp = self._session.file.modified()
        changed, self._seen = self._seen not in (None, stamp), stamp
        state = self._session.lock_state
        in_use = state.writer or any(holder.writing for holder in self._session.holders)
        self._post(Watched(changed, in_use))
