"""What a guest disk looks like by its content: partition tables and file systems, and their sense.

Used to judge whether a backing file is the right one.  Everything here is a hint for a person: a
disk without any known signature can be perfectly right, and a guest can write any bytes it likes.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple, Protocol

SECTOR = 512
_KIB = 1 << 10
#: Read from the start of each place where a file system may begin.
_HEAD = 72 * _KIB
_MAX_PARTITIONS = 128
_MAX_ENTRY = 1024

#: (offset from the start of the file system, bytes, name)
_MAGICS = (
    (0x438, b"\x53\xef", "ext2/3/4 file system"),
    (0, b"XFSB", "XFS file system"),
    (0x10040, b"_BHRfS_M", "Btrfs file system"),
    (3, b"NTFS    ", "NTFS file system"),
    (3, b"EXFAT   ", "exFAT file system"),
    (0x36, b"FAT1", "FAT file system"),
    (0x52, b"FAT32   ", "FAT file system"),
    (0x218, b"LVM2 001", "LVM physical volume"),
    (0, b"LUKS\xba\xbe", "LUKS volume"),
    (0xFF6, b"SWAPSPACE2", "swap space"),
    (0x8001, b"CD001", "ISO 9660 file system"),
    (0x400, b"\x10\x20\xf5\xf2", "F2FS file system"),
)


class ByteDisk(Protocol):
    """What is looked at: anything that gives guest bytes."""

    @property
    def virtual_size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes: ...


class Partition(NamedTuple):
    """One entry of a partition table: guest bytes ``[start, end)``."""

    number: int
    start: int
    end: int


class Signatures(NamedTuple):
    """Noun phrases and sentences, safe to show.

    ``found``: what is there.  ``doubts``: what does not fit together.
    """

    found: tuple[str, ...]
    doubts: tuple[str, ...]


def signatures(disk: ByteDisk) -> Signatures:
    """Look at the partition table and at what its partitions, or the whole disk, hold.

    Raises what reading the disk raises.
    """
    found: list[str] = []
    doubts: list[str] = []
    head = _bytes(disk, 0, SECTOR)
    if head[510:512] != b"\x55\xaa" or _file_system(disk, 0, disk.virtual_size, doubts):
        name = _file_system(disk, 0, disk.virtual_size, doubts)
        return Signatures((f"{name} on the whole disk",) if name else (), _once(doubts))
    partitions = _mbr(head)
    if _is_protective(head):
        partitions = _gpt(disk, found, doubts)
    elif partitions:
        found.append(f"MBR partition table with {len(partitions)} partition(s)")
    blank = 0
    for number, start, end in partitions:
        if end > disk.virtual_size:
            doubts.append(
                f"Partition {number} ends at {end:#x}, beyond the end of the disk at "
                f"{disk.virtual_size:#x}."
            )
            continue
        name = _file_system(disk, start, end, doubts)
        if name:
            found.append(f"{name} in partition {number} at {start:#x}")
        elif not any(_bytes(disk, start, min(_HEAD, end - start))):
            blank += 1
    if partitions and blank == len(partitions):
        doubts.append("The disk has a partition table, and every partition begins with zeros.")
    return Signatures(tuple(found), _once(doubts))


def _mbr(head: bytes) -> list[Partition]:
    found = []
    for index in range(4):
        entry = head[446 + 16 * index : 462 + 16 * index]
        first, sectors = struct.unpack_from("<II", entry, 8)
        if entry[4] and sectors and entry[0] in (0, 0x80):
            found.append(Partition(index + 1, first * SECTOR, (first + sectors) * SECTOR))
    return found


def _is_protective(head: bytes) -> bool:
    return any(head[450 + 16 * index] == 0xEE for index in range(4))


def _gpt(disk: ByteDisk, found: list[str], doubts: list[str]) -> list[Partition]:
    header = _bytes(disk, SECTOR, SECTOR)
    if header[:8] != b"EFI PART":
        doubts.append("The disk is marked as having a GPT, and there is none.")
        return []
    length, crc = struct.unpack_from("<II", header, 12)
    other, _, _, guid = struct.unpack_from("<QQQ16s", header, 32)
    entries_at, count, size, entries_crc = struct.unpack_from("<QIII", header, 72)
    if not 92 <= length <= SECTOR or not 128 <= size <= _MAX_ENTRY or count > _MAX_PARTITIONS:
        doubts.append("The GPT's header makes no sense.")
        return []
    plain = header[:16] + bytes(4) + header[20:length]
    table = _bytes(disk, entries_at * SECTOR, count * size)
    if zlib.crc32(plain) != crc or zlib.crc32(table) != entries_crc:
        doubts.append("The GPT's checksums do not fit: its parts come from different disks.")
    backup = _bytes(disk, other * SECTOR, SECTOR)
    if backup[:8] == b"EFI PART" and backup[56:72] != guid:
        doubts.append("The GPT and its backup at the end belong to different disks.")
    partitions = []
    for index in range(count):
        entry = table[index * size : (index + 1) * size]
        if any(entry[:16]):
            first, last = struct.unpack_from("<QQ", entry, 32)
            partitions.append(Partition(index + 1, first * SECTOR, (last + 1) * SECTOR))
    same = ", its backup agrees" if backup[:8] == b"EFI PART" and backup[56:72] == guid else ""
    found.append(f"GPT with {len(partitions)} partition(s){same}")
    return partitions


def _file_system(disk: ByteDisk, start: int, end: int, doubts: list[str]) -> str:
    head = _bytes(disk, start, min(_HEAD, end - start))
    for at, magic, name in _MAGICS:
        if head[at : at + len(magic)] == magic:
            if name.startswith("ext"):
                _compare_ext_copies(disk, start, end, head[0x400:0x800], doubts)
            return name
    return ""


def _compare_ext_copies(
    disk: ByteDisk, start: int, end: int, block: bytes, doubts: list[str]
) -> None:
    """The second block group holds a copy of the superblock, of the same UUID."""
    (first_data_block, log_size), (per_group,) = (
        struct.unpack_from("<II", block, 20),
        struct.unpack_from("<I", block, 32),
    )
    if log_size > 6:
        return
    at = start + (first_data_block + per_group) * (_KIB << log_size)
    copy = _bytes(disk, at, _KIB) if at + _KIB <= end else b""
    if copy[56:58] == b"\x53\xef" and copy[104:120] != block[104:120]:
        doubts.append(
            f"The ext file system at {start:#x} and its backup superblock have different UUIDs: "
            "they come from different disks."
        )


def _bytes(disk: ByteDisk, offset: int, length: int) -> bytes:
    """Guest bytes, fewer where the disk ends."""
    length = max(0, min(length, disk.virtual_size - offset))
    return disk.read(offset, length) if length else b""


def _once(doubts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(doubts))
