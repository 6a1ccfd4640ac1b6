"""The builder against qemu-img: every image it writes is clean and reads back as it was told."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcowtui.samples.builder import ImageBuilder
from tests.support.images import assert_qemu_reads, noise, pattern, qemu_check, small_builder
from tests.support.qemu import qemu_img

VARIANTS = [
    {},
    {"version": 2},
    {"cluster_bits": 9},
    {"cluster_bits": 9, "refcount_order": 6},
    {"cluster_bits": 12},
    {"cluster_bits": 12, "version": 2},
    {"cluster_bits": 21, "snapshot": False},
    {"refcount_order": 0, "snapshot": False},
    {"refcount_order": 1, "snapshot": False},
    {"refcount_order": 2},
    {"refcount_order": 3, "cluster_bits": 13},
    {"refcount_order": 5},
    {"refcount_order": 6},
    {"extended_l2": True},
    {"extended_l2": True, "cluster_bits": 14, "compression": "zstd"},
    {"compression": "zstd"},
    {"lazy_refcounts": True},
]


def name_of(variant: dict[str, int]) -> str:
    return ",".join(f"{key}={value}" for key, value in variant.items()) or "default"


@pytest.mark.oracle
@pytest.mark.parametrize("variant", VARIANTS, ids=name_of)
def test_clean_and_reads_back(tmp_path: Path, variant: dict[str, int]) -> None:
    builder = small_builder(**variant)
    image = builder.write(tmp_path / "a.qcow2")
    check = qemu_check(image)
    assert (check.code, check.corruptions, check.leaks) == (0, 0, 0)
    assert_qemu_reads(image, builder.model)
    for snapshot in builder.model.snapshots:
        assert_qemu_reads(image, builder.model, snapshot)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("", {}),
        ("compat=0.10", {"version": 2}),
        ("cluster_size=512,refcount_bits=1", {"cluster_bits": 9, "refcount_order": 0}),
        ("cluster_size=4k", {"cluster_bits": 12}),
        ("cluster_size=2M,extended_l2=on", {"cluster_bits": 21, "extended_l2": True}),
        (
            "compression_type=zstd,lazy_refcounts=on",
            {"compression": "zstd", "lazy_refcounts": True},
        ),
    ],
)
def test_an_empty_image_is_what_qemu_creates(
    tmp_path: Path, options: str, settings: dict[str, int]
) -> None:
    given = ("-o", options) if options else ()
    qemu_img("create", "-q", "-f", "qcow2", *given, tmp_path / "qemu.qcow2", "64M")
    ours = ImageBuilder(virtual_size=64 << 20, **settings).write(tmp_path / "ours.qcow2")
    theirs = (tmp_path / "qemu.qcow2").read_bytes()
    # QEMU ends the file in the middle of the L1 table's cluster.
    size = ours.stat().st_size
    assert size - (1 << settings.get("cluster_bits", 16)) < len(theirs) <= size
    assert ours.read_bytes() == theirs.ljust(size, b"\0")


@pytest.mark.oracle
def test_an_overlay_is_what_qemu_creates(tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "raw", tmp_path / "base.raw", "1M")
    qemu_img(
        "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "qemu.qcow2", cwd=tmp_path
    )
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.backing("base.raw", "raw")
    ours = builder.write(tmp_path / "ours.qcow2").read_bytes()
    assert ours == (tmp_path / "qemu.qcow2").read_bytes().ljust(len(ours), b"\0")


@pytest.mark.oracle
@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compressed_clusters_are_packed_as_qemu_packs_them(
    tmp_path: Path, compression: str
) -> None:
    size = 1 << 16
    contents = [
        (pattern(n, 300) + noise(n, 19000)).ljust(size, b"\0") if n % 3 else noise(n, size)
        for n in range(24)
    ]
    raw = tmp_path / "guest.raw"
    raw.write_bytes(b"".join(contents))
    builder = ImageBuilder(virtual_size=24 * size, compression=compression)
    for number, content in enumerate(contents):
        builder.compressed(number, content)
    image = builder.write(tmp_path / "ours.qcow2")
    assert_qemu_reads(image, builder.model)
    assert qemu_check(image).compressed_clusters == 16
    qemu_img(
        "convert",
        "-c",
        "-O",
        "qcow2",
        "-o",
        f"compression_type={compression}",
        raw,
        "c",
        cwd=tmp_path,
    )
    # The same entries for the same data: offsets, sector counts, and the bytes in between.
    converted = (tmp_path / "c").read_bytes()
    ours = image.read_bytes()
    assert qemu_check(tmp_path / "c").compressed_clusters == 16
    assert len(ours) - size < len(converted) <= len(ours)
    assert ours[3 << 16 :] == converted[3 << 16 :].ljust(len(ours) - (3 << 16), b"\0")
