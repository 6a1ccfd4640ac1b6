"""An image with every common kind of damage, scattered all over it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from . import writer

#: How many places each kind of damage is put in.
PLACES = 400


def harm(path: Path, scale: int) -> None:
    """Write 1 TiB all allocated, then harm counts, flags and one L1 entry."""
    shape = writer.Shape(virtual_size=(1 << 40) // scale)
    layout = writer.write(path, shape)
    chosen = np.random.Generator(np.random.PCG64(11))
    size, entries = shape.cluster_size, shape.table_entries

    tables = layout.place(
        layout.first_group + np.arange(layout.tables, dtype=np.int64) * (entries + 1)
    )
    numbers = chosen.choice(layout.data_clusters - entries, 3 * PLACES, replace=False)
    serial = layout.first_group + numbers // entries * (entries + 1) + 1 + numbers % entries
    hosts = layout.place(serial)
    blocks = layout.block_places()
    fd = os.open(path, os.O_RDWR)
    try:
        for index in range(PLACES):  # too high: leaks
            _set_count(fd, blocks, shape, int(hosts[index]), 2)
        for index in range(PLACES, 2 * PLACES):  # zero: errors
            _set_count(fd, blocks, shape, int(hosts[index]), 0)
        for index in range(2 * PLACES, 3 * PLACES):  # a COPIED flag that is missing
            table, entry = divmod(int(numbers[index]), entries)
            pointer = int(hosts[index]) * size
            os.pwrite(fd, pointer.to_bytes(8, "big"), int(tables[table]) * size + 8 * entry)
        # The last table loses its L1 entry: itself and all its clusters become leaks.
        (l1,) = layout.place(np.array([1 + layout.table_clusters])).tolist()
        os.pwrite(fd, bytes(8), l1 * size + 8 * (layout.tables - 1))
    finally:
        os.close(fd)


def lose_tables(path: Path, scale: int) -> None:
    """Write 64 GiB all allocated, then zero the L1 table: all tables and all data are leaks."""
    shape = writer.Shape(virtual_size=(64 << 30) // scale)
    layout = writer.write(path, shape)
    (l1,) = layout.place(np.array([1 + layout.table_clusters])).tolist()
    fd = os.open(path, os.O_RDWR)
    try:
        os.pwrite(fd, bytes(8 * layout.l1_entries), l1 * shape.cluster_size)
    finally:
        os.close(fd)


def _set_count(
    fd: int, blocks: np.ndarray[tuple[int], np.dtype[np.int64]], shape: writer.Shape,
    cluster: int, count: int,
) -> None:  # fmt: skip
    block, entry = divmod(cluster, shape.block_entries)
    os.pwrite(fd, count.to_bytes(2, "big"), int(blocks[block]) * shape.cluster_size + 2 * entry)
