"""What users meet: explained by its cause, not by a line for each cluster."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from qcow.findings import Severity
from qcow.layout import problems
from qcow.layout.constants import EXT_DATA_FILE
from qcowtui.samples.builder import ImageBuilder
from tests.support.images import patch
from tests.support.qemu import qemu_img, qemu_io

from .agreement import ask_qemu, assert_agrees, checked, codes, numbers_of
from .damage import built

pytestmark = pytest.mark.oracle

_CLUSTER = 65536
#: With its default options QEMU puts these here.
_REFCOUNT_BLOCK, _L1, _L2 = 2 * _CLUSTER, 3 * _CLUSTER, 4 * _CLUSTER


def _create(path: Path, size: str, *options: str) -> Path:
    chosen = ("-o", ",".join(options)) if options else ()
    qemu_img("create", "-q", "-f", "qcow2", *chosen, path, size)
    return path


def _word(path: Path, offset: int) -> int:
    with open(path, "rb") as file:
        file.seek(offset)
        value: int = struct.unpack(">Q", file.read(8))[0]
    return value


def test_s2_five_lines_have_three_causes(tmp_path: Path) -> None:
    path = _create(tmp_path / "s2.qcow2", "64M")
    qemu_io(path, "write -q -P 1 0 1M")
    patch(path, _REFCOUNT_BLOCK + 2 * 8, b"\0\0")  # guest cluster 3
    patch(path, _REFCOUNT_BLOCK + 2 * 10, b"\0\2")  # guest cluster 5
    entry = _word(path, _L2 + 8 * 7)
    patch(path, _L2 + 8 * 7, struct.pack(">Q", entry & ~(1 << 63)))
    result = assert_agrees(path)
    assert (result.corruptions, result.leaks, result.exit_code) == (4, 1, 2)
    assert codes(result) == [
        "QCOW-REFCOUNT-ZERO",
        "QCOW-REFCOUNT-HIGH-COPIED",
        "QCOW-COPIED-MISSING",
    ]
    at_risk = result.findings[0]
    assert [(r.state, r.start, r.length) for r in at_risk.guest_ranges] == [
        ("active", 3 * _CLUSTER, _CLUSTER)
    ]
    assert "Cluster 8 is in use but counted as free" in at_risk.what
    assert "overwrite" in at_risk.kind.consequence


def test_s3_leaks_may_be_lost_guest_data(tmp_path: Path) -> None:
    path = _create(tmp_path / "s3.qcow2", "2G")
    qemu_io(path, "write -q -P 1 0 3M", "write -q -P 2 512M 40M")
    patch(path, _L1 + 8, bytes(8))
    result = assert_agrees(path)
    assert (result.exit_code, result.leaks) == (3, 641)
    (finding,) = result.findings
    assert (finding.code, finding.count, len(finding.host_ranges)) == ("QCOW-LEAK", 641, 1)
    assert "lost guest data" in finding.kind.consequence
    assert finding.kind.next_step.startswith("Do not reclaim")


def test_s4_a_killed_lazy_image_is_explained_once(tmp_path: Path) -> None:
    path = _create(tmp_path / "s4.qcow2", "64M", "lazy_refcounts=on")
    qemu_io(path, "write -q -P 0x5a 0 4M", "flush", killed=True)
    before = path.read_bytes()
    result = assert_agrees(path)
    assert (result.exit_code, result.corruptions) == (2, 128)
    (finding,) = result.findings
    assert (finding.code, finding.count) == ("QCOW-REFCOUNT-STALE", 64)
    assert [(r.start, r.length) for r in finding.guest_ranges] == [(0, 4 << 20)]
    assert "intact" in finding.kind.consequence
    assert path.read_bytes() == before


def test_s5_data_over_the_l1_table(tmp_path: Path) -> None:
    path = _create(tmp_path / "s5.qcow2", "64M")
    qemu_io(path, "write -q -P 1 0 256k")
    patch(path, _L2 + 8 * 2, struct.pack(">Q", 1 << 63 | _L1))
    patch(path, 72, struct.pack(">Q", 2))
    result = assert_agrees(path)
    assert codes(result) == ["QCOW-OVERLAP", "QCOW-LEAK", "QCOW-CORRUPT-BIT"]
    overlap = result.findings[0]
    assert "Cluster 3 has two owners" in overlap.what
    assert "guest data and the active L1 table" in overlap.what
    assert [(r.start, r.length) for r in overlap.guest_ranges] == [(2 * _CLUSTER, _CLUSTER)]
    assert [(r.start, r.length) for r in overlap.host_ranges] == [(3 * _CLUSTER, _CLUSTER)]


def test_truncated_image_names_what_is_lost(tmp_path: Path) -> None:
    path = _create(tmp_path / "cut.qcow2", "64M")
    qemu_io(path, "write -q -P 1 0 2M")
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 5 * _CLUSTER)
    result = assert_agrees(path)
    assert codes(result) == ["QCOW-DATA-OUTSIDE"]
    (finding,) = result.findings
    assert finding.count == result.corruptions == 5
    assert [(r.start, r.length) for r in finding.guest_ranges] == [(27 * _CLUSTER, 5 * _CLUSTER)]


def test_stale_bitmaps_are_not_rubbish(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=8 << 20, cluster_bits=12)
    builder.data(0, b"x")
    builder.bitmap("backup", [(0, 1 << 20)], granularity_bits=9)
    image = builder.build()
    image.set_header("autoclear_features", 0)
    result = assert_agrees(image.save(tmp_path / "stale.qcow2"))
    assert result.exit_code == 3
    assert codes(result) == ["QCOW-LEAK-BITMAPS", "QCOW-BITMAPS-STALE"]
    assert result.findings[0].count == result.leaks == 3


def test_damaged_bitmap_table(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=8 << 20, cluster_bits=12)
    builder.bitmap("[b]backup\x1b", [(0, 1 << 20)], granularity_bits=9)
    table = builder.model.bitmaps[0].table_cluster << 12
    image = builder.build()
    image.set_u64(table, image.u64(table) | 1 << 60)
    path = image.save(tmp_path / "bitmap.qcow2")
    assert ask_qemu(path).exit_code == 1
    result = checked(path)
    assert (result.exit_code, result.corruptions, result.check_errors) == (1, 1, 1)
    finding = next(f for f in result.findings if f.code == "QCOW-BITMAP-TABLE")
    assert 'bitmap "[b]backup\\x1b"' in finding.what


def test_leaks_of_an_unknown_extension_come_with_a_warning(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.extension(0x12345678, b"private")
    image = builder.build()
    image.nb_clusters += 1
    image.set_refcount(image.nb_clusters - 1, 1)
    result = assert_agrees(image.save(tmp_path / "unknown.qcow2"))
    assert codes(result) == ["QCOW-LEAK", "QCOW-EXT-UNKNOWN"]


def test_snapshots_with_a_data_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.raw").write_bytes(bytes(1 << 20))
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.extension(EXT_DATA_FILE, b"data.raw")
    builder.snapshot("impossible")
    image = builder.build()
    image.set_header("incompatible_features", 4)
    result = assert_agrees(image.save(tmp_path / "image.qcow2"))
    assert codes(result) == ["QCOW-SNAPSHOT-DATA-FILE"]


def test_compressed_and_uncounted_in_a_data_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.raw").write_bytes(bytes(1 << 20))
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.extension(EXT_DATA_FILE, b"data.raw")
    builder.data(0, b"x")
    builder.data(1, b"x")
    builder.data(2, b"x")
    image = builder.build()
    image.set_header("incompatible_features", 4)
    for guest, entry in ((0, 1 << 62 | 5 << 16), (1, 7 << 16), (2, 1 << 63 | 9 << 16 | 512)):
        at = image.l2_offset(guest)
        assert at is not None
        image.set_u64(at, entry)
    path = image.save(tmp_path / "image.qcow2")
    result = assert_agrees(path)
    found = set(codes(result))
    assert found == {
        "QCOW-COMPRESSED-MISPLACED",
        "QCOW-COPIED-MISSING",
        "QCOW-DATA-UNALIGNED",
        "QCOW-LEAK",
    }


def test_luks_header_that_claims_everything(tmp_path: Path) -> None:
    image = built("4k")
    start = image.header("header_length")
    # The encryption extension in front of all others; what they held does not matter here.
    extension = struct.pack(">IIQQ", 0x0537BE77, 16, 4096, 1 << 40) + bytes(8)
    image.patch(start, extension)
    image.set_header("crypt_method", 2)
    result = checked(image.save(tmp_path / "luks.qcow2"))
    assert "QCOW-LUKS-LENGTH" in codes(result)
    assert result.extra_corruptions >= 1


def test_nothing_can_be_checked_without_a_usable_header(tmp_path: Path) -> None:
    image = built("4k")
    image.set_header("incompatible_features", 1 << 40)
    path = image.save(tmp_path / "unknown.qcow2")
    assert ask_qemu(path).exit_code == 1
    result = checked(path)
    assert result.exit_code == 1
    assert result.findings[0].severity is Severity.ERROR


def test_no_refcount_table_leaves_every_cluster_uncounted(tmp_path: Path) -> None:
    """qemu-img counts, and would repair; here the missing table is an error of its own."""
    image = built("4k")
    image.set_header("refcount_table_clusters", 0)
    path = image.save(tmp_path / "none.qcow2")
    oracle = ask_qemu(path)
    result = checked(path)
    assert oracle.numbers is not None
    assert result.corruptions == oracle.numbers["corruptions"]
    assert result.exit_code == 1
    kinds = {finding.kind for finding in result.findings}
    assert problems.REFCOUNT_TABLE_INVALID in kinds
    assert "QCOW-REFCOUNT-ZERO" in codes(result)


def test_snapshot_damage_that_qemu_does_not_count(tmp_path: Path) -> None:
    image = built("4k")
    image.patch(image.header("snapshots_offset") + 8, bytes(4))  # an L1 table of no entries
    path = image.save(tmp_path / "empty.qcow2")
    result = checked(path)
    oracle = ask_qemu(path)
    assert numbers_of(result) == oracle.numbers
    assert (oracle.exit_code, result.exit_code) == (3, 2)
    assert "QCOW-SNAPSHOT-INVALID" in codes(result)
