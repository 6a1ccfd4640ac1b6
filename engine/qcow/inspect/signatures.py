"""What a guest disk looks like by its content: partition tables and file systems, and their sense.

Used to judge whether a backing file is the right one.  Everything here is a hint for a person: a
disk without any known signature can be perfectly right, and a guest can write any bytes it likes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..disk import Disk
from ..text import plural
from .partitions import read_partitions

_KIB = 1 << 10
#: Read from the start of each place where a file system may begin.
_HEAD = 72 * _KIB
#: The type by which an MBR says that there is a GPT.
_PROTECTIVE = "0xee"

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


class Signatures(NamedTuple):
    """Noun phrases and sentences, safe to show.

    ``found``: what is there.  ``doubts``: what does not fit together.
    """

    found: tuple[str, ...]
    doubts: tuple[str, ...]


def signatures(disk: Disk) -> Signatures:
    """Look at the partition table and at what its partitions, or the whole disk, hold.

    Raises what reading the disk raises.
    """
    found: list[str] = []
    doubts: list[str] = []
    table = read_partitions(disk)
    name = _file_system(disk, 0, disk.virtual_size, doubts)
    if name:  # its boot sector can look like a partition table
        return Signatures((f"{name} on the whole disk",), tuple(doubts))
    if table is None:
        return Signatures((), ())
    if any(partition.type == _PROTECTIVE for partition in table.partitions):
        doubts.append("The disk is marked as having a GPT, and there is none that is intact.")
        return Signatures((), tuple(doubts))
    kind = table.kind.upper()
    found.append(f"{kind} partition table with {plural(len(table.partitions), 'partition')}")
    blank = 0
    for partition in table.partitions:
        start, end = partition.start, partition.end
        if end > disk.virtual_size:
            doubts.append(
                f"Partition {partition.number} ends at {end:#x}, beyond the end of the disk at "
                f"{disk.virtual_size:#x}."
            )
            continue
        name = _file_system(disk, start, end, doubts)
        if name:
            found.append(f"{name} in partition {partition.number} at {start:#x}")
        elif not any(_bytes(disk, start, min(_HEAD, end - start))):
            blank += 1
    if table.partitions and blank == len(table.partitions):
        doubts.append("The disk has a partition table, and every partition begins with zeros.")
    return Signatures(tuple(found), tuple(doubts))


def _file_system(disk: Disk, start: int, end: int, doubts: list[str]) -> str:
    head = _bytes(disk, start, min(_HEAD, end - start))
    for at, magic, name in _MAGICS:
        if head[at : at + len(magic)] == magic:
            if name.startswith("ext"):
                _compare_ext_copies(disk, start, end, head[0x400:0x800], doubts)
            return name
    return ""


def _compare_ext_copies(disk: Disk, start: int, end: int, block: bytes, doubts: list[str]) -> None:
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


def _bytes(disk: Disk, offset: int, length: int) -> bytes:
    """Guest bytes, fewer where the disk ends."""
    length = max(0, min(length, disk.virtual_size - offset))
    return disk.read(offset, length) if length else b""
