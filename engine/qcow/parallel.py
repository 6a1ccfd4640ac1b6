"""Two threads over one list of jobs: numpy, zlib and reading let go of the interpreter."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

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
