"""What workers tell a screen.  They post these and touch nothing else."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from textual.message import Message

from qcow.jobs import Progress
from qcow.opening import AnyImage

from ..views.selection import Selection
from ..views.session import PartState
from ..views.work import Job


@dataclass
class Reread(Message):
    """The file was parsed anew.  The worker waits until the session has adopted the image."""

    image: AnyImage
    adopted: threading.Event


@dataclass
class JobStarted(Message):
    """A job begins; another one may have run before it in the same queue."""

    job: Job


@dataclass
class JobProgress(Message):
    """Where the running job stands; its parts of the session hold more than before."""

    job: Job
    progress: Progress
    elapsed: float  # seconds of this job


@dataclass
class JobEnded(Message):
    """A job is over; ``state`` says how."""

    job: Job
    state: PartState
    elapsed: float


@dataclass
class QueueEnded(Message):
    """All jobs that were asked for are over, or cancelled."""

    cancelled: bool


@dataclass
class LookedUp(Message):
    """More is known of a place."""

    selection: Selection


@dataclass
class Watched(Message):
    """A look at a file that another process uses."""

    changed: bool  # its bytes changed since the last look
    in_use: bool
