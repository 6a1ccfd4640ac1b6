"""Opening answers although the storage cannot read a small structure."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from qcow.errors import StorageError
from qcow.image.image import Image
from qcow.opening import open_storage
from qcow.storage.memory import MemoryStorage
from qcowtui.samples.builder import ImageBuilder
from tests.support.images import pattern

_SECTOR = 512


class BadSector(MemoryStorage):
    """Refuses to read what touches one sector."""

    def __init__(self, data: bytes, bad: int) -> None:
        super().__init__(data)
        self._bad = bad

    def read(self, offset: int, length: int) -> bytes:
        if offset < self._bad + _SECTOR and offset + length > self._bad:
            raise StorageError(f"Could not read at offset {self._bad}: Input/output error.")
        return super().read(offset, length)


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.data(0, pattern(1, 65536))
    builder.snapshot("one")
    builder.bitmap("dirty")
    return builder.write(tmp_path / "a.qcow2").read_bytes()


def _opened(data: bytes, bad: int) -> Image:
    image = open_storage(BadSector(data, bad))
    assert isinstance(image, Image)
    return image


def _u64(data: bytes, at: int) -> int:
    (value,) = struct.unpack_from(">Q", data, at)
    assert isinstance(value, int)
    return value


def test_the_snapshot_table_cannot_be_read(data: bytes) -> None:
    image = _opened(data, _u64(data, 64))
    assert image.snapshots == ()
    (found,) = (one for one in image.problems if one.code == "QCOW-SNAPTABLE-INVALID")
    assert "Snapshot table entry 0 cannot be read: Could not read at offset" in found.what
    assert "1 of 1 snapshots cannot be listed" in found.what
    assert [bitmap.name for bitmap in image.bitmaps] == [b"dirty"]


def test_the_bitmap_directory_cannot_be_read(data: bytes) -> None:
    whole = _opened(data, len(data))
    assert whole.bitmap_directory is not None
    image = _opened(data, whole.bitmap_directory[0])
    assert image.bitmaps == ()
    assert any("The bitmap directory cannot be read" in one.what for one in image.problems)
    assert [snapshot.name for snapshot in image.snapshots] == [b"one"]


@pytest.mark.parametrize("sector", [0, 1])
def test_without_a_bad_sector_there_is_nothing_to_say(data: bytes, sector: int) -> None:
    assert _opened(data, len(data) + sector * _SECTOR).problems == ()
