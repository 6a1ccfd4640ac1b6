"""A ratio means nothing unless both programs gave the same answer."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path


def _stdout_hash(argv: Sequence[str]) -> str:
    digest = hashlib.sha256()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while piece := process.stdout.read(1 << 20):
            digest.update(piece)
    return f"{process.returncode} {digest.hexdigest()}"


def _counts(argv: Sequence[str]) -> tuple[int, dict[str, object]]:
    done = subprocess.run(argv, capture_output=True)
    found = json.loads(done.stdout)
    found.pop("findings", None)  # what this program says beyond qemu-img's counts
    return done.returncode, found


def agree(verb: Sequence[str], path: Path, ours: str) -> bool:
    """Whether both programs say the same: every byte of a map, every count of a check."""
    if verb[0] == "check":
        command = (*verb, "--output=json", str(path))
        return _counts(("qemu-img", *command)) == _counts((ours, *command))
    command = (*verb, str(path))
    return _stdout_hash(("qemu-img", *command)) == _stdout_hash((ours, *command))
