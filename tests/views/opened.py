"""Sessions for tests of the views: opened, and filled by the same jobs the app runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qcow.jobs import CancelToken
from qcow.storage.gate import Gate
from qcowtui.views.selection import Selection
from qcowtui.views.session import PartState, Session, open_session
from qcowtui.views.work import CHAIN, CHECK, FRAGMENTATION, HOST_MAP, SHARING, Job, run_job

EVERYTHING = (HOST_MAP, CHECK, SHARING, CHAIN, FRAGMENTATION)


@contextmanager
def opened(path: Path, *jobs: Job, gate: Gate | None = None) -> Iterator[Session]:
    """The session of an image after ``jobs``, each of which must complete."""
    session = open_session(str(path), gate=gate)
    try:
        fill(session, *jobs)
        yield session
    finally:
        session.close()


def fill(session: Session, *jobs: Job) -> None:
    """Run jobs to their end."""
    for job in jobs:
        state = run_job(job, session, lambda _progress: None, CancelToken())
        assert state is PartState.COMPLETE, (job.title, session.failures)


def looked_up(session: Session, place: Selection) -> Selection:
    """The selection of a place with all that can be known of it."""
    from qcowtui.views.lookup import look_up

    session.selection = look_up(session, place)
    return session.selection
