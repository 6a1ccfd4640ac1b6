"""The sample set of ``qcowtui demo``: the same files each time, made without QEMU."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import demo_others, demo_web
from .builder import ImageBuilder
from .built import BuiltImage
from .demo_web import stamp

#: The image to open first.
MAIN_IMAGE = "web01.qcow2"

_Recipe = Callable[[], ImageBuilder | BuiltImage]

#: File name -> how it is made and when it was last written to.  A backing file is older than what
#: is built on it.
_RECIPES: dict[str, tuple[_Recipe, int]] = {
    MAIN_IMAGE: (demo_web.web, stamp(20, 16, 45)),
    "web02.qcow2": (demo_web.sibling, stamp(20, 16, 50)),
    "web-template.qcow2": (demo_web.template, stamp(1, 8, 30)),
    "debian-12-base.qcow2": (demo_web.base, stamp(1, 8, 0)),
    "db-fragmented.qcow2": (demo_others.fragmented, stamp(19, 11, 20)),
    "backup-compressed.qcow2": (demo_others.compressed, stamp(16, 2, 10)),
    "mail-leaks.qcow2": (demo_others.leaking, stamp(18, 4, 5)),
    "files-corrupt.qcow2": (demo_others.corrupt, stamp(17, 21, 15)),
    "laptop-unclean.qcow2": (demo_others.unclean, stamp(15, 23, 59)),
    "untrusted-upload.qcow2": (demo_others.untrusted, stamp(14, 3, 35)),
}


def write_demo_set(folder: Path) -> list[Path]:
    """Write the sample images into ``folder`` (made if missing); the first one is to be opened.

    A file that is there already stays as it is.  No file appears before it is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as scratch:
        for name, (recipe, written) in _RECIPES.items():
            if os.path.lexists(folder / name):
                continue
            made = recipe()
            image = made.build() if isinstance(made, ImageBuilder) else made
            path = image.save(Path(scratch) / name)
            os.utime(path, (written, written))
            path.rename(folder / name)
    return [folder / name for name in _RECIPES]
