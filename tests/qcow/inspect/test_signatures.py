"""What a disk looks like, and what does not fit together on it."""

from __future__ import annotations

import struct

import pytest

from qcow.formats.raw import RawImage
from qcow.inspect.signatures import Signatures, signatures
from qcow.storage.memory import MemoryStorage

MIB = 1 << 20


def _partition(disk: bytearray, number: int, start: int, length: int, kind: int = 0x83) -> None:
    entry = struct.pack("<B3xB3xII", 0, kind, start // 512, length // 512)
    disk[446 + 16 * number : 462 + 16 * number] = entry
    disk[510:512] = b"\x55\xaa"


def _ext(disk: bytearray, start: int, uuid: bytes, copy_uuid: bytes | None = None) -> None:
    """A superblock of 1 KiB blocks, 512 to a group, and the copy in the second group."""
    block = bytearray(1024)
    struct.pack_into("<II4xI", block, 20, 1, 0, 512)
    block[56:58], block[104:120] = b"\x53\xef", uuid
    disk[start + 1024 : start + 2048] = block
    if copy_uuid is not None:
        block[104:120] = copy_uuid
        at = start + 513 * 1024
        disk[at : at + 1024] = block


def _look(disk: bytearray) -> Signatures:
    return signatures(RawImage(MemoryStorage(bytes(disk))))


def test_nothing_is_known() -> None:
    assert _look(bytearray(MIB)) == Signatures((), ())
    assert _look(bytearray(b"\xaa" * 512)) == Signatures((), ())


@pytest.mark.parametrize(
    ("at", "magic", "name"),
    [
        (0, b"XFSB", "XFS"),
        (0x10040, b"_BHRfS_M", "Btrfs"),
        (3, b"NTFS    ", "NTFS"),
        (0x52, b"FAT32   ", "FAT"),
        (0, b"LUKS\xba\xbe", "LUKS"),
    ],
)
def test_a_file_system_on_the_whole_disk_or_in_a_partition(
    at: int, magic: bytes, name: str
) -> None:
    disk = bytearray(4 * MIB)
    disk[at : at + len(magic)] = magic
    disk[510:512] = b"\x55\xaa"  # as a boot sector has it
    found = _look(disk)
    assert found.found[0].startswith(name)
    assert found.found[0].endswith("on the whole disk")
    disk = bytearray(4 * MIB)
    _partition(disk, 0, MIB, 2 * MIB)
    disk[MIB + at : MIB + at + len(magic)] = magic
    found = _look(disk)
    assert found.found[0] == "MBR partition table with 1 partition"
    assert found.found[1].startswith(name)
    assert found.found[1].endswith("in partition 1 at 0x100000")
    assert not found.doubts


def test_partitions_that_make_no_sense() -> None:
    disk = bytearray(4 * MIB)
    _partition(disk, 0, MIB, MIB)
    _partition(disk, 1, 2 * MIB, MIB)
    assert _look(disk).doubts == (
        "The disk has a partition table, and every partition begins with zeros.",
    )
    _partition(disk, 1, 2 * MIB, 3 * MIB)
    disk[MIB] = 1
    (doubt,) = _look(disk).doubts
    assert doubt.startswith("Partition 2 ends at 0x500000, beyond the end")
    _partition(disk, 0, 512, 4 * MIB - 512, kind=0xEE)
    (doubt,) = _look(disk).doubts
    assert "none that is intact" in doubt


def test_superblocks_of_different_disks() -> None:
    disk = bytearray(4 * MIB)
    _partition(disk, 0, MIB, 2 * MIB)
    _ext(disk, MIB, b"a" * 16, b"a" * 16)
    assert not _look(disk).doubts
    _ext(disk, MIB, b"a" * 16, b"b" * 16)
    found = _look(disk)
    assert "ext2/3/4 file system in partition 1 at 0x100000" in found.found
    (doubt,) = found.doubts
    assert "different UUIDs" in doubt
    _ext(disk, MIB, b"a" * 16)
    disk[MIB + 513 * 1024 : MIB + 514 * 1024] = bytes(1024)
    assert not _look(disk).doubts, "no copy there is no contradiction"
