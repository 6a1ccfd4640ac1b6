"""What workers tell a screen.  They post these and touch nothing else.

None bubbles: the app would only be woken to find that it has no use for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.message import Message

from qcow.jobs import Progress

from ..views.selection import Selection
from ..views.session import PartState
from ..views.work import Job

if TYPE_CHECKING:
    from .task import Task


@dataclass
class Exchange(Message, bubble=False):
    """Another image takes the place of the one shown: ``change`` makes the session take it.

    The worker waits for ``done`` before it reads it.
    """

    change: Callable[[], None]
    done: threading.Event


@dataclass
class JobStarted(Message, bubble=False):
    """A job begins; another one may have run before it in the same queue."""

    job: Job


@dataclass
class JobProgress(Message, bubble=False):
    """Where the running job stands; its parts of the session hold more than before."""

    job: Job
    progress: Progress
    elapsed: float  # seconds of this job


@dataclass
class JobEnded(Message, bubble=False):
    """A job is over; ``state`` says how."""

    job: Job
    state: PartState
    elapsed: float


@dataclass
class QueueEnded(Message, bubble=False):
    """All jobs that were asked for are over, or cancelled."""

    cancelled: bool


@dataclass
class LookedUp(Message, bubble=False):
    """More is known of a place."""

    selection: Selection


@dataclass
class Watched(Message, bubble=False):
    """A look at a file that another process uses."""

    changed: bool  # its bytes changed since the last look
    in_use: bool


@dataclass
class TaskMoved(Message, bubble=False):
    """Where a task stands."""

    task: Task[Any]
    progress: Progress
    elapsed: float  # seconds of the whole task
    in_phase: float  # seconds of this phase


@dataclass
class TaskEnded(Message, bubble=False):
    """A task is over: it has a ``result``, or an ``error``."""

    task: Task[Any]
    result: Any
    error: Exception | None
