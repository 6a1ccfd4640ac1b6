"""Jobs by name, so that a screen can ask for work without importing what the work needs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from qcow.errors import Cancelled, QcowError
from qcow.jobs import CancelToken, Progress, ProgressCallback
from qcow.text import safe

from .session import Part, PartState, Session
from .units import byte_rate, count, count_rate, duration, percent, size


@dataclass(frozen=True, slots=True)
class Job:
    """``title`` is what the progress line says, ``parts`` what is filled, ``work`` the function of
    :mod:`qcowtui.views.jobs`, which is given the ``arguments`` too."""

    title: str
    parts: tuple[Part, ...]
    work: str
    arguments: tuple[str, ...] = ()


HOST_MAP = Job("Reading the map", (Part.HOST_MAP,), "scan_host_map")
CHECK = Job("Checking", (Part.CHECK,), "run_check")
LEAKS = Job("Looking into leaked clusters", (Part.LEAKS,), "look_into_leaks")
SHARING = Job("Comparing snapshots", (Part.SHARING,), "compare_states")
GUEST_MAP = Job("Mapping the guest disk", (Part.GUEST_MAP,), "scan_guest_map")
CHAIN = Job("Following the chain", (Part.CHAIN,), "follow_chain")
FRAGMENTATION = Job("Measuring fragmentation", (Part.FRAGMENTATION,), "measure_fragmentation")
PAST = Job("Looking at the history", (Part.PAST,), "look_at_past")
DRAW_PLAN = Job("Drawing the plan", (Part.DIFF,), "draw_plan")
DEPENDENTS = Job("Searching this folder", (Part.CHAIN,), "search_dependents")


def compare(one: str, other: str) -> Job:
    """Compare two states: ``active``, ``snapshot:ID``, ``layer:N``."""
    return Job("Comparing", (Part.DIFF,), "compare_two", (one, other))


#: What runs after opening, in this order: the picture first.
OPENING = (HOST_MAP, CHECK, LEAKS, SHARING, GUEST_MAP, CHAIN, FRAGMENTATION, PAST)
#: The same after a change was planned, for the image as it would be.
PLANNED = (HOST_MAP, DRAW_PLAN, SHARING, CHECK, LEAKS, GUEST_MAP, CHAIN, FRAGMENTATION)
#: The same for an image that another process writes to, again and again: a check of tables that
#: are being changed would report errors that are none, so it only runs when it is asked for.
LIVE = (HOST_MAP, SHARING, GUEST_MAP, CHAIN)


def run_job(
    job: Job, session: Session, progress: ProgressCallback, cancel: CancelToken
) -> PartState:
    """Run ``job``; whatever goes wrong ends as a state and a sentence in the session, not here."""
    for part in job.parts:
        session.states[part] = PartState.PARTIAL
        session.failures.pop(part, None)
    failure = None
    try:
        work = getattr(import_module(".jobs", __package__), job.work)
        work(session, progress, cancel, *job.arguments)
        state = PartState.COMPLETE
    except Cancelled:
        state = PartState.PARTIAL
    except QcowError as error:
        state, failure = PartState.FAILED, str(error)
    except Exception as error:
        state = PartState.FAILED
        failure = (
            f"{job.title} stopped on a defect of qcowtui itself ({type(error).__name__}: "
            f"{safe(str(error), 200)}). The image was not changed. Please report it."
        )
    for part in job.parts:
        session.states[part] = state
        if failure is not None:
            session.failures[part] = failure
    return state


def progress_text(title: str, progress: Progress, elapsed: float) -> str:
    """``Checking: counting references · 1,024/4,096 L2 tables · 25 % · 310 MiB/s · 0:03 left``."""
    in_bytes = progress.unit == "bytes"
    shown = size if in_bytes else count
    parts = [f"{title}: {progress.phase}" if progress.phase else title]
    done = f"{shown(progress.done)} of {shown(progress.total)}"
    parts.append(done if in_bytes else f"{done} {progress.unit}")
    parts.append(percent(progress.done, progress.total))
    if elapsed >= 1 and progress.done:
        rate = progress.done / elapsed
        noun = progress.unit.removesuffix("s")
        parts.append(byte_rate(rate) if in_bytes else count_rate(rate, noun))
        left = (progress.total - progress.done) / rate
        parts.append(f"{duration(left)} left")
    return " · ".join(parts)
