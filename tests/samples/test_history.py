"""Snapshots, bitmaps, placement and growth of built images, against qemu-img."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcowtui.samples.builder import ImageBuilder
from tests.support.images import assert_qemu_reads, noise, pattern, qemu_check, write_raw
from tests.support.qemu import qemu_img, qemu_io, qemu_json

C = 1 << 16


def info(image: Path) -> dict[str, object]:
    return dict(qemu_json("info", "--output=json", image))


def used_clusters(image: Path) -> set[int]:
    """Host clusters with a refcount, read from the only refcount block of a 16-bit image."""
    raw = image.read_bytes()
    size = 1 << int.from_bytes(raw[20:24], "big")
    table = int.from_bytes(raw[48:56], "big")
    block = int.from_bytes(raw[table : table + 8], "big")
    assert not any(raw[table + 8 : table + size])
    counts = memoryview(raw[block : block + size]).cast("H")
    return {cluster for cluster, count in enumerate(counts) if count}


def branched() -> ImageBuilder:
    """Four snapshots, one of them on a branch and with VM state, and one that was deleted."""
    builder = ImageBuilder(virtual_size=600 << 20)
    for number in range(12):
        builder.data(number, pattern(number, C))
    builder.data(9000, pattern(9000, C))
    builder.compressed(20, pattern(20, C))
    first = builder.snapshot("first", date=1_740_000_000, date_nsec=5)
    for number in range(4):
        builder.data(number, pattern(100 + number, C))
    second = builder.snapshot("second", date=1_741_000_000, more_extra=b"not known to QEMU")
    builder.zero(4, 3)
    builder.revert(first)
    builder.data(1, pattern(201, C))
    builder.snapshot(
        "branch",
        date=1_742_000_000,
        vm_clock_nsec=90_000_000_000,
        vm_state=[noise(n, C) for n in range(5)],
        icount=77,
    )
    builder.revert(second)
    gone = builder.snapshot("gone")
    builder.data(7, pattern(307, C))
    builder.revert(gone)
    builder.delete_snapshot(gone)
    builder.reuse_free()
    builder.data(9, pattern(309, C))
    builder.compressed(21, pattern(321, C))
    builder.forget(11)
    return builder


@pytest.mark.oracle
def test_every_state_reads_back(tmp_path: Path) -> None:
    builder = branched()
    image = builder.write(tmp_path / "a.qcow2")
    assert qemu_check(image).code == 0
    assert_qemu_reads(image, builder.model)
    assert [snapshot.name for snapshot in builder.model.snapshots] == [
        b"first",
        b"second",
        b"branch",
    ]
    for snapshot in builder.model.snapshots:
        assert_qemu_reads(image, builder.model, snapshot)


@pytest.mark.oracle
def test_the_snapshot_table_says_what_was_asked_for(tmp_path: Path) -> None:
    image = branched().write(tmp_path / "a.qcow2")
    first, _, branch = (dict(pairs) for pairs in info(image)["snapshots"])  # type: ignore[attr-defined]
    assert (first["id"], first["name"]) == ("1", "first")
    assert (first["date-sec"], first["date-nsec"], first["vm-state-size"]) == (1_740_000_000, 5, 0)
    assert (branch["vm-state-size"], branch["icount"]) == (5 * C, 77)
    assert (branch["vm-clock-sec"], branch["vm-clock-nsec"]) == (90, 0)


@pytest.mark.oracle
def test_vm_state_is_where_qemu_looks_for_it(tmp_path: Path) -> None:
    builder = branched()
    image = builder.write(tmp_path / "a.qcow2")
    (tmp_path / "state").write_bytes(b"".join(noise(n, C) for n in range(5)))
    qemu_img("snapshot", "-a", "branch", image)
    # qemu-io reads the VM state of the active state that a revert leaves.
    said = qemu_io(image, *(f"read -b -v {n * C} 512" for n in range(5))).stdout.decode()
    for number in range(5):
        assert noise(number, C)[:16].hex(" ") in said


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["first", "second", "branch"])
def test_exclusive_clusters_are_what_deleting_frees(tmp_path: Path, name: str) -> None:
    builder = branched()
    image = builder.write(tmp_path / "a.qcow2")
    snapshot = next(s for s in builder.model.snapshots if s.name == name.encode())
    before = used_clusters(image)
    qemu_img("snapshot", "-d", name, image)
    assert len(before) - len(used_clusters(image)) == builder.model.exclusive_clusters(snapshot)


@pytest.mark.oracle
def test_qemu_goes_on_with_a_built_image(tmp_path: Path) -> None:
    builder = branched()
    image = builder.write(tmp_path / "a.qcow2")
    told = write_raw(builder.model, tmp_path / "told.raw")
    for target, kind in ((image, "qcow2"), (told, "raw")):
        qemu_io(target, "write -P 0x5a 100k 300k", "write -P 0xa5 590M 2M", fmt=kind)
    qemu_img("snapshot", "-c", "by QEMU", image)
    assert qemu_check(image).code == 0
    qemu_img("compare", "-q", image, told)


@pytest.mark.oracle
def test_bitmaps_are_read_by_qemu(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 30, cluster_bits=9)
    builder.data(0, b"x")
    builder.bitmap("daily", [(0, 1), (700 << 20, 3 << 20)])
    builder.bitmap("full", [(0, 1 << 30)], granularity_bits=17, auto=False)
    builder.bitmap("cut off", in_use=True)
    image = builder.write(tmp_path / "a.qcow2")
    assert qemu_check(image).code == 0
    data = dict(dict(info(image)["format-specific"])["data"])  # type: ignore[call-overload]
    assert [dict(pairs) for pairs in data["bitmaps"]] == [
        {"flags": ["auto"], "name": "daily", "granularity": 65536},
        {"flags": [], "name": "full", "granularity": 131072},
        {"flags": ["in-use", "auto"], "name": "cut off", "granularity": 65536},
    ]
    # Merging all dirty bits into another image's bitmap shows which they are.
    other = tmp_path / "other.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", other, "1G")
    qemu_img("bitmap", "--add", "-g", "65536", other, "copy")
    qemu_img("bitmap", "--merge", "daily", "-b", image, "-F", "qcow2", other, "copy")
    ours, theirs = image.read_bytes(), other.read_bytes()
    bits = bytearray(2048)
    bits[0] = 1
    bits[700 * 16 // 8 : 703 * 16 // 8] = b"\xff" * 6
    assert bytes(bits) in theirs
    for start in range(0, 2048, 512):
        piece = bytes(bits[start : start + 512])
        assert piece in ours


@pytest.mark.oracle
def test_clusters_go_where_they_are_told(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=64 << 20)
    assert builder.data(0, pattern(0, C), at=90) == 90
    assert builder.data(1, pattern(1, C), at=40) == 40
    builder.skip(10)
    assert builder.data(2, pattern(2, C)) == 15  # behind the L2 table at 4
    assert builder.zero_allocated(3, 3, at=60) == 60
    builder.trail(8)
    with pytest.raises(ValueError, match="taken"):
        builder.data(9, b"", at=90)
    image = builder.write(tmp_path / "a.qcow2")
    assert image.stat().st_size == (91 + 8) * C
    check = qemu_check(image)
    assert (check.code, check.image_end_offset) == (0, 91 * C)
    assert_qemu_reads(image, builder.model)
    found = [dict(pairs) for pairs in qemu_json("map", "--output=json", image)]
    assert [entry.get("offset") for entry in found[:5]] == [90 * C, 40 * C, 15 * C, 60 * C, None]


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("bits", "order", "distance"),
    [(9, 4, 9), (9, 6, 300), (12, 6, 5000), (9, 0, 17000), (12, 4, 40000)],
)
def test_many_refcount_blocks(tmp_path: Path, bits: int, order: int, distance: int) -> None:
    builder = ImageBuilder(virtual_size=1 << 30, cluster_bits=bits, refcount_order=order)
    size = 1 << bits
    for number in range(600):
        builder.data(number * 7, pattern(number, size))
    for number in range(20):  # far apart, so that areas in between have no refcount block
        builder.data(5000 + number, pattern(number, size), at=2000 + number * distance)
    image = builder.write(tmp_path / "a.qcow2")
    assert qemu_check(image).code == 0
    assert_qemu_reads(image, builder.model)


@pytest.mark.oracle
def test_subclusters(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20, extended_l2=True)
    builder.subclusters(0, pattern(1, C), 0x0000FFF0, 0xF0000000)
    builder.subclusters(3, pattern(3, C), 0, 0x1)
    builder.zero(5)
    builder.zero_allocated(6)
    image = builder.write(tmp_path / "a.qcow2")
    assert qemu_check(image).code == 0
    assert_qemu_reads(image, builder.model)
    with pytest.raises(ValueError, match="either allocated or zero"):
        builder.subclusters(1, b"", 3, 1)


@pytest.mark.oracle
def test_a_large_sparse_disk_is_quick_and_small(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=8 << 30)
    for number in range(4000):
        builder.data(number * 30011 % 131072, pattern(number, 512))
    image = builder.write(tmp_path / "a.qcow2")
    assert image.stat().st_blocks * 512 < 64 << 20
    assert qemu_check(image).code == 0


@pytest.mark.oracle
def test_an_unknown_extension_and_a_long_backing_name(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.backing(b"missing-" + b"x" * 1000, None)
    builder.extension(0x12345678, b"hello")
    image = builder.write(tmp_path / "a.qcow2")
    data = info(image)
    assert data["backing-filename"] == "missing-" + "x" * 1000
    assert "backing-filename-format" not in data
    assert b"\x12\x34\x56\x78\0\0\0\5hello\0\0\0" in image.read_bytes()[:C]


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="version 2"):
        ImageBuilder(virtual_size=1 << 20, version=2, extended_l2=True)
    old = ImageBuilder(virtual_size=1 << 20, version=2)
    with pytest.raises(ValueError, match="no zero clusters"):
        old.zero(0)
    with pytest.raises(ValueError, match="no bitmaps"):
        old.bitmap("b")
    with pytest.raises(ValueError, match="longer than a cluster"):
        old.data(0, bytes(C + 1))
    narrow = ImageBuilder(virtual_size=1 << 20, refcount_order=0)
    narrow.data(0, b"x")
    narrow.snapshot("shared")
    with pytest.raises(ValueError, match="exceeds 1 bits"):
        narrow.build()
    crowded = ImageBuilder(virtual_size=1 << 20, cluster_bits=9)
    crowded.backing("x" * 500)
    with pytest.raises(ValueError, match="exceed one cluster"):
        crowded.build()


def test_building_twice_gives_the_same_and_leaves_the_model_alone(tmp_path: Path) -> None:
    builder = branched()
    first = builder.write(tmp_path / "a.qcow2").read_bytes()
    damaged = builder.build()
    damaged.patch(0, b"broken")
    assert builder.write(tmp_path / "b.qcow2").read_bytes() == first
    builder.data(8, b"more")
    assert builder.write(tmp_path / "c.qcow2").read_bytes() != first
