"""Whatever QEMU wrote is encoded again to the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcow.image.image import Image
from qcow.layout.bitmaps import encode_bitmap_directory
from qcow.layout.extensions import encode_extensions, parse_extensions
from qcow.layout.features import (
    encode_feature_names,
    qemu_feature_names,
)
from qcow.layout.geometry import Geometry
from qcow.layout.header import Header
from qcow.layout.snapshots import encode_snapshot_table, parse_snapshot
from qcow.layout.tables import (
    compressed_entries,
    compressed_fields,
    decode_refcounts,
    decode_u64,
    encode_refcounts,
    encode_u64,
)
from qcow.storage.local import open_local
from tests.support.qemu import qemu_img, qemu_io

VARIANTS = [
    "compat=0.10",
    "compat=1.1,cluster_size=512",
    "refcount_bits=1",
    "extended_l2=on,compression_type=zstd,lazy_refcounts=on",
    "refcount_bits=64,cluster_size=2M",
    "data_file=d.raw,data_file_raw=on",
]


@pytest.mark.oracle
@pytest.mark.parametrize("options", VARIANTS)
def test_header_and_tables_of_qemu(tmp_path: Path, options: str) -> None:
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, "100M", cwd=tmp_path)
    with Image(open_local(path)) as image:
        header, geometry = image.header, image.usable_geometry()
        cluster = image.storage.read(0, geometry.cluster_size)
        assert header.encode() == cluster[: header.header_length]
        start = header.header_length
        area = parse_extensions(cluster[start:], start)
        again = encode_extensions((e.magic, e.data) for e in area.extensions)
        assert (header.encode() + again).ljust(len(cluster), b"\0") == cluster
        if image.feature_names:
            table = encode_feature_names(image.feature_names)
            assert table == qemu_feature_names(geometry.cluster_size, header.version)
        else:
            assert qemu_feature_names(geometry.cluster_size, header.version) is None
        raw = image.storage.read(header.refcount_table_offset, geometry.cluster_size)
        words = decode_u64(raw)
        assert encode_u64(words).tobytes() == raw
        block = image.storage.read(int(words[0]), geometry.cluster_size)
        counts = decode_refcounts(block, header.refcount_order)
        assert counts.sum() > 0
        assert encode_refcounts(counts, header.refcount_order).tobytes() == block


@pytest.mark.oracle
def test_snapshot_table_and_bitmap_directory_of_qemu(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    for name in ("a", "a longer name", "\N{SNOWMAN}"):
        qemu_img("snapshot", "-c", name, path)
        qemu_img("bitmap", "--add", path, name)
    qemu_img("bitmap", "--disable", path, "a")
    with Image(open_local(path)) as image:
        written = encode_snapshot_table(image.snapshots)
        stored = image.storage.read(image.header.snapshots_offset, len(written))
        assert written == stored
        assert image.bitmap_directory is not None
        assert encode_bitmap_directory(image.bitmaps) == image.storage.read(*image.bitmap_directory)


def test_snapshot_extra_data_is_kept_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    qemu_img("snapshot", "-c", "one", path)
    with Image(open_local(path)) as image:
        (snapshot,) = image.snapshots
    odd = replace(snapshot, extra=snapshot.extra + b"more of it", vm_state_size=5 << 32)
    table = encode_snapshot_table([odd, replace(odd, extra=b"", disk_size=None, icount=None)])
    first, at = parse_snapshot(table, 0, 0, 0)
    second, end = parse_snapshot(table, at, 1, 0)
    assert end == len(table)
    assert first.extra[24:] == b"more of it"
    assert first.vm_state_size == second.vm_state_size == 5 << 32
    assert (first.disk_size, second.disk_size, second.extra_size) == (1 << 20, None, 8)
    with pytest.raises(ValueError, match="disk's size"):
        encode_snapshot_table([replace(odd, disk_size=None)])
    with pytest.raises(ValueError, match="does not fit"):
        encode_snapshot_table([replace(odd, l1_size=1 << 32)])


@pytest.mark.parametrize("order", range(7))
def test_refcounts_of_every_width(order: int) -> None:
    most = (1 << (1 << order)) - 1
    values = np.array([most, 0, 1, most // 2, most, 0, 0, 1] * 64, dtype=np.uint64)
    raw = encode_refcounts(values, order)
    assert len(raw) == len(values) * (1 << order) // 8
    assert decode_refcounts(raw, order).tolist() == values.tolist()
    signed = np.array([1, 0] * 32, dtype=np.int64)
    assert decode_refcounts(encode_refcounts(signed, order), order).tolist() == signed.tolist()
    with pytest.raises(ValueError, match="does not fit"):
        encode_refcounts(np.array([-1] * 8, dtype=np.int64), order)
    if order < 6:
        with pytest.raises(ValueError, match="does not fit"):
            encode_refcounts(np.array([most + 1] * 8, dtype=np.uint64), order)
    if order < 3:
        with pytest.raises(ValueError, match="whole bytes"):
            encode_refcounts(np.array([1], dtype=np.uint64), order)


@pytest.mark.oracle
@pytest.mark.parametrize("bits", [9, 16, 21])
def test_compressed_entries_of_qemu(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.qcow2"
    size = 1 << bits
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"cluster_size={size}", path, str(8 * size))
    qemu_io(path, *(f"write -c -P {n + 1} {n * size} {size}" for n in range(8)))
    with Image(open_local(path)) as image:
        geometry = image.usable_geometry()
        l1 = decode_u64(image.storage.read(image.header.l1_table_offset, 8))
        offset = int(l1[0]) & ((1 << 56) - 1)
        entries = decode_u64(image.storage.read(offset, 64))
    offsets, budgets = compressed_fields(entries, geometry)
    assert compressed_entries(offsets, budgets, geometry).tolist() == entries.tolist()
    one = compressed_entries(offsets, np.ones_like(offsets), geometry)
    assert (compressed_fields(one, geometry)[1] <= 512).all()
    far = np.array([1 << geometry.compressed_offset_bits], dtype=np.int64)
    for wrong, length in ((far, 1), (offsets[:1], 0), (offsets[:1], 3 * size + 512)):
        with pytest.raises(ValueError, match="cannot say"):
            compressed_entries(wrong, np.array([length], dtype=np.int64), geometry)


def test_header_keeps_what_it_does_not_know() -> None:
    fields = Geometry(3, 16, 4, False, 0)
    data = bytearray(128)
    data[:8] = b"QFI\xfb\0\0\0\3"
    data[20:24] = fields.cluster_bits.to_bytes(4, "big")
    data[100:104] = (128).to_bytes(4, "big")
    data[105:] = bytes(range(23))
    assert Header.parse(bytes(data)).encode() == bytes(data)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"version": 2}, "72 bytes"),
        ({"version": 2, "header_length": 72, "compatible_features": 1}, "compatible_features"),
        ({"version": 2, "header_length": 72, "refcount_order": 5}, "refcount_order"),
        ({"header_length": 104, "compression_type": 1}, "compression_type"),
        ({"header_length": 80}, "too short"),
        ({"l1_size": 1 << 32}, "l1_size"),
    ],
)
def test_header_refuses_what_it_cannot_say(changes: dict[str, Any], complaint: str) -> None:
    data = b"QFI\xfb\0\0\0\3".ljust(100, b"\0") + (112).to_bytes(4, "big") + bytes(8)
    with pytest.raises(ValueError, match=complaint):
        replace(Header.parse(data), **changes).encode()
