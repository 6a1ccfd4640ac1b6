"""Running whole processes and reading from the kernel what they cost."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class Cost:
    """Of one process and all of its children: seconds of wall clock and CPU, peak bytes, code."""

    wall: float
    cpu: float
    peak: int
    code: int


def environment() -> dict[str, str]:
    """That of the measured processes: as this one, but byte code is kept, as installers do it."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def run(argv: Sequence[str]) -> Cost:
    """Run ``argv`` from PATH to its end, its output thrown away."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(_LAUNCHER), *argv],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    wall, cpu, peak, code = done.stdout.split()
    return Cost(float(wall), float(cpu), int(peak), int(code))


def median(costs: Sequence[Cost]) -> Cost:
    """Each quantity's median on its own; the exit code is that of the first."""
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
        int(statistics.median(cost.peak for cost in costs)),
        costs[0].code,
    )


def interleaved(commands: Sequence[Sequence[str]], runs: int) -> list[Cost]:
    """The median cost of each command, run in turns (A B A B ...) so that drift hits all alike."""
    taken: list[list[Cost]] = [[] for _ in commands]
    for _ in range(runs):
        for command, costs in zip(commands, taken, strict=True):
            costs.append(run(command))
    return [median(costs) for costs in taken]
