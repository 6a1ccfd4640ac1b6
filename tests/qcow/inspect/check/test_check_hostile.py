"""Images whose sizes lie: work and memory follow the bytes that are there."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from qcow.image.image import Image
from qcow.inspect.check import CheckResult, check
from qcowtui.samples.builder import ImageBuilder
from qcowtui.samples.built import BuiltImage

from .agreement import codes
from .sparse_storage import SparseStorage

_C = 65536
_COPIED = 1 << 63


@contextmanager
def _limits(storage: SparseStorage, seconds: float = 4.0) -> Iterator[None]:
    """At most ``seconds`` of CPU and 64 MiB beside four times what the file holds."""
    stored = storage.allocated_bytes() or 0
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= (64 << 20) + 4 * stored
    assert storage.bytes_read <= (128 << 20) + 4 * stored
    # Measured without tracing, which slows everything down.
    start = time.process_time()
    check(Image(storage))
    assert time.process_time() - start <= seconds


def _sparse(image: BuiltImage, length: int, more: dict[int, bytes]) -> SparseStorage:
    """``image`` in a file of ``length`` bytes, with ``more`` (offset -> content) put over it."""
    covered = [range(at, at + len(data)) for at, data in more.items()]
    pieces = {cluster * _C: bytes(content) for cluster, content in image.clusters.items()}
    kept = {at: data for at, data in pieces.items() if not any(at in over for over in covered)}
    return SparseStorage(length, {at: data for at, data in {**kept, **more}.items() if data})


def _checked(storage: SparseStorage) -> CheckResult:
    with _limits(storage):
        return check(Image(storage))


def _base(l1_entries: int = 16) -> BuiltImage:
    builder = ImageBuilder(virtual_size=l1_entries * 8192 * _C)
    builder.data(0, b"x")
    return builder.build()


def _words(values: object) -> bytes:
    return np.asarray(values, dtype=">u8").tobytes()


def test_four_pib_with_entries_all_over(monkeypatch: pytest.MonkeyPatch) -> None:
    image = _base()
    clusters = 1 << 36
    chosen = np.random.default_rng(1)
    entries = chosen.choice(clusters - 100, size=3 * 8192, replace=False).astype(np.uint64) + 50
    image.patch(image.l1_offset(1), _words([(20 + i) * _C | _COPIED for i in range(3)]))
    storage = _sparse(
        image,
        clusters * _C,
        {20 * _C: _words(entries << np.uint64(16) | np.uint64(_COPIED))},
    )
    result = _checked(storage)
    # No refcount block counts them, and not one of the three tables.
    assert result.corruptions == 2 * (3 * 8192 + 3)
    assert result.allocated_clusters == 3 * 8192 + 1
    assert result.image_end_offset == (int(entries.max()) + 1) * _C


def test_refcount_table_that_names_one_block_many_times() -> None:
    image = _base()
    table = 100
    image.set_header("refcount_table_offset", table * _C)
    image.set_header("refcount_table_clusters", 32)
    block = np.zeros(32768, dtype=">u2")
    block[[0, 3, 5, 1000]] = 1
    storage = _sparse(
        image,
        (1 << 33) * _C,
        {table * _C: _words(np.full(1 << 18, 99 * _C)), 99 * _C: block.tobytes()},
    )
    result = _checked(storage)
    assert result.exit_code == 2
    assert result.leaks >= 4 * (1 << 18) - 10
    assert {"QCOW-REFBLOCK-SHARED", "QCOW-LEAK"} <= set(codes(result))
    assert result.image_end_offset == (((1 << 18) - 1) * 32768 + 1001) * _C


def test_l2_tables_in_holes() -> None:
    """Half a million tables that the file does not hold: nothing but references to them."""
    entries = 1 << 19
    image = _base(entries)
    start = image.header("l1_table_offset")
    l1 = _words((np.arange(entries, dtype=np.uint64) + np.uint64(3000)) << np.uint64(16))
    storage = _sparse(image, (entries + 4000) * _C, {start: l1})
    result = _checked(storage)
    assert result.corruptions == entries
    assert codes(result)[0] == "QCOW-REFCOUNT-ZERO"


def test_snapshots_that_share_one_l1_table_in_pieces() -> None:
    """2000 snapshots claim overlapping stretches of the same 8 MiB."""
    image = _base()
    table, l1 = 600, 1000
    count, entries = 2000, 1 << 20
    rows = b"".join(
        ((l1 + number % 64) * _C).to_bytes(8, "big")
        + (entries - number).to_bytes(4, "big")
        + b"\0\4\0\0"
        + bytes(20)
        + (24).to_bytes(4, "big")
        + bytes(8)
        + (16 * 8192 * _C).to_bytes(8, "big")
        + bytes(8)
        + f"{number:04}".encode()
        + bytes(4)
        for number in range(count)
    )
    image.set_header("nb_snapshots", count)
    image.set_header("snapshots_offset", table * _C)
    one_table = image.u64(image.l1_offset(0)) & ~_COPIED
    content = np.zeros(entries, dtype=np.uint64)
    content[::4096] = one_table
    storage = _sparse(image, 3000 * _C, {table * _C: rows, l1 * _C: _words(content)})
    result = _checked(storage)
    # Each snapshot refers to the table once for each of those entries that its L1 table contains.
    starts = [number % 64 * 8192 for number in range(count)]
    ends = [start + entries - number for number, start in enumerate(starts)]
    used = range(0, entries, 4096)
    references = 1 + sum(
        sum(start <= at < end for at in used) for start, end in zip(starts, ends, strict=True)
    )
    assert references > 65535
    l1_clusters = 63 + 128
    # The table and its data cluster overflow and are counted too low; neither the clusters of the
    # L1 tables nor the three of the snapshot table are counted at all.
    assert result.corruptions == 2 * (references - 65535) + 2 + l1_clusters + 3
    assert {"QCOW-OVERLAP", "QCOW-REFCOUNT-OVERFLOW"} <= set(codes(result))


def test_a_vast_encryption_header_or_bitmap_costs_nothing() -> None:
    builder = ImageBuilder(virtual_size=1 << 30)
    builder.bitmap("b", [(0, 1 << 20)])
    image = builder.build()
    directory = builder.model.bitmap_directory.start * _C
    image.patch(directory + 8, (0x1FFF).to_bytes(4, "big"))
    storage = _sparse(image, 1 << 50, {})
    result = _checked(storage)
    assert result.exit_code == 1


def test_clusters_of_512_bytes_in_16_tib() -> None:
    builder = ImageBuilder(virtual_size=1 << 20, cluster_bits=9)
    for guest in range(100):
        builder.data(guest, b"x")
    image = builder.build()
    pieces = {c * 512: bytes(data).ljust(512, b"\0") for c, data in image.clusters.items()}
    storage = SparseStorage(16 << 40, {at: data for at, data in pieces.items() if any(data)})
    result = _checked(storage)
    assert (result.exit_code, result.findings) == (0, ())
    assert result.image_end_offset == image.length
