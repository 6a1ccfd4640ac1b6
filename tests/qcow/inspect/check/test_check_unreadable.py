"""Bad sectors under tables: an error that names the place, and the rest is checked."""

from __future__ import annotations

import pytest

from qcow.errors import StorageError
from qcow.image.image import Image
from qcow.inspect.check import CheckResult, check
from qcow.layout.constants import OFFSET_MASK
from qcowtui.samples.builder import ImageBuilder
from qcowtui.samples.built import BuiltImage
from tests.support.images import small_builder

from .agreement import codes
from .sparse_storage import FailingStorage


def _check(image: BuiltImage, *bad: tuple[int, int]) -> CheckResult:
    return check(Image(FailingStorage(image.peek(0, image.length), list(bad))))


def _image() -> BuiltImage:
    return small_builder(cluster_bits=12).build()


def test_sound_image_in_that_storage() -> None:
    assert _check(_image()).exit_code == 0


def test_l2_table() -> None:
    builder = small_builder(cluster_bits=12, snapshot=False)
    image = builder.build()
    table = image.u64(image.l1_offset(0)) & OFFSET_MASK
    result = _check(image, (table + 100, 8))
    assert (result.exit_code, result.check_errors) == (1, 1)
    finding = result.findings[0]
    assert finding.code == "QCOW-CHECK-UNREADABLE"
    assert [(r.start, r.length) for r in finding.host_ranges] == [(table, 4096)]
    leak = next(f for f in result.findings if f.code == "QCOW-LEAK")
    assert "may belong to what could not be read" in leak.what
    # The other table of the state and the one of the snapshot were walked.
    assert result.allocated_clusters > 0


def test_snapshot_l1_table() -> None:
    image = _image()
    place = image.u64(image.header("snapshots_offset"))
    result = _check(image, (place, 1))
    assert result.check_errors == 1
    assert "an L1 table" in result.findings[0].what


def test_refcount_table_and_block() -> None:
    image = _image()
    table = image.header("refcount_table_offset")
    result = _check(image, (table, 8))
    assert result.check_errors == 1
    assert "the refcount table" in result.findings[0].what
    result = _check(image, (image.u64(table), 8))
    assert result.check_errors == 1
    assert "a refcount block" in result.findings[0].what
    # What cannot be read is not reported as wrong.
    assert codes(result)[1:] == []


def test_one_of_many_refcount_blocks() -> None:
    builder = ImageBuilder(virtual_size=4 << 20, cluster_bits=9)
    for guest in range(6000):
        builder.data(guest, b"x")
    image = builder.build()
    table = image.header("refcount_table_offset")
    block = image.u64(table + 8 * 5)
    result = _check(image, (block, 512))
    assert (result.check_errors, result.corruptions, result.leaks) == (1, 0, 0)


def test_bitmap_table() -> None:
    builder = ImageBuilder(virtual_size=8 << 20, cluster_bits=12)
    builder.bitmap("one", [(0, 4096)], granularity_bits=9)
    image = builder.build()
    place = builder.model.bitmaps[0].table_cluster << 12
    result = _check(image, (place, 8))
    assert result.check_errors == 1
    assert "a bitmap table" in result.findings[0].what


def test_compressed_data() -> None:
    image = _image()
    at = image.l2_offset(14)
    assert at is not None
    offset, _ = image.geometry.compressed_extent(image.u64(at))
    result = _check(image, (offset, 1))
    finding = next(f for f in result.findings if f.code == "QCOW-COMPRESSED-DAMAGED")
    assert "bad sector" in finding.examples[0]
    assert (result.exit_code, result.corruptions) == (2, 0)


def test_the_storage_of_these_tests_does_fail() -> None:
    with pytest.raises(StorageError):
        FailingStorage(bytes(100), [(50, 1)]).read(0, 51)
    assert FailingStorage(bytes(100), [(50, 1)]).read(0, 50) == bytes(50)
