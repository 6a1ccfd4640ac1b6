"""Steps that rewrite the header extension area and the names behind it."""

from __future__ import annotations

import struct
from pathlib import Path

from .model import Damage, Step

END = 0
BACKING_FORMAT = 0xE2792ACA
FEATURE_NAMES = 0x6803F857
BITMAPS = 0x23852875
CRYPTO_HEADER = 0x0537BE77
DATA_FILE = 0x44415441

Extension = tuple[int, bytes]


def extension(magic: int, content: bytes, length: int | None = None) -> bytes:
    """One header extension as stored; ``length`` overrides the true one."""
    stated = len(content) if length is None else length
    return struct.pack(">II", magic, stated & 0xFFFFFFFF) + content + bytes(-len(content) % 8)


def _area(damage: Damage) -> int:
    return damage.get("I", 100) if damage.get("I", 4) >= 3 else 72


def area(content: bytes) -> Step:
    """Let the extension area (from the header's end to the cluster's) be just these bytes."""

    def step(damage: Damage) -> None:
        start = _area(damage)
        damage.put(start, content.ljust(damage.cluster - start, b"\0"))

    return step


def backing(name: bytes, *extensions: Extension, stated: int | None = None) -> Step:
    """Refer to a backing file: extensions, end mark, name; ``stated`` overrides its length."""
    head = b"".join(extension(*each) for each in extensions) + extension(END, b"")

    def step(damage: Damage) -> None:
        area(head + name)(damage)
        damage.set("Q", 8, _area(damage) + len(head))
        damage.set("I", 16, len(name) if stated is None else stated)

    return step


def data_file_name(name: bytes) -> Step:
    """Let the external data file have this name."""
    return area(extension(DATA_FILE, name) + extension(END, b""))


def find_extension(damage: Damage, magic: int) -> int:
    """Where the content of the first extension of that kind begins."""
    at = _area(damage)
    while (found := damage.get("I", at)) != magic:
        if found == END:
            raise LookupError(f"no header extension {magic:#x}")
        at += 8 + -(-damage.get("I", at + 4) // 8) * 8
    return at + 8


def stated_reference(image: Path) -> bytes:
    """The name that an image states for its backing file, else that for its data file."""
    damage = Damage(image)
    if at := damage.get("Q", 8):
        return bytes(damage.data[at : at + damage.get("I", 16)])
    at = find_extension(damage, DATA_FILE)
    return bytes(damage.data[at : at + damage.get("I", at - 4)])
