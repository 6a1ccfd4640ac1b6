"""Make one image: ``python -m benchmarks.images.make NAME PATH [SCALE]``."""

from __future__ import annotations

import sys
from pathlib import Path

from .recipes import RECIPES

if __name__ == "__main__":
    name, path, *scale = sys.argv[1:]
    RECIPES[name].make(Path(path), int(scale[0]) if scale else 1)
