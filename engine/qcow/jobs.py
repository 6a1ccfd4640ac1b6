"""Long work: progress that flows out, a cancel that flows in.

A job is an ordinary function that takes ``progress`` and ``cancel``.  It calls ``progress`` a few
times a second at most (see :class:`Throttle`) and asks ``cancel.check()`` between bounded pieces.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .errors import Cancelled
from .record import record


@record
class Progress:
    """Where a job stands.  ``done`` and ``total`` are in ``unit`` ("bytes", "clusters")."""

    phase: str
    done: int
    total: int
    unit: str = "clusters"

    @property
    def fraction(self) -> float:
        """0.0 to 1.0; a job of nothing is complete."""
        return min(1.0, self.done / self.total) if self.total else 1.0


ProgressCallback = Callable[[Progress], None]


class CancelToken:
    """Set from any thread; asked by the job at its safe points."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise :class:`~qcow.errors.Cancelled` when the token was set."""
        if self._event.is_set():
            raise Cancelled("Cancelled: nothing was changed.")


class Throttle:
    """Passes progress on at most every ``interval`` seconds; the first and the last always."""

    __slots__ = ("_callback", "_interval", "_last")

    def __init__(self, callback: ProgressCallback | None, interval: float = 0.1) -> None:
        self._callback = callback
        self._interval = interval
        self._last = 0.0

    def __call__(self, phase: str, done: int, total: int, unit: str = "clusters") -> None:
        if self._callback is None:
            return
        now = time.monotonic()
        if now - self._last >= self._interval or done >= total:
            self._last = now
            self._callback(Progress(phase, done, total, unit))
