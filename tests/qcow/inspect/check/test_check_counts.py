"""On sound images the check finds nothing and has qemu-img's numbers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from qcowtui.samples.builder import ImageBuilder
from tests.support.images import noise, pattern, small_image
from tests.support.qemu import create_encrypted, qemu_img, qemu_io, with_key

from .agreement import assert_agrees, checked, codes
from .damage import SHAPES

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("shape", SHAPES)
def test_built_images(tmp_path: Path, shape: str) -> None:
    result = assert_agrees(small_image(tmp_path, **SHAPES[shape]))  # type: ignore[arg-type]
    assert result.exit_code == 0
    assert result.findings == ()
    assert result.compressed_clusters > 0


@pytest.mark.parametrize("order", range(7))
@pytest.mark.parametrize("bits", [9, 13, 16])
def test_refcount_widths(tmp_path: Path, order: int, bits: int) -> None:
    builder = ImageBuilder(virtual_size=300 << bits, cluster_bits=bits, refcount_order=order)
    for guest in range(0, 300, 2):
        builder.data(guest, b"x")
    if order:
        builder.snapshot("one")
        builder.data(4, b"y")
    result = assert_agrees(builder.write(tmp_path / "image.qcow2"))
    assert (result.exit_code, result.findings) == (0, ())


@pytest.mark.parametrize("bits", [14, 16, 21])
def test_extended_l2(tmp_path: Path, bits: int) -> None:
    builder = ImageBuilder(virtual_size=80 << bits, cluster_bits=bits, extended_l2=True)
    for guest in range(40):
        builder.subclusters(guest, pattern(guest, 5000), 0b1011, 0b10000)
    builder.zero(50, 5)
    builder.zero_allocated(60, 5)
    builder.compressed(70, b"compresses well")
    result = assert_agrees(builder.write(tmp_path / "image.qcow2"))
    assert (result.exit_code, result.findings) == (0, ())


def test_clusters_of_2_mib(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=20 << 21, cluster_bits=21)
    for guest in (3, 4, 5, 0, 19):
        builder.data(guest, b"x")
    builder.compressed(7, noise(1, 600_000))
    assert assert_agrees(builder.write(tmp_path / "image.qcow2")).exit_code == 0


def test_fragmented_in_many_ways(tmp_path: Path) -> None:
    """Runs, holes, jumps back, tables next to each other and apart: qemu-img's fragments."""
    chosen = random.Random(5)
    places: list[range] = []
    at = 6000
    while at < 11_000:
        length = chosen.choice((1, 2, 3, 10, 40, 300))
        places.append(range(at, at + length))
        at += length + chosen.randrange(2)
    chosen.shuffle(places)
    hosts = [cluster for place in places for cluster in place]
    builder = ImageBuilder(virtual_size=4 << 20, cluster_bits=10)
    for guest in range(4000):
        if guest % 97 > 3 and not 500 < guest < 700:
            builder.data(guest, b"x", at=hosts[guest] if guest % 31 else None)
    result = assert_agrees(builder.write(tmp_path / "image.qcow2"))
    assert result.exit_code == 0
    assert result.fragmented_clusters > 300


def test_several_hundred_snapshots(tmp_path: Path) -> None:
    """More references than fit in 8 bits, on tables and on data."""
    builder = ImageBuilder(virtual_size=300 << 12, cluster_bits=12)
    for guest in range(40):
        builder.data(guest, b"x")
    for number in range(300):
        builder.snapshot(f"s{number}")
        if number % 50 == 0:
            builder.data(number % 40, b"y")
    result = assert_agrees(builder.write(tmp_path / "image.qcow2"))
    assert (result.exit_code, result.findings) == (0, ())


def test_bitmaps_and_trailing_clusters(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=8 << 20, cluster_bits=12)
    builder.data(3, b"x")
    builder.bitmap("one", [(0, 4096), (1 << 20, 70000)], granularity_bits=9)
    builder.bitmap("two", [(0, 8 << 20)], granularity_bits=9)
    builder.trail(5)
    assert assert_agrees(builder.write(tmp_path / "image.qcow2")).findings == ()


def test_encrypted_needs_no_key(tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    create_encrypted(path, "4M", kind="aes")
    qemu_io(path, "write -q 0 200k", key="aes")
    result = assert_agrees(path, *with_key(path, "aes"))
    assert (result.exit_code, result.findings) == (0, ())


@pytest.mark.parametrize("raw", ["on", "off"])
def test_external_data_file(tmp_path: Path, raw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # QEMU looks for the data file here
    path = tmp_path / "image.qcow2"
    options = f"data_file=data.raw,data_file_raw={raw}"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path.name, "4M", cwd=tmp_path)
    qemu_io(path, "write -q 0 200k", "write -q 1M 64k", cwd=tmp_path)
    result = assert_agrees(path)
    assert (result.exit_code, result.findings) == (0, ())
    (tmp_path / "data.raw").unlink()
    assert checked(path) == result, "the data file is not looked for"


def test_dirty_with_nothing_wrong(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20, lazy_refcounts=True)
    builder.data(1, b"x")
    image = builder.build()
    image.set_header("incompatible_features", 1)
    result = assert_agrees(image.save(tmp_path / "image.qcow2"))
    assert result.exit_code == 0
    assert codes(result) == ["QCOW-DIRTY"]
