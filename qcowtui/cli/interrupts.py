"""Ctrl-C while an image is changed: the work ends at a place where nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from qcow.jobs import CancelToken


@contextmanager
def cancelled_by_ctrl_c(told: Callable[[], None]) -> Iterator[CancelToken]:
    """A token that the first Ctrl-C sets, after which ``told`` is called; the second ends at once.

    Even that is safe: a change is live with one write of one sector, or it is not.
    """
    token = CancelToken()
    if threading.current_thread() is not threading.main_thread():  # signals are not heard here
        yield token
        return

    def heard(signum: int, frame: FrameType | None) -> None:
        if token.cancelled:
            raise KeyboardInterrupt
        token.cancel()
        told()

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield token
    finally:
        signal.signal(signal.SIGINT, before)
