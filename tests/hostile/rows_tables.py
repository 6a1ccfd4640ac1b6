"""L01..L30: L1 and L2 tables, standard and extended; Z01..Z11: compressed clusters."""

from __future__ import annotations

import zlib

from .bases import (
    COMPRESSED,
    COPIED,
    DATA,
    EXTENDED_L2,
    L1,
    L2,
    REFCOUNT_BLOCK,
)
from .model import Build, Damage, Step, cut, on, u32, u64

_L1_SIZE, _L1_OFFSET = 36, 40
_BEYOND = 0x7FFFFFFFFFFF0000

TABLES = {
    "L01": on("v3", u32(_L1_SIZE, 0xFFFFFFFF)),
    "L02": on("v3", u32(_L1_SIZE, 0x80000000)),
    "L03": on("v3", u32(_L1_SIZE, (32 << 20) // 8 + 1)),
    "L04": on("v3", u32(_L1_SIZE, 0)),
    "L05": on("v3", u64(_L1_OFFSET, L1 + 512)),
    "L06": on("v3", u64(_L1_OFFSET, _BEYOND)),
    "L07": on("v3", u64(_L1_OFFSET, 0)),
    "L08": on("v3", u64(_L1_OFFSET, 1 << 30)),
    "L09": on("v3", u64(L1, COPIED | L2 + 0x2A00)),
    "L10": on("v3", u64(L1, COPIED | 1 << 40)),
    "L11": on("v3", u32(_L1_SIZE, 2), u64(L1 + 8, COPIED)),
    "L12": on("v3", u64(L1, COPIED | L1)),
    "L13": on("v3", u32(_L1_SIZE, 2), u64(L1 + 8, COPIED | L2)),
    "L14": on("v3", u64(L1, COPIED)),
    "L15": on("v3", u64(L1, 0xFF << 56 | L2)),
    "L16": on("v3", u64(L2, COPIED | DATA + 0x2A00)),
    "L17": on("v3", u64(L2, 0xBFFFFFFFFFFF0000)),
    "L18": on("v3", u64(L2, COPIED | REFCOUNT_BLOCK)),
    "L19": on("v3", u64(L2, COPIED | L2)),
    "L20": on("v3", u64(L2, COPIED | L1)),
    "L21": on("v3", u64(L2 + 8, COPIED | DATA)),
    "L22": on("v3", u64(L2, COPIED | DATA | 0x3E)),
    "L23": on("v2", u64(L2, COPIED | DATA | 1)),
    "L24": on("v3", u64(L2, DATA)),
    "L25": on("v3", u64(L2, COPIED | 0x2A00 | 1)),
    "L26": on("extended_l2", u64(EXTENDED_L2 + 8, 0xFFFFFFFF << 32 | 0xFFFFFFFF)),
    "L27": on("extended_l2", u64(EXTENDED_L2 + 24, 0xFF)),
    "L28": on("extended_l2", u64(EXTENDED_L2, COPIED | 0x14000 | 1)),
    "L29": on("v3", cut(DATA + 0x10000)),
    "L30": on("v3", cut(L1 + 512)),
}


def first_stream(content: bytes) -> Step:
    """Let the first compressed cluster be stored as ``content``, in a host cluster of its own."""

    def step(damage: Damage) -> None:
        at = damage.append_cluster(content)
        additional = max(0, -(-len(content) // 512) - 1)
        damage.set("Q", L2, COMPRESSED | additional << 54 | at)
        damage.set("H", REFCOUNT_BLOCK + 2 * (DATA >> 16), 3)
        damage.set("H", REFCOUNT_BLOCK + 2 * (at >> 16), 1)

    return step


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    return packer.compress(content) + packer.flush()


def _budget(sectors: int) -> Step:
    """Give the first compressed cluster that many sectors beyond its first."""

    def step(damage: Damage) -> None:
        damage.set("Q", L2, damage.get("Q", L2) & ~(0xFF << 54) | sectors << 54)

    return step


#: A zstd frame that asks for a window of 2^31 bytes and holds one block: a byte 65,536 times.
_HUGE_WINDOW = (
    b"\x28\xb5\x2f\xfd" + b"\x00\xa8" + (1 | 1 << 1 | 0x10000 << 3).to_bytes(3, "little") + b"x"
)

COMPRESSED_CLUSTERS: dict[str, Build] = {
    "Z01": on("zlib", u64(L2, COPIED | COMPRESSED | 6 << 54 | DATA)),
    "Z02": on("zlib", u64(L2, COMPRESSED | (1 << 54) - 0x10000)),
    "Z03": on("zlib", _budget(0xFF)),
    "Z04": on("zlib", u64(L2, COMPRESSED)),
    "Z05": on("zlib", _budget(1)),
    "Z06": on("zlib", first_stream(b"\xff" * 64)),
    "Z07": on("zlib", first_stream(deflate(b"short" * 20))),
    "Z08": on("zlib", first_stream(deflate(bytes(60 << 20)))),
    "Z09": on("zlib", first_stream(deflate(b""))),
    "Z10": on("zstd", first_stream(_HUGE_WINDOW)),
    "Z11": on("data_file", u64(L2, COMPRESSED | DATA)),
}
