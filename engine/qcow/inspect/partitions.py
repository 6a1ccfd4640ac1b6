"""The partitions on a guest disk: MBR with logical partitions, and GPT (UEFI spec, chapter 5)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from ..disk import Disk
from ..record import record
from ..text import safe

_SECTORS = (512, 4096)
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
_MAX_LOGICAL = 128
_GPT_SIGNATURE = b"EFI PART"
#: signature, revision, header size, CRC, reserved, this LBA, other LBA, first, last, disk GUID,
#: entries' LBA, entries, bytes of each, their CRC
_GPT = struct.Struct("<8sIIIIQQQQ16sQIII")
_MAX_ENTRIES = 4096
_MAX_ENTRY_SIZE = 4096


@record
class Partition:
    """One partition; ``start`` and ``length`` are guest bytes, ``type`` and ``name`` safe text."""

    number: int
    start: int
    length: int
    type: str
    name: str = ""

    @property
    def end(self) -> int:
        return self.start + self.length


@record
class PartitionTable:
    """``kind``: "mbr" or "gpt".  ``backup``: (start, end) guest bytes of a GPT's second copy."""

    kind: str
    sector_size: int
    partitions: tuple[Partition, ...]
    backup: tuple[int, int] | None = None

    @property
    def end(self) -> int:
        """Guest byte behind the last partition, 0 without partitions."""
        return max((partition.end for partition in self.partitions), default=0)


def read_partitions(disk: Disk) -> PartitionTable | None:
    """The partition table of ``disk``, or None where there is none to be found.

    Nothing in it is trusted: loops end, and impossible entries are left out.  Raises what reading
    the disk raises.
    """
    first = _read(disk, 0, 512)
    entries = _mbr_entries(first)
    if entries is None:
        return None
    if any(kind == _PROTECTIVE for kind, _, _ in entries):
        for size in _SECTORS:
            found = _gpt(disk, size, size) or _gpt(disk, disk.virtual_size - size, size)
            if found is not None:
                return found
    partitions = tuple(_mbr_partitions(disk, entries))
    return PartitionTable("mbr", 512, partitions) if partitions else None


def _read(disk: Disk, offset: int, length: int) -> bytes:
    """Bytes of the disk, zeros where it ends."""
    if offset < 0 or offset >= disk.virtual_size:
        return bytes(length)
    return disk.read(offset, min(length, disk.virtual_size - offset)).ljust(length, b"\0")


def _mbr_entries(sector: bytes) -> list[tuple[int, int, int]] | None:
    """(type, first sector, sectors) of the four entries; None when this is no partition table.

    The first sector of a file system without partitions may carry the same signature.
    """
    if sector[510:512] != b"\x55\xaa":
        return None
    entries = []
    for at in range(446, 510, 16):
        status, kind, first, sectors = struct.unpack_from("<B3xB3xII", sector, at)
        if status & 0x7F:
            return None
        entries.append((kind, first, sectors))
    return entries


def _mbr_partitions(disk: Disk, entries: list[tuple[int, int, int]]) -> Iterator[Partition]:
    for number, (kind, first, sectors) in enumerate(entries, 1):
        if not kind or not first or not sectors:
            continue
        yield Partition(number, first * 512, sectors * 512, f"{kind:#04x}")
        if kind in _EXTENDED:
            yield from _logical(disk, first)


def _logical(disk: Disk, start: int) -> Iterator[Partition]:
    """The logical partitions of the extended partition at sector ``start``."""
    at, seen = start, set[int]()
    number = 5
    while at not in seen and len(seen) < _MAX_LOGICAL:
        seen.add(at)
        entries = _mbr_entries(_read(disk, at * 512, 512))
        if entries is None:
            return
        kind, first, sectors = entries[0]
        if kind and first and sectors:
            yield Partition(number, (at + first) * 512, sectors * 512, f"{kind:#04x}")
            number += 1
        kind, first, _ = entries[1]
        if kind not in _EXTENDED or not first:
            return
        at = start + first


def _gpt(disk: Disk, offset: int, sector: int) -> PartitionTable | None:
    """The GPT whose header is at ``offset``, by sectors of ``sector`` bytes, if it is intact."""
    header = _read(disk, offset, sector)
    fields = _GPT.unpack_from(header)
    signature, _, size, crc, _, here, other, _, _, _, table_at, count, width, table_crc = fields
    if (
        signature != _GPT_SIGNATURE
        or not _GPT.size <= size <= sector
        or here * sector != offset
        or not 0 < count <= _MAX_ENTRIES
        or not 128 <= width <= _MAX_ENTRY_SIZE
        or count * width > 1 << 20
    ):
        return None
    checked = header[:16] + bytes(4) + header[20:size]
    table = _read(disk, table_at * sector, count * width)
    if zlib.crc32(checked) != crc or zlib.crc32(table) != table_crc:
        return None
    partitions = []
    for index in range(count):
        entry = table[index * width : index * width + 128]
        if not any(entry[:16]):
            continue
        first, last = struct.unpack_from("<QQ", entry, 32)
        if 0 < first <= last < 1 << 55:
            name = entry[56:128].decode("utf-16-le", "replace").partition("\0")[0]
            partitions.append(
                Partition(
                    index + 1, first * sector, (last - first + 1) * sector, _guid(entry), safe(name)
                )
            )
    last_header = max(here, other) * sector
    entries_length = -(-count * width // sector) * sector
    backup = (max(0, last_header - entries_length), last_header + sector)
    return PartitionTable("gpt", sector, tuple(partitions), backup)


def _guid(entry: bytes) -> str:
    """A type GUID, whose first three groups are little-endian."""
    a, b, c = struct.unpack_from("<IHH", entry)
    return f"{a:08x}-{b:04x}-{c:04x}-{entry[8:10].hex()}-{entry[10:16].hex()}"
