"""The row of triage: a million leaked clusters looked into, beside this program's own check."""

from __future__ import annotations

import sys
from pathlib import Path

from .images.recipes import ready
from .processes import interleaved, run
from .report import Line, mib, seconds

NAME = "triage"
_IMAGE = "leaked-64g"
#: How many times as long as the check it may take.
_MOST = 3
#: What a caller without a screen does.
SCRIPT = (
    "import sys, qcow\n"
    "from qcow.inspect.triage import triage\n"
    "with qcow.open(sys.argv[1]) as image:\n"
    "    found = triage(image)\n"
    "sys.exit(0 if len(found.leaked) else 1)\n"
)


def line(ours: str, folder: Path, runs: int) -> Line:
    """Measure both in turns."""
    image = str(ready(_IMAGE, folder))
    run((ours, "check", image))
    checked, triaged = interleaved(
        [(ours, "check", image), (sys.executable, "-c", SCRIPT, image)], runs
    )
    slower = triaged.wall / checked.wall
    met = slower <= _MOST and triaged.code == 0 and checked.code == 3
    return Line(
        (
            f"triage of 1 M leaked clusters (our check: {seconds(checked)})",
            "-",
            seconds(triaged),
            "-",
            "-",
            mib(triaged.peak),
            f"<= {_MOST}x our check: {slower:.1f}x",
        ),
        met,
    )
