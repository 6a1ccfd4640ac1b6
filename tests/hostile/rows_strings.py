"""N01..N33: names of other files, and what names can do to the program that shows them."""

from __future__ import annotations

import os
from pathlib import Path

from .bases import CLUSTER, Bases
from .ext_area import BACKING_FORMAT, DATA_FILE, area, backing, data_file_name
from .model import Build, on, u32, u64

_OFFSET, _LENGTH, _AUTOCLEAR = 8, 16, 88
_JSON = b'json:{"driver":"qcow2","%s":{"driver":"file","filename":"/etc/passwd"}}'
_QCOW2 = (BACKING_FORMAT, b"qcow2")


def _to(name: bytes) -> Build:
    """An overlay whose backing file has this name and is said to be qcow2."""
    return on("backing", backing(name, _QCOW2))


def _to_canary(pattern: str) -> Build:
    def build(bases: Bases, folder: Path) -> Path:
        return _to(pattern.format(port=bases.canary).encode())(bases, folder)

    return build


def _to_fifo(bases: Bases, folder: Path) -> Path:
    os.mkfifo(folder / "fifo")
    images = folder / "images"
    images.mkdir()
    return _to(os.fsencode(folder / "fifo"))(bases, images)


STRINGS = {
    "N01": on("backing", u64(_OFFSET, CLUSTER + 8)),
    "N02": on("backing", u64(_OFFSET, CLUSTER - 4), u32(_LENGTH, 10)),
    "N03": on("backing", u32(_LENGTH, 1024)),
    "N04": on("backing", u32(_LENGTH, 0xFFFFFFFF)),
    "N05": on("backing", u64(_OFFSET, 72), u32(_LENGTH, 8)),
    "N06": on("backing", u32(_LENGTH, 0)),
    "N07": _to(b"/etc/passwd"),
    "N08": _to(b"../" * 24 + b"etc/passwd"),
    "N09": _to(_JSON % b"backing"),
    "N10": _to_canary("nbd://127.0.0.1:{port}/export"),
    "N11": _to_canary("http://127.0.0.1:{port}/latest/meta-data"),
    "N12": _to(b"fat:rw:/etc"),
    "N13": _to(b"/dev/sda"),
    "N14": _to(b"/proc/self/mem"),
    "N15": _to_fifo,
    "N16": _to(b"base.qcow2\0/etc/shadow"),
    "N17": _to(b"x\x1b]52;c;cm0gLXJm\x07y"),
    "N18": _to(b"[bold red]ok[/]"),
    "N19": _to(b"\xff\xfe\x80"),
    "N20": _to("good\u202egnp.exe".encode()),
    "N21": _to(b"image.qcow2"),
    "N22": _to(b"file:base.qcow2"),
    "N23": _to(b"a" * 1023),
    "N24": _to(b"filename=base.q,locking=off"),
    "N25": _to(b"=cmd|'/c calc'!A0"),
    "N30": on("data_file", data_file_name(b"/etc/p")),
    "N31": on("data_file", data_file_name(_JSON % b"file")),
    "N32": on("data_file", area(b"")),
    "N33": on(
        "data_file",
        backing(b"base.qcow2", (DATA_FILE, b"disk.raw"), _QCOW2),
        u64(_AUTOCLEAR, 1 << 1),
        beside=("base",),
    ),
}
