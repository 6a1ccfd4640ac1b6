"""What QEMU says about an image."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path
from typing import NamedTuple

from .model import QemuExit

#: Seconds after which a command that is known not to come back is given up.
_SHORT = 0.8
_LONG = 60.0


class Verdict(NamedTuple):
    """Exit code (or "timeout") and everything printed, stderr first."""

    exit: QemuExit
    text: str


def _prepare() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A chain without end is to run into the timeout, not out of file descriptors.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def ask_qemu(verb: str, image: Path, expected: QemuExit = 0) -> Verdict:
    """``qemu-img VERB -f qcow2 IMAGE``, run beside the image; killed if it does not come back.

    A question whose answer is expected to be "-" is not asked.
    """
    if expected == "-":
        return Verdict("-", "")
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    process = subprocess.Popen(
        ["qemu-img", verb, "-f", "qcow2", image.name],
        cwd=image.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_prepare,
    )
    late = False
    try:
        out, err = process.communicate(timeout=_SHORT if expected == "timeout" else _LONG)
    except subprocess.TimeoutExpired:
        late = True
        process.kill()
        out, err = process.communicate()
    return Verdict(
        "timeout" if late else process.returncode, (err + out).decode("utf-8", "replace")
    )
