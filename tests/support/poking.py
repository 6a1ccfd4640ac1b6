"""Damage by hand: single fields of an image file changed where the specification puts them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from .qemu import qemu_img, qemu_io

COPIED = 1 << 63
OFFSETS = 0x00FFFFFFFFFFFE00
_L1_OFFSET, _TABLE_OFFSET, _SNAPSHOTS_OFFSET = 40, 48, 64


def peek(path: Path, offset: int, length: int = 8) -> bytes:
    """Bytes of the file."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def poke(path: Path, offset: int, data: bytes) -> None:
    """Write bytes into the file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def word(path: Path, offset: int) -> int:
    """A big-endian 64-bit field."""
    found: int = struct.unpack(">Q", peek(path, offset))[0]
    return found


def set_word(path: Path, offset: int, value: int) -> None:
    """Write a big-endian 64-bit field."""
    poke(path, offset, struct.pack(">Q", value))


def cluster_size(path: Path) -> int:
    """Bytes of a cluster."""
    return 1 << int.from_bytes(peek(path, 20, 4), "big")


def l1_entry(path: Path, index: int, snapshot: int | None = None) -> int:
    """Where an L1 entry of the active state lies, or of the first snapshot (``snapshot=0``)."""
    table = word(path, _L1_OFFSET)
    if snapshot is not None:
        assert snapshot == 0
        table = word(path, word(path, _SNAPSHOTS_OFFSET))
    return table + 8 * index


def l2_entry(path: Path, index: int, number: int, width: int = 8) -> int:
    """Where an entry lies of the L2 table that the active L1 table names at ``index``."""
    return (word(path, l1_entry(path, index)) & OFFSETS) + width * number


def count_place(path: Path, cluster: int) -> int:
    """Where the 16-bit refcount of a cluster lies, in the first refcount block."""
    return word(path, word(path, _TABLE_OFFSET)) + 2 * cluster


def leak(path: Path, *contents: bytes) -> int:
    """Append counted clusters (16-bit refcounts) that nothing refers to; the first one's offset."""
    size = cluster_size(path)
    first = -(-path.stat().st_size // size)
    for number, content in enumerate(contents, first):
        poke(path, number * size, content.ljust(size, b"\0"))
        poke(path, count_place(path, number), b"\0\1")
    return first * size


def make(path: Path, size: str | int, *commands: str, options: str = "") -> Path:
    """An image by qemu-img, written by qemu-io."""
    path.unlink(missing_ok=True)
    given = ("-o", options) if options else ()
    qemu_img("create", "-q", "-f", "qcow2", *given, path, str(size))
    if commands:
        qemu_io(path, *commands)
    return path


def leaks_and_errors(path: Path) -> tuple[int, int]:
    """(leaks, corruptions) as qemu-img check counts them."""

    done = qemu_img("check", "--output=json", path, check=False)
    found = json.loads(done.stdout)
    return found.get("leaks", 0), found.get("corruptions", 0) + found["check-errors"]
