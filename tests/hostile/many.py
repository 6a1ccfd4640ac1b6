"""Valid images with as many snapshots or bitmaps as the format allows, made without QEMU."""

from __future__ import annotations

import struct
from pathlib import Path

from .ext_area import BITMAPS, END, extension

_CLUSTER = 512
_HEADER_LENGTH = 104
_VIRTUAL_SIZE = 32 << 10  # what one L2 table of this cluster size maps


def _clusters(length: int) -> int:
    return -(-length // _CLUSTER)


class _Layout:
    """Hands out clusters one behind the other; each of them is counted once in the end."""

    def __init__(self) -> None:
        self.clusters = 1  # the header's

    def take(self, clusters: int) -> int:
        """The offset of that many new clusters."""
        at = self.clusters * _CLUSTER
        self.clusters += clusters
        return at


def _write(path: Path, layout: _Layout, header: bytes, content: dict[int, bytes]) -> Path:
    """Add refcounts for every cluster and themselves, and write it all, sparse."""
    per_block = _CLUSTER // 2
    blocks = tables = 0
    while True:
        used = layout.clusters + blocks + tables
        if blocks * per_block >= used and tables * _CLUSTER >= blocks * 8:
            break
        blocks = -(-used // per_block)
        tables = _clusters(blocks * 8)
    block_at = layout.take(blocks)
    table_at = layout.take(tables)
    head = bytearray(header)
    struct.pack_into(">QI", head, 48, table_at, tables)
    table = struct.pack(f">{blocks}Q", *(block_at + i * _CLUSTER for i in range(blocks)))
    content = {0: bytes(head), table_at: table, block_at: b"\0\1" * layout.clusters, **content}
    with path.open("wb") as file:
        for offset, piece in content.items():
            file.seek(offset)
            file.write(piece)
        file.truncate(layout.clusters * _CLUSTER)
    return path


def _header(l1: int, snapshots: int = 0, snapshot_table: int = 0, autoclear: int = 0) -> bytes:
    return struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        *(b"QFI\xfb", 3, 0, 0, 9, _VIRTUAL_SIZE, 0, 1, l1, 0, 0, snapshots, snapshot_table),
        *(0, 0, autoclear, 4, _HEADER_LENGTH),
    )


def many_snapshots(path: Path, count: int) -> Path:
    """``count`` snapshots of an empty disk, each with an L1 table of its own."""
    layout = _Layout()
    active_l1 = layout.take(1)
    first = layout.take(count)
    entries = []
    for number in range(1, count + 1):
        label = str(number).encode()
        l1 = first + (number - 1) * _CLUSTER
        entry = struct.pack(
            ">QIHHIIQIIQQQ",
            *(l1, 1, len(label), len(label), 1_700_000_000 + number, 0, 0, 0, 24),
            *(0, _VIRTUAL_SIZE, 0),
        )
        entry += label * 2
        entries.append(entry + bytes(-len(entry) % 8))
    table = b"".join(entries)
    at = layout.take(_clusters(len(table)))
    return _write(path, layout, _header(active_l1, count, at), {at: table})


def many_bitmaps(path: Path, count: int) -> Path:
    """``count`` empty bitmaps, each with a table of its own."""
    layout = _Layout()
    active_l1 = layout.take(1)
    first = layout.take(count)
    entries = []
    for number in range(count):
        name = f"b{number}".encode()
        entry = struct.pack(">QIIBBHI", first + number * _CLUSTER, 1, 2, 1, 9, len(name), 0) + name
        entries.append(entry + bytes(-len(entry) % 8))
    directory = b"".join(entries)
    at = layout.take(_clusters(len(directory)))
    fields = struct.pack(">IIQQ", count, 0, len(directory), at)
    extensions = extension(BITMAPS, fields) + extension(END, b"")
    return _write(path, layout, _header(active_l1, autoclear=1) + extensions, {at: directory})
