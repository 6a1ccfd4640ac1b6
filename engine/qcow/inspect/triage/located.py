"""Structures of partition tables and file systems that say where on the disk they lie."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ...disk import Disk
from ...errors import QcowError
from ..partitions import read_partitions

_KIB = 1 << 10
#: Bytes of a cluster's beginning in which the structures are looked for.
HEAD = 4 * _KIB
_BTRFS = b"_BHRfS_M"


class Mark(NamedTuple):
    """A structure found ``at`` bytes behind the start of some content, which knows that it lies
    ``offset`` bytes behind the start of the file system, or of the disk if ``absolute``."""

    name: str
    at: int
    offset: int
    absolute: bool


def marks(head: bytes) -> list[Mark]:
    """What the first bytes of a cluster (:data:`HEAD`) say of their place."""
    found: list[Mark] = []
    for sector in (512, 4096):
        if head[sector : sector + 8] == b"EFI PART":
            (lba,) = struct.unpack_from("<Q", head, sector + 24)
            found.append(Mark("GPT header", sector, lba * sector, True))
    # The first superblock lies 1 KiB behind the start of the file system, copies where a block
    # group begins.
    for at in (0, _KIB):
        if head[at + 0x38 : at + 0x3A] == b"\x53\xef":
            found += _ext(head, at)
    if head[:4] == b"XFSB":
        found += _xfs(head)
    if head[0x40:0x48] == _BTRFS:
        (place,) = struct.unpack_from("<Q", head, 0x30)
        found.append(Mark("Btrfs superblock", 0, place, False))
    return found


def _ext(head: bytes, at: int) -> list[Mark]:
    first_block, log_size = struct.unpack_from("<II", head, at + 0x14)
    (per_group,) = struct.unpack_from("<I", head, at + 0x20)
    (group,) = struct.unpack_from("<H", head, at + 0x5A)
    if log_size > 6 or not per_group:
        return []
    if group == 0:
        return [Mark("ext superblock", at, _KIB, False)]
    place = (first_block + group * per_group) * (_KIB << log_size)
    return [Mark(f"copy of the ext superblock of block group {group}", at, place, False)]


def _xfs(head: bytes) -> list[Mark]:
    (block,) = struct.unpack_from(">I", head, 4)
    (blocks,) = struct.unpack_from(">I", head, 84)
    if head[512:516] != b"XAGF":
        return []
    (number,) = struct.unpack_from(">I", head, 520)
    if not 512 <= block <= 65536 or not blocks:
        return []
    return [Mark(f"XFS allocation group {number}", 0, number * blocks * block, False)]


def starts(disk: Disk) -> tuple[int, ...]:
    """Guest bytes at which a file system may begin: the disk's start, and each partition's."""
    try:
        table = read_partitions(disk)
    except QcowError:
        return (0,)
    return (0, *(partition.start for partition in table.partitions)) if table else (0,)
