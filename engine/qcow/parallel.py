"""Work in two threads: numpy, zlib, reading and writing let go of the interpreter."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

Job = TypeVar("Job")

#: Fewer jobs than this are not worth a second thread.
_WORTHWHILE = 4


def threads_for(jobs: int) -> int:
    """How many threads to use for ``jobs`` jobs: one or two."""
    return 2 if jobs >= _WORTHWHILE and len(os.sched_getaffinity(0)) > 1 else 1


def share_out(
    jobs: Sequence[Job],
    work: Callable[[Callable[[], Job | None]], None],
    threads: int,
    between: Callable[[int], None],
) -> None:
    """Run ``work(take)`` in this thread and ``threads - 1`` others until no job is left.

    ``take()`` hands out the next job, or None at the end.  ``between(number)`` runs in this thread
    before each of its jobs; what it raises ends all of them, as does what any ``work`` raises.
    """
    lock = threading.Lock()
    position = 0
    failures: list[BaseException] = []

    def following() -> Job | None:
        nonlocal position
        with lock:
            if position >= len(jobs) or failures:
                return None
            position += 1
            return jobs[position - 1]

    def other() -> None:
        try:
            work(following)
        except BaseException as error:  # handed to the thread that waits
            failures.append(error)

    def own() -> Job | None:
        between(position)
        return following()

    helpers = [threading.Thread(target=other, daemon=True) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    try:
        work(own)
    except BaseException as error:
        failures.append(error)
    finally:
        for helper in helpers:
            helper.join()
    if failures:
        raise failures[0]


class Behind:
    """One job at a time in a thread of its own, behind the one who goes on.

    As a context it waits for the last job; after an error it stops that one first.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._stop = threading.Event()

    def start(self, jobs: Iterable[Callable[[], None]]) -> None:
        """Run ``jobs`` one after the other, once those before are done.  Raises as :meth:`wait`."""
        self.wait()

        def run() -> None:
            try:
                for job in jobs:
                    if self._stop.is_set():
                        return
                    job()
            except BaseException as error:  # handed to the thread that waits
                self._failure = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the jobs, and raise what one of them raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.wait()
        elif self._thread is not None:
            self._stop.set()
            self._thread.join()
