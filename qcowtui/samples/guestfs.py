"""The structures a partitioned disk with an ext4 file system has, for the hex view to show.

They are right in themselves (magic numbers, checksums of the partition table, entry lengths), but
do not add up to a file system that could be mounted.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_NAME_LIST = (
    "adduser.conf alternatives apt bash.bashrc ca-certificates.conf cron.d crypttab dbus-1 "
    "debian_version default deluser.conf dpkg fstab group gshadow host.conf hostname hosts "
    "init.d issue kernel ld.so.conf locale.gen localtime logrotate.d machine-id mime.types "
    "modules motd mtab netplan network nginx nsswitch.conf os-release pam.d passwd postgresql "
    "profile protocols python3 resolv.conf rsyslog.conf security services shadow shells skel ssh "
    "ssl sudoers sysctl.conf systemd timezone udev update-motd.d vim wgetrc"
)
#: Names as found in /etc.
NAMES = _NAME_LIST.split()

SECTOR = 512
#: Bytes of the primary partition table: protective MBR, header, 128 entries.
GPT_BYTES = 34 * SECTOR
_ENTRIES = 128
_ENTRY = struct.Struct("<16s16sQQQ72s")
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")

EFI_SYSTEM = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
SWAP = uuid.UUID("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f")


@dataclass(frozen=True)
class Partition:
    """``start`` and ``length`` in bytes."""

    type: uuid.UUID
    name: str
    start: int
    length: int


def gpt(size: int, partitions: Sequence[Partition], name: str) -> tuple[bytes, bytes]:
    """The partition table of a disk of ``size`` bytes: its first 17 KiB and its last 16.5 KiB."""
    last = size // SECTOR - 1
    entries = b"".join(
        _ENTRY.pack(
            part.type.bytes_le,
            uuid.uuid5(uuid.NAMESPACE_DNS, f"{part.name}.{name}").bytes_le,
            part.start // SECTOR,
            (part.start + part.length) // SECTOR - 1,
            0,
            part.name.encode("utf-16-le"),
        )
        for part in partitions
    ).ljust(_ENTRIES * _ENTRY.size, b"\0")
    disk = uuid.uuid5(uuid.NAMESPACE_DNS, name).bytes_le

    def header(mine: int, other: int, table: int) -> bytes:
        def packed(checksum: int) -> bytes:
            return _HEADER.pack(
                b"EFI PART", 0x10000, _HEADER.size, checksum, 0, mine, other, 34, last - 33, disk,
                table, _ENTRIES, _ENTRY.size, zlib.crc32(entries),
            )  # fmt: skip

        return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")

    return (
        _protective_mbr(last) + header(1, last, 2) + entries,
        entries + header(last, 1, last - 32),
    )


def _protective_mbr(sectors: int) -> bytes:
    boot = (
        bytes.fromhex("eb6390d0bc007c8ec08ed8be007cbf0006b90002fcf3a4") + b"GRUB \0Geom\0Hard Disk"
    )
    entry = struct.pack(
        "<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, min(sectors, 0xFFFFFFFF)
    )
    return boot.ljust(446, b"\0") + entry + bytes(48) + b"\x55\xaa"


def _superblock(number: int, size: int) -> bytes:
    """The start of an ext4 partition: 1 KiB of nothing, the superblock, group descriptors."""
    blocks = 1 << 20
    out = bytearray(2048)
    struct.pack_into(
        "<IIIIIIIIIII", out, 1024,
        blocks // 4, blocks, blocks // 20, blocks // 3, blocks // 5, 0, 2, 2, 32768, 32768, 8192,
    )  # fmt: skip
    struct.pack_into("<IIHHHHHHIIIIHH", out, 1068, 1740787200, 1740787200, 7, 65535, 0xEF53, 1, 1,
                     0, 1740700800, 0, 0, 1, 0, 0)  # fmt: skip
    struct.pack_into("<IHHIII", out, 1108, 11, 256, 0, 0x3C, 0x2C2, 0x46B)
    out[1128:1144] = uuid.uuid5(uuid.NAMESPACE_DNS, f"root{number}").bytes
    out[1144:1160] = b"cloudimg-rootfs\0"
    out[1160:1224] = b"/".ljust(64, b"\0")
    descriptors = b"".join(
        struct.pack("<IIIHHHH12x", 1025 + n, 1041 + n, 1057 + n * 512, 9000 - n, 8100 - n, 3, 4)
        for n in range(128)
    )
    return bytes(out).ljust(4096, b"\0") + descriptors


def _inodes(number: int, size: int) -> bytes:
    """Part of an inode table: regular files, each with one extent."""
    out = bytearray()
    for slot in range(size // 256):
        inode = number * 16 + slot
        stamp = 1740700800 + inode * 37
        length = 311 + inode * 1237 % 60000
        out += struct.pack("<HHIIIIIHHIII", 0x81A4, 0, length, stamp, stamp, stamp, 0, 0, 1,
                           length // 512 + 1, 0x80000, 1)  # fmt: skip
        out += struct.pack("<HHHHIIHHI", 0xF30A, 1, 4, 0, 0, 0, length // 4096 + 1, 0, 9000 + inode)
        out += bytes(256 - len(out) % 256)
    return bytes(out)


def _directory(number: int, size: int) -> bytes:
    """Directory blocks of 4 KiB whose entries fill them."""
    out = bytearray()
    for block in range(-(-size // 4096)):
        records = [(2 + number, "."), (2, "..")]
        records += [
            (12 + number + n, f"{name}.{number % 7}" if number % 3 else name)
            for n, name in enumerate(NAMES)
        ]
        used = 0
        for place, (inode, text) in enumerate(records):
            need = 8 + (len(text) + 3 & ~3)
            length = need if place < len(records) - 1 else 4096 - used
            kind = 2 if text.startswith(".") or text.endswith(".d") else 1
            record = struct.pack("<IHBB", inode + block, length, len(text), kind) + text.encode()
            out += record.ljust(length, b"\0")
            used += length
    return bytes(out)


def _memory(number: int, size: int) -> bytes:
    """A page table page, as found in a machine's memory; what follows is anyone's guess."""
    first = (number * 512) << 12
    return struct.pack("<512Q", *(first + (n << 12) | 0x8000000000000063 for n in range(512)))


#: Kind of content -> the bytes it starts with, of piece ``number`` of ``size`` bytes.
STRUCTURES: dict[str, Callable[[int, int], bytes]] = {
    "superblock": _superblock,
    "inodes": _inodes,
    "directory": _directory,
    "memory": _memory,
}
