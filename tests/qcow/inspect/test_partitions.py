"""Partition tables of all kinds, and bytes that only look like one."""

from __future__ import annotations

import random
import struct
import zlib

import pytest

from qcow.formats.raw import RawImage
from qcow.inspect.partitions import Partition, PartitionTable, read_partitions
from qcow.storage.memory import MemoryStorage

MIB = 1 << 20
LINUX = bytes.fromhex("af3dc60f838472478e793d69d8477de4")
LINUX_NAME = "0fc63daf-8483-4772-8e79-3d69d8477de4"


def entry(kind: int, first: int, sectors: int, status: int = 0) -> bytes:
    return struct.pack("<B3xB3xII", status, kind, first, sectors)


def boot_sector(*entries: bytes) -> bytes:
    return bytes(446) + b"".join(entries).ljust(64, b"\0") + b"\x55\xaa"


def disk(size: int, **pieces: bytes) -> bytearray:
    """``at_N=data``: bytes at sector N."""
    made = bytearray(size)
    for name, data in pieces.items():
        at = int(name.removeprefix("at_")) * 512
        made[at : at + len(data)] = data
    return made


def found(data: bytes | bytearray) -> PartitionTable | None:
    return read_partitions(RawImage(MemoryStorage(data)))


def gpt(size: int, sector: int, parts: list[tuple[int, int, str]]) -> bytearray:
    """A disk with a GPT and its second copy; parts are (first LBA, last LBA, name)."""
    entries = b"".join(
        LINUX + bytes(15) + bytes([n]) + struct.pack("<QQQ", first, last, 0)
        + name.encode("utf-16-le").ljust(72, b"\0")
        for n, (first, last, name) in enumerate(parts)
    ).ljust(128 * 128, b"\0")  # fmt: skip
    end = size // sector
    table = -(-len(entries) // sector)

    def header(here: int, other: int, at: int) -> bytes:
        fields = (b"EFI PART", 0x10000, 92, 0, 0, here, other, table + 2, end - table - 2)
        tail = (bytes(16), at, 128, 128, zlib.crc32(entries))
        made = struct.pack("<8sIIIIQQQQ16sQIII", *fields, *tail)
        return made[:16] + struct.pack("<I", zlib.crc32(made)) + made[20:]

    made = bytearray(size)
    made[:512] = boot_sector(entry(0xEE, 1, min(end - 1, 0xFFFFFFFF)))
    for here, other, at in ((1, end - 1, 2), (end - 1, 1, end - 1 - table)):
        made[here * sector : here * sector + 92] = header(here, other, at)
        made[at * sector : at * sector + len(entries)] = entries
    return made


def test_primary_partitions() -> None:
    table = found(disk(8 * MIB, at_0=boot_sector(entry(0x83, 2048, 4096, 0x80), entry(7, 6144, 9))))
    assert table == PartitionTable(
        "mbr",
        512,
        (Partition(1, MIB, 2 * MIB, "0x83"), Partition(2, 3 * MIB, 9 * 512, "0x07")),
    )
    assert table.end == 3 * MIB + 9 * 512


def test_logical_partitions() -> None:
    table = found(
        disk(
            8 * MIB,
            at_0=boot_sector(entry(0x83, 63, 100), entry(5, 1000, 9000)),
            at_1000=boot_sector(entry(0x83, 63, 500), entry(5, 1000, 2000)),
            at_2000=boot_sector(entry(0x82, 63, 600)),
        )
    )
    assert table is not None
    assert [(p.number, p.start // 512, p.length // 512) for p in table.partitions] == [
        (1, 63, 100),
        (2, 1000, 9000),
        (5, 1063, 500),
        (6, 2063, 600),
    ]


def test_a_chain_of_logical_partitions_that_loops_ends() -> None:
    table = found(
        disk(
            MIB,
            at_0=boot_sector(entry(5, 100, 900)),
            at_100=boot_sector(entry(0x83, 1, 2), entry(5, 50, 10)),
            at_150=boot_sector(entry(0x83, 1, 2), entry(5, 50, 10)),
        )
    )
    assert table is not None
    assert len(table.partitions) == 3


@pytest.mark.parametrize("sector", [512, 4096])
def test_gpt(sector: int) -> None:
    size = 4096 * sector
    made = gpt(size, sector, [(100, 199, "boot"), (200, 3000, "root\x1b[2J")])
    table = found(made)
    assert table is not None
    assert (table.kind, table.sector_size, table.end) == ("gpt", sector, 3001 * sector)
    assert [(p.number, p.start, p.length, p.type) for p in table.partitions] == [
        (1, 100 * sector, 100 * sector, LINUX_NAME),
        (2, 200 * sector, 2801 * sector, LINUX_NAME),
    ]
    assert table.partitions[1].name.startswith("root")
    assert table.partitions[1].name.isprintable()
    assert table.backup is not None
    assert not any(made[3001 * sector : table.backup[0]])
    assert table.backup[1] == size


def test_the_second_gpt_serves_where_the_first_is_damaged() -> None:
    made = gpt(2 * MIB, 512, [(100, 199, "only")])
    made[600] ^= 1
    table = found(made)
    assert table is not None
    assert (table.kind, table.end) == ("gpt", 200 * 512)
    made[-512 + 50] ^= 1
    # What is left is the protective entry, which says that the whole disk is taken.
    table = found(made)
    assert table is not None
    assert (table.kind, table.end) == ("mbr", 2 * MIB)


def test_a_boot_sector_of_a_file_system_is_no_table() -> None:
    sector = bytearray(random.Random(1).randbytes(512))
    sector[510:] = b"\x55\xaa"
    sector[446] = 0x41
    assert found(disk(MIB, at_0=bytes(sector))) is None
    assert found(bytes(MIB)) is None
    assert found(b"") is None
    assert found(disk(MIB, at_0=boot_sector())) is None


@pytest.mark.parametrize("seed", range(8))
def test_noise_never_harms(seed: int) -> None:
    rng = random.Random(seed)
    made = gpt(MIB, 512, [(100, 199, "x")])
    for _ in range(200):
        made[rng.randrange(0, 512 * 40)] = rng.randrange(256)
    made[510:512] = b"\x55\xaa"
    table = found(made)
    assert table is None or table.end >= 0
