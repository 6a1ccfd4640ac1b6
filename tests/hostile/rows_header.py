"""H01..H40: the fixed header, and X01..X08: the extensions behind it."""

from __future__ import annotations

import struct
from pathlib import Path

from .bases import CLUSTER, DATA, Bases
from .ext_area import BACKING_FORMAT, BITMAPS, FEATURE_NAMES, area, backing, extension
from .model import Build, cut, on, u8, u32, u64

_VERSION, _CLUSTER_BITS, _SIZE, _CRYPT_METHOD = 4, 20, 24, 32
_INCOMPATIBLE, _COMPATIBLE, _AUTOCLEAR = 72, 80, 88
_REFCOUNT_ORDER, _HEADER_LENGTH, _COMPRESSION_TYPE = 96, 100, 104
_UNKNOWN = 0x5A5A0000
_ALL_ONES = 0xFFFFFFFF
_HOSTILE_NAME = b"[red]\x1b[2J[@click=app.quit]x[/]"


def _raw_disk(bases: Bases, folder: Path) -> Path:
    """A disk without any format, with a boot signature."""
    image = folder / "image.qcow2"
    image.write_bytes(bytes(510) + b"\x55\xaa" + bytes(CLUSTER))
    return image


_FULL_OF_EXTENSIONS = b"".join(extension(_UNKNOWN + i, b"") for i in range((CLUSTER - 112) // 8))

HEADER = {
    "H01": on("v3", cut(0)),
    "H02": on("v3", cut(60)),
    "H03": on("v3", cut(90)),
    "H04": _raw_disk,
    "H05": on("v3", u32(_VERSION, 0)),
    "H06": on("v3", u32(_VERSION, 1)),
    "H07": on("v3", u32(_VERSION, 4)),
    "H08": on("v3", u32(_VERSION, _ALL_ONES)),
    "H09": on("v3", u32(_CLUSTER_BITS, 8)),
    "H10": on("v3", u32(_CLUSTER_BITS, 22)),
    "H11": on("v3", u32(_CLUSTER_BITS, 63)),
    "H12": on("v3", u32(_CLUSTER_BITS, _ALL_ONES)),
    "H13": on("v3", u32(_REFCOUNT_ORDER, 7)),
    "H14": on("v3", u32(_REFCOUNT_ORDER, _ALL_ONES)),
    "H15": on("v3", u32(_HEADER_LENGTH, 72)),
    "H16": on("v3", u32(_HEADER_LENGTH, 0)),
    "H17": on("v3", area(b""), u32(_HEADER_LENGTH, 116)),
    "H18": on("v3", u32(_HEADER_LENGTH, CLUSTER + 8)),
    "H19": on("v3", u32(_HEADER_LENGTH, 0x7FFFFFF8)),
    "H20": on("v3", u32(_HEADER_LENGTH, 0xFFFFFFF8)),
    "H21": on("v3", u64(_INCOMPATIBLE, 1 << 5)),
    "H22": on("v3", u64(_INCOMPATIBLE, 1 << 63)),
    "H23": on("v3", u64(_INCOMPATIBLE, 1 << 1)),
    "H24": on("v3", u64(_INCOMPATIBLE, 1 << 0), u64(_COMPATIBLE, 1 << 0)),
    "H25": on("v3", u64(_AUTOCLEAR, 1 << 40)),
    "H26": on("v3", u64(_COMPATIBLE, 1 << 40)),
    "H27": on("v3", u64(_SIZE, 0)),
    "H28": on("v3", u64(_SIZE, 0xFFFFFFFFFFFFFFFF)),
    "H29": on("v3", u64(_SIZE, 1 << 62)),
    "H30": on("v3", u64(_SIZE, 1 << 40)),
    "H31": on("v3", u64(_SIZE, 1000)),
    "H32": on("v3", u8(_COMPRESSION_TYPE, 1)),
    "H33": on("v3", u64(_INCOMPATIBLE, 1 << 3), u8(_COMPRESSION_TYPE, 2)),
    "H34": on("v3", u64(_INCOMPATIBLE, 1 << 3)),
    "H35": on("v3", u32(_CRYPT_METHOD, 3)),
    "H36": on("v3", u32(_CRYPT_METHOD, 2)),
    "H37": on("v2", u32(72, _UNKNOWN), u32(76, CLUSTER)),
    "H38": on("v3", u64(_INCOMPATIBLE, 1 << 4)),
    "H39": on("v3", u64(_INCOMPATIBLE, 1 << 4), u32(_CLUSTER_BITS, 13)),
    "H40": on("v3", u64(_AUTOCLEAR, 1 << 1)),
}


def _formats(*names: bytes) -> Build:
    """An overlay that states these formats for its backing file."""
    return on("backing", backing(b"base.qcow2", *((BACKING_FORMAT, name) for name in names)))


_STALE_BITMAPS = extension(BITMAPS, struct.pack(">IIQQ", 1, 0, 32, DATA + 4 * CLUSTER))
_ODD_NAMES = extension(FEATURE_NAMES, b"\x00\x05" + _HOSTILE_NAME.ljust(46, b"\0") + b"\x00\x06odd")

EXTENSIONS: dict[str, Build] = {
    "X01": on("v3", area(extension(_UNKNOWN, b"", length=CLUSTER))),
    "X02": on("v3", area(extension(_UNKNOWN, b"", length=_ALL_ONES))),
    "X03": on("v3", area(_STALE_BITMAPS)),
    "X04": on("v3", area(_FULL_OF_EXTENSIONS)),
    "X05": _formats(b"raw", b"qcow2"),
    "X06": _formats(b"q" * 64),
    "X07": _formats(b"\x1b]0;x"),
    "X08": on("v3", area(_ODD_NAMES), u64(_INCOMPATIBLE, 1 << 5)),
}
