"""Progress of long work: a line on a terminal's stderr, or qemu-img's figures for ``-p``.

Changes print theirs on stderr: a line on a terminal, lines for a log, or JSON lines for a program.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from qcow.jobs import Progress, ProgressCallback

from .output import Output

_WIDTH = 60
#: Steps of a log's progress lines, in percent.
_LOGGED = 10


@contextmanager
def progress_line(output: Output) -> Iterator[ProgressCallback | None]:
    """Something to pass to a job; None when no person watches."""
    if not output.errors_to_terminal:
        yield None
        return
    shown = False

    def show(progress: Progress) -> None:
        nonlocal shown
        shown = True
        text = f"{progress.phase} {int(progress.fraction * 100)} %"
        sys.stderr.write(f"\r{text[:_WIDTH]:<{_WIDTH}}\r")
        sys.stderr.flush()

    try:
        yield show
    finally:
        if shown:
            sys.stderr.write(f"\r{'':<{_WIDTH}}\r")
            sys.stderr.flush()


@contextmanager
def qemu_progress(output: Output, *, wanted: bool) -> Iterator[ProgressCallback | None]:
    """``    (12.34/100%)`` on stdout, as qemu-img -p prints it."""
    if not wanted:
        yield None
        return

    def show(progress: Progress) -> None:
        output.write(f"    ({progress.fraction * 100:.2f}/100%)\r")
        output.flush()

    show(Progress("", 0, 1))
    try:
        yield show
    finally:
        output.line()


def progress_events(output: Output) -> ProgressCallback:
    """Each event as one line of JSON on stderr; see docs/json.md, "Changes"."""
    import json

    def show(progress: Progress) -> None:
        members = {
            "event": "progress",
            "phase": progress.phase,
            "done": progress.done,
            "total": progress.total,
            "unit": progress.unit,
        }
        output.diagnostic(json.dumps(members))

    return show


def progress_log(output: Output) -> ProgressCallback:
    """A line of stderr for each phase and every tenth of it."""
    last = ("", -1)

    def show(progress: Progress) -> None:
        nonlocal last
        tenth = int(progress.fraction * 100) // _LOGGED
        if (progress.phase, tenth) != last:
            last = (progress.phase, tenth)
            output.diagnostic(f"{progress.phase} {tenth * _LOGGED} %")

    return show
