"""What is costly to make is made once in a test run, by whichever worker needs it first."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

_VARIABLE = "QCOWTUI_TESTS_SHARED"

if _VARIABLE not in os.environ:  # workers are started with it
    os.environ[_VARIABLE] = tempfile.mkdtemp(prefix="qcowtui-tests-")
    atexit.register(shutil.rmtree, os.environ[_VARIABLE])


def once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder ``name``, which ``make(folder)`` filled; never to be written.

    It is made under another name, so that nothing in it may say where it lies.
    """
    place = Path(os.environ[_VARIABLE], name)
    if not place.exists():
        building = place.with_name(f"{name}.building")
        with open(f"{building}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.exists():
                shutil.rmtree(building, ignore_errors=True)  # of a worker that failed
                building.mkdir()
                make(building)
                building.rename(place)
    return place
