"""Large qcow2 images straight from numpy: the metadata is real, the data is a hole.

``qemu-img create -o preallocation=metadata`` makes the same kind of image, but needs minutes for
small clusters and cannot scatter them.  The layout is QEMU's: an L2 table lies before the
clusters it maps, a refcount block at the start of the range it counts.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COPIED = 1 << 63
_EXTENDED_L2 = 1 << 4
_HEADER_LENGTH = 112
#: L2 entries worked on at a time.
_WINDOW = 1 << 22


@dataclass(frozen=True)
class Shape:
    """What is to be written.

    ``virtual_size`` in bytes.  Every ``stride``-th L2 table exists and is full, up to
    ``data_clusters`` allocated clusters in all (None: as many as there are).  With ``shuffled``
    the guest's clusters lie in the file as if written in random order.
    """

    virtual_size: int
    cluster_bits: int = 16
    refcount_order: int = 4
    extended_l2: bool = False
    shuffled: bool = False
    stride: int = 1
    data_clusters: int | None = None

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def table_entries(self) -> int:
        """Entries of one L2 table."""
        return self.cluster_size // (16 if self.extended_l2 else 8)

    @property
    def block_entries(self) -> int:
        """Counts in one refcount block."""
        return self.cluster_size * 8 >> self.refcount_order


@dataclass(frozen=True)
class Layout:
    """Where things lie, in clusters; what is not a refcount block has a serial number.

    Serial numbers run over header, refcount table, L1 table, and then group by group an L2 table
    and its data.
    """

    shape: Shape
    guest_clusters: int
    l1_entries: int
    data_clusters: int
    tables: int
    table_clusters: int  # of the refcount table
    l1_clusters: int
    blocks: int
    total: int

    @property
    def first_group(self) -> int:
        """The serial number of the first L2 table."""
        return 1 + self.table_clusters + self.l1_clusters

    def place(self, serial: NDArray[np.int64]) -> NDArray[np.int64]:
        """Host cluster numbers of serial numbers; the first cluster of a range is its block's.

        In the first range header and block change places, so that the header is cluster 0.
        """
        return np.where(serial == 0, 0, serial + serial // (self.shape.block_entries - 1) + 1)

    def block_places(self) -> NDArray[np.int64]:
        """Host cluster numbers of the refcount blocks."""
        places = np.arange(self.blocks, dtype=np.int64) * self.shape.block_entries
        places[0] = 1
        return places


def lay_out(shape: Shape) -> Layout:
    """Decide where everything goes."""
    guest = -(-shape.virtual_size // shape.cluster_size)
    l1_entries = -(-guest // shape.table_entries)
    data = shape.data_clusters
    if data is None:
        full, rest = divmod(guest, shape.table_entries * shape.stride)
        data = full * shape.table_entries + min(rest, shape.table_entries)
    tables = -(-data // shape.table_entries)
    l1_clusters = -(-l1_entries * 8 // shape.cluster_size)
    table_clusters = blocks = 1
    while True:
        others = 1 + table_clusters + l1_clusters + tables + data
        blocks = -(-others // (shape.block_entries - 1))
        needed = -(-blocks * 8 // shape.cluster_size)
        if needed <= table_clusters:
            break
        table_clusters = needed
    return Layout(
        shape, guest, l1_entries, data, tables, table_clusters, l1_clusters, blocks, others + blocks
    )


def write(path: Path, shape: Shape) -> Layout:
    """Write the image and return where things lie in it."""
    layout = lay_out(shape)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.ftruncate(fd, layout.total * shape.cluster_size)
        _write_header(fd, layout)
        _write_refcounts(fd, layout)
        _write_mapping(fd, layout)
    finally:
        os.close(fd)
    return layout


def _write_header(fd: int, layout: Layout) -> None:
    shape = layout.shape
    l1 = int(layout.place(np.array([1 + layout.table_clusters]))[0])
    refcount_table = int(layout.place(np.array([1]))[0])
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb", 3, 0, 0, shape.cluster_bits, shape.virtual_size, 0,
        layout.l1_entries, l1 * shape.cluster_size,
        refcount_table * shape.cluster_size, layout.table_clusters,
        0, 0,
        _EXTENDED_L2 if shape.extended_l2 else 0, 0, 0,
        shape.refcount_order, _HEADER_LENGTH,
    )  # fmt: skip
    os.pwrite(fd, header.ljust(_HEADER_LENGTH, b"\0"), 0)


def _write_refcounts(fd: int, layout: Layout) -> None:
    shape = layout.shape
    size = shape.cluster_size
    places = layout.block_places()
    (table,) = layout.place(np.array([1])).tolist()
    os.pwrite(fd, (places * size).astype(">u8").tobytes(), table * size)
    full = _counts(shape, shape.block_entries)
    for index, place in enumerate(places.tolist()):
        counted = min(shape.block_entries, layout.total - index * shape.block_entries)
        block = full if counted == shape.block_entries else _counts(shape, counted)
        os.pwrite(fd, block, place * size)


def _counts(shape: Shape, used: int) -> bytes:
    """A refcount block whose first ``used`` counts are 1."""
    ones = np.zeros(shape.block_entries, np.uint8)
    ones[:used] = 1
    if shape.refcount_order >= 3:
        return ones.astype(f">u{1 << (shape.refcount_order - 3)}").tobytes()
    spread = np.zeros((shape.block_entries, 1 << shape.refcount_order), np.uint8)
    spread[:, 0] = ones  # counts below a byte fill it from the lowest bit
    return np.packbits(spread.reshape(-1), bitorder="little").tobytes()


def _write_mapping(fd: int, layout: Layout) -> None:
    shape = layout.shape
    size, entries = shape.cluster_size, shape.table_entries
    group = np.arange(layout.tables, dtype=np.int64)
    table_places = layout.place(layout.first_group + group * (entries + 1))

    l1 = np.zeros(layout.l1_entries, np.uint64)
    l1[:: shape.stride][: layout.tables] = (table_places * size).astype(np.uint64) | np.uint64(
        COPIED
    )
    (l1_place,) = layout.place(np.array([1 + layout.table_clusters])).tolist()
    os.pwrite(fd, l1.astype(">u8").tobytes(), l1_place * size)

    order = _order(layout)
    for first in range(0, layout.tables, max(1, _WINDOW // entries)):
        last = min(layout.tables, first + max(1, _WINDOW // entries))
        number = np.arange(
            first * entries, min(layout.data_clusters, last * entries), dtype=np.int64
        )
        if order is not None:
            number = order[number]
        serial = layout.first_group + number // entries * (entries + 1) + 1 + number % entries
        host = (layout.place(serial) * size).astype(np.uint64) | np.uint64(COPIED)
        if shape.extended_l2:
            pair = np.empty((host.size, 2), np.uint64)
            pair[:, 0] = host
            pair[:, 1] = 0xFFFFFFFF  # all 32 subclusters are allocated
            host = pair.reshape(-1)
        packed = memoryview(host.astype(">u8").tobytes())
        for index, place in enumerate(table_places[first:last].tolist()):
            os.pwrite(fd, packed[index * size : (index + 1) * size], place * size)


def _order(layout: Layout) -> NDArray[np.int64] | None:
    """Which data cluster of the file holds which of the guest's, the same every time."""
    if not layout.shape.shuffled:
        return None
    return np.random.Generator(np.random.PCG64(7)).permutation(layout.data_clusters)
