"""One piece of long work for a screen, in a thread of its own, with progress and cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import copy_context
from threading import Thread
from typing import Generic, TypeVar

from textual.message import Message
from textual.widget import Widget

from qcow.jobs import CancelToken, Progress, ProgressCallback

from .messages import TaskEnded, TaskMoved

Result = TypeVar("Result")

#: Seconds between two messages of a running task.
_INTERVAL = 1 / 10


class Task(Generic[Result]):
    """Posts :class:`TaskMoved` and, at the end, :class:`TaskEnded` to ``owner``.

    The thread touches no widget, and whatever is raised in it comes back as the error.
    """

    def __init__(
        self, owner: Widget, work: Callable[[ProgressCallback, CancelToken], Result]
    ) -> None:
        self._owner = owner
        self._work = work
        self._token = CancelToken()

    def start(self) -> None:
        context = copy_context()  # posting needs the app's
        Thread(target=context.run, args=(self._run,), name="task", daemon=True).start()

    def cancel(self) -> None:
        """Ask it to stop at its next safe point."""
        self._token.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop."""
        return self._token.cancelled

    # ---- in the thread

    def _post(self, message: Message) -> None:
        if self._owner.is_attached:
            self._owner.post_message(message)

    def _run(self) -> None:
        begun = time.monotonic()
        last, phase, entered = 0.0, "", begun

        def tell(progress: Progress) -> None:
            nonlocal last, phase, entered
            now = time.monotonic()
            if progress.phase != phase:
                last, phase, entered = 0.0, progress.phase, now
            if now - last >= _INTERVAL:
                last = now
                self._post(TaskMoved(self, progress, now - begun, now - entered))

        try:
            result = self._work(tell, self._token)
        except Exception as error:
            self._post(TaskEnded(self, None, error))
        else:
            self._post(TaskEnded(self, result, None))
