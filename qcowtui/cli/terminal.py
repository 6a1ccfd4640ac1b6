"""Whether there is a terminal an app can be drawn on."""

from __future__ import annotations

import os
import sys


def has_screen() -> bool:
    """Both ends are a terminal, and one that can be drawn on."""
    for stream in (sys.stdin, sys.stdout):
        if stream is None or not stream.isatty():
            return False
    return os.environ.get("TERM", "dumb") not in ("", "dumb")
