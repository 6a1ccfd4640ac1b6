"""Asking the command line and getting an answer that is nothing but the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.cli import qcowtui

#: Bytes of a cluster in the images of this package.
CLUSTER = 65536


def as_json(*args: str | Path, code: int = 0) -> Any:
    """The parsed answer; nothing on stderr, and the exit code ``code``."""
    ended = qcowtui(*args, "--output=json")
    assert (ended.code, ended.stderr) == (code, b"")
    return json.loads(ended.stdout)


def as_text(*args: str | Path, code: int = 0) -> str:
    """The answer for a person, under the same conditions."""
    ended = qcowtui(*args)
    assert (ended.code, ended.stderr) == (code, b"")
    return ended.stdout.decode()


def everything_in(*folders: Path) -> dict[str, bytes]:
    """Every file below ``folders`` with its bytes: what nobody may have touched."""
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
