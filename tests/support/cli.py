"""The command line under test: in this process (fast) or as a process of its own (the truth)."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock


@dataclass(frozen=True)
class CliResult:
    """How a run ended: exit code and both outputs as bytes."""

    code: int
    stdout: bytes
    stderr: bytes


def _arguments(args: tuple[str | Path, ...]) -> list[str]:
    return [os.fspath(arg) for arg in args]


def qcowtui(*args: str | Path) -> CliResult:
    """Run ``qcowtui ARGS`` inside this process, its outputs caught."""
    from qcowtui.cli.main import main

    out, err = io.BytesIO(), io.BytesIO()
    with (
        io.TextIOWrapper(out, "utf-8", write_through=True) as stdout,
        io.TextIOWrapper(err, "utf-8", write_through=True) as stderr,
        mock.patch.object(sys, "stdout", stdout),
        mock.patch.object(sys, "stderr", stderr),
    ):
        try:
            code = main(_arguments(args))
        except SystemExit as ended:  # argparse leaves this way
            code = ended.code if isinstance(ended.code, int) else 1
        stdout.flush()
        stderr.flush()
        return CliResult(code, out.getvalue(), err.getvalue())


def qcowtui_process(*args: str | Path, env: dict[str, str] | None = None) -> CliResult:
    """Run ``python -m qcowtui ARGS`` as a whole process."""
    done = subprocess.run(
        [sys.executable, "-m", "qcowtui", *_arguments(args)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
        timeout=120,
    )
    return CliResult(done.returncode, done.stdout, done.stderr)
