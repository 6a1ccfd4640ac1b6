"""What a row of the corpus is, and the small language in which its damage is written.

A row's image is a copy of a healthy base with some bytes changed by *steps*:
``on("v3", u32(4, 0))`` is the base ``v3`` with a version of 0.  All offsets are bytes of the file,
all integers big-endian.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .bases import Bases

#: What our tool must do: "error" = the image (or a structure of it) cannot be used, a finding of
#: severity ERROR or a typed error at open; "finding" = at least one WARNING, at open or by check;
#: "named" = as "finding", and one made at open names the reference to a second file;
#: "ok" = nothing worse than INFO.
Expect = Literal["error", "finding", "named", "ok"]
Build = Callable[[Bases, Path], Path]
#: An exit code; "timeout": it does not come back; "-": not asked, it would take too much.
QemuExit = int | Literal["timeout", "-"]


@dataclass(frozen=True)
class Row:
    """One malformed image: how to make it, what QEMU 7.2.22 says, what our tool must do.

    ``qemu_info`` and ``qemu_check`` are exit codes (negative: died by that signal);
    ``qemu_says`` are pieces of what the two print.  ``build`` writes the image into a folder that
    holds nothing else, and returns its path.
    """

    id: str
    area: str
    requirement: str
    qemu_info: QemuExit
    qemu_check: QemuExit
    qemu_says: tuple[str, ...]
    expect: Expect
    build: Build


class Damage:
    """The bytes of an image on their way from healthy to damaged."""

    def __init__(self, source: Path) -> None:
        self.data = bytearray(source.read_bytes())

    def reach(self, end: int) -> None:
        """Let the image have at least ``end`` bytes, new ones being zero."""
        self.data.extend(bytes(max(0, end - len(self.data))))

    def put(self, offset: int, content: bytes) -> None:
        self.reach(offset + len(content))
        self.data[offset : offset + len(content)] = content

    def get(self, layout: str, offset: int) -> int:
        """The integer at ``offset``; ``layout`` is a format letter of struct, as in ``"Q"``."""
        (value,) = struct.unpack_from(">" + layout, self.data, offset)
        return int(value)

    def set(self, layout: str, offset: int, value: int) -> None:
        self.put(offset, struct.pack(">" + layout, value))

    @property
    def cluster(self) -> int:
        """The cluster size in bytes, as the header states it."""
        return 1 << self.get("I", 20)

    def append_cluster(self, content: bytes = b"") -> int:
        """Add a cluster at the end of the file; its offset.  Its refcount is not touched."""
        at = -(-len(self.data) // self.cluster) * self.cluster
        self.reach(at + self.cluster)
        self.put(at, content)
        return at


Step = Callable[[Damage], None]


def on(base: str, *steps: Step, beside: Iterable[str] = ()) -> Build:
    """Build a copy of the base of that name with every step done to it, in order.

    The files a base refers to lie beside it, and are copied along; so are those of the bases named
    in ``beside``.
    """

    def build(bases: Bases, folder: Path) -> Path:
        damage = Damage(bases.path(base))
        for step in steps:
            step(damage)
        for name in (*bases.companions(base), *beside):
            shutil.copyfile(bases.path(name), folder / bases.path(name).name)
        image = folder / "image.qcow2"
        image.write_bytes(damage.data)
        return image

    return build


def _setter(layout: str) -> Callable[[int, int], Step]:
    def at(offset: int, value: int) -> Step:
        return lambda damage: damage.set(layout, offset, value)

    return at


u8 = _setter("B")
u16 = _setter("H")
u32 = _setter("I")
u64 = _setter("Q")


def raw(offset: int, content: bytes) -> Step:
    """Put bytes at an offset."""
    return lambda damage: damage.put(offset, content)


def clear(start: int, end: int) -> Step:
    """Fill ``[start, end)`` with zeros."""
    return raw(start, bytes(end - start))


def cut(length: int) -> Step:
    """Let the file end after ``length`` bytes."""

    def step(damage: Damage) -> None:
        del damage.data[length:]

    return step
