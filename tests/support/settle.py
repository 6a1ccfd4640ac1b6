"""Pushing new files out to the disk, so that two looks at them see the same."""

from __future__ import annotations

import os
from pathlib import Path


def settle(folder: Path) -> None:
    """Flush every file below ``folder``: block counts and holes change while that happens."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
