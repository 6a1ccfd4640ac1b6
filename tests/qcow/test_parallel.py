"""A job behind the one who goes on: what it raises arrives, and nothing is left running."""

from __future__ import annotations

import threading

import pytest

from qcow.errors import VerificationError
from qcow.parallel import Behind


def failing() -> None:
    raise VerificationError("They differ.")


def test_jobs_run_one_after_the_other() -> None:
    done: list[int] = []
    with Behind() as behind:
        for number in range(20):
            behind.start([lambda n=number: done.append(n), lambda n=number: done.append(-n)])
    assert done == [sign * number for number in range(20) for sign in (1, -1)]


def test_a_failure_arrives_with_the_next_wait() -> None:
    behind = Behind()
    behind.start([failing, lambda: pytest.fail("the jobs behind a failure are not run")])
    with pytest.raises(VerificationError, match="differ"):
        behind.wait()
    behind.wait()


def test_a_failure_arrives_with_the_next_job() -> None:
    ran: list[int] = []
    behind = Behind()
    behind.start([failing])
    with pytest.raises(VerificationError):
        behind.start([lambda: ran.append(1)])
    assert not ran


def test_the_end_waits_and_tells() -> None:
    with pytest.raises(VerificationError), Behind() as behind:
        behind.start([failing])


def test_an_error_outside_stops_what_is_left() -> None:
    go_on, ran = threading.Event(), list[int]()
    behind = Behind()
    behind.start([lambda: ran.append(1), lambda: go_on.wait(5), lambda: ran.append(2)])
    threading.Timer(0.1, go_on.set).start()
    behind.__exit__(KeyError, KeyError(), None)
    assert ran == [1], "the job under way ends, and no other one begins"
