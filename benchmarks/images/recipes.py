"""Which images there are, how each is made, and where it is kept.

Importing this loads no numpy: each image is made in a process of its own, which gives its memory
back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

#: Part of the file names: an image is made anew when a recipe changes.
RECIPE = 1


@dataclass(frozen=True)
class Recipe:
    """An image: ``make(path, scale)`` writes it, with sizes divided by ``scale`` for a trial."""

    name: str
    what: str
    make: Callable[[Path, int], None]


def _plain(**shape: object) -> Callable[[Path, int], None]:
    def make(path: Path, scale: int) -> None:
        from . import writer

        given = dict(shape)
        for size in ("virtual_size", "data_clusters"):
            if isinstance(value := given.get(size), int):
                given[size] = value // scale
        writer.write(path, writer.Shape(**given))  # type: ignore[arg-type]

    return make


def _snapshots(path: Path, scale: int) -> None:
    """20 snapshots by qemu-img, some writes before each, so that tables are partly shared."""
    size = 200 * GIB // scale
    _plain(virtual_size=200 * GIB)(path, scale)
    for index in range(20):
        commands = [
            f"write -q -P {index + 1} {(index * 7 + step * 13) % 96 * (size // 96)} 4k"
            for step in range(8)
        ]
        given = [part for command in commands for part in ("-c", command)]
        subprocess.run(["qemu-io", *given, "-f", "qcow2", str(path)], check=True)
        subprocess.run(["qemu-img", "snapshot", "-c", f"daily-{index:02}", str(path)], check=True)


def _damaged(path: Path, scale: int) -> None:
    from .damage import harm

    harm(path, scale)


def _leaked(path: Path, scale: int) -> None:
    from .damage import lose_tables

    lose_tables(path, scale)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("allocated-1t", "1 TiB, all allocated", _plain(virtual_size=TIB)),
        Recipe(
            "refcount-1-1t", "1 TiB, 1-bit refcounts", _plain(virtual_size=TIB, refcount_order=0)
        ),
        Recipe("extended-1t", "1 TiB, extended L2", _plain(virtual_size=TIB, extended_l2=True)),
        # A little less than all: many file systems end a file at 16 TiB.
        Recipe(
            "clusters-2m-16t",
            "16 TiB at 2 MiB",
            _plain(
                virtual_size=16 * TIB, cluster_bits=21, data_clusters=(16 * TIB - 2 * GIB) >> 21
            ),
        ),
        Recipe("snapshots-20", "20 snapshots of 200 GiB", _snapshots),
        Recipe("damaged-1t", "1 TiB with leaks and errors", _damaged),
        Recipe("leaked-64g", "64 GiB, all of it leaked", _leaked),
        Recipe(
            "clusters-4k-256g", "256 GiB at 4 KiB", _plain(virtual_size=256 * GIB, cluster_bits=12)
        ),
        Recipe(
            "random-256g", "256 GiB, random order", _plain(virtual_size=256 * GIB, shuffled=True)
        ),
        Recipe("random-1t", "1 TiB, random order", _plain(virtual_size=TIB, shuffled=True)),
        Recipe(
            "sparse-64t",
            "64 TiB, 16 TiB allocated",
            _plain(virtual_size=64 * TIB, stride=4, data_clusters=(16 * TIB - 4 * GIB) >> 16),
        ),
    )
}


def default_folder() -> Path:
    """Under the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "qcowtui" / "benchmarks"


def ready(name: str, folder: Path) -> Path:
    """The path of an image, made now (in a process of its own) if it is not there."""
    path = folder / f"{name}.r{RECIPE}.qcow2"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        print(f"  making {RECIPES[name].what} ...", file=sys.stderr)
        subprocess.run(
            [sys.executable, "-m", "benchmarks.images.make", name, str(unfinished)], check=True
        )
        unfinished.rename(path)
    return path
