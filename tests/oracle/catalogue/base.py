"""What a recipe is, and the few steps that all of them share."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.qemu import qemu_img, qemu_io

Build = Callable[[Path], Path]


@dataclass(frozen=True)
class Variant:
    """One kind of image.  ``build`` makes it in an empty folder and returns the image's path.

    Names of backing and data files are relative, so that the folder may be moved.
    """

    name: str
    build: Build
    tags: frozenset[str]


class Theme:
    """Collects the recipes of one module."""

    def __init__(self, *tags: str) -> None:
        self.variants: list[Variant] = []
        self._tags = frozenset(tags)

    def add(self, name: str, build: Build, *tags: str) -> None:
        self.variants.append(Variant(name, build, self._tags | frozenset(tags)))

    def variant(self, name: str, *tags: str) -> Callable[[Build], Build]:
        def register(build: Build) -> Build:
            self.add(name, build, *tags)
            return build

        return register


def create(path: Path, size: str, *options: str) -> Path:
    """``qemu-img create`` of a qcow2 with ``-o`` options."""
    chosen = ("-o", ",".join(options)) if options else ()
    qemu_img("create", "-q", "-f", "qcow2", *chosen, path, size)
    return path


def overlay(path: Path, base: str, base_format: str, size: str = "", *options: str) -> Path:
    """An overlay on ``base``, a name relative to the overlay's folder."""
    chosen = ("-o", ",".join(options)) if options else ()
    sized = (size,) if size else ()
    qemu_img(
        "create", "-q", "-f", "qcow2", *chosen, "-b", base, "-F", base_format, path.name, *sized,
        cwd=path.parent,
    )  # fmt: skip
    return path


def noise(path: Path, seed: int, length: int) -> Path:
    """A file of ``length`` bytes that no compressor can shrink, the same for the same seed."""
    path.write_bytes(random.Random(seed).randbytes(length))
    return path


def prose(path: Path, seed: int, length: int) -> Path:
    """A file of ``length`` bytes that compresses well, with a few holes of zeros in it."""
    chosen = random.Random(seed)
    words = [chosen.randbytes(6).hex().encode() for _ in range(200)]
    text = bytearray()
    while len(text) < length:
        text += b" ".join(chosen.choices(words, k=500)) + b"\n"
    del text[length:]
    for start in range(length // 4, length - 140_000, length // 4):
        text[start : start + 140_000] = bytes(140_000)
    path.write_bytes(text)
    return path


def stripes(length: int, unit: int, seed: int = 1, every: int = 3) -> list[str]:
    """qemu-io writes of patterns: pieces of about ``unit`` bytes, every ``every``-th one left out.

    Offsets are whole sectors, not whole units, so that some pieces cross cluster borders.
    """
    chosen = random.Random(seed)
    commands = []
    for index, start in enumerate(range(0, length, unit)):
        if index % every == every - 1:
            continue
        skew = chosen.randrange(0, max(1, unit // 1024)) * 512
        size = max(512, min(unit, length - start) - skew)
        commands.append(f"write -q -P {1 + (index * 7 + seed) % 255} {start + skew} {size}")
    return commands


def written(path: Path, size: str, *options: str, unit: int = 65536, length: int = 0) -> Path:
    """A new image with a pattern of writes, zero writes and a discard."""
    create(path, size, *options)
    span = length or 24 * unit
    qemu_io(
        path,
        *stripes(span, unit),
        f"write -q -z {unit} {2 * unit}",
        f"discard -q {5 * unit} {unit}",
    )
    return path
