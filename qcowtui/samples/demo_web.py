"""The main sample: the life of a web server's disk, and the chain of images below it.

Installed, configured, updated, tried out on a branch, and then in use: each step leaves its marks
in the file, so that the dashboard has something of everything to show.
"""

from __future__ import annotations

from datetime import UTC, datetime

from .builder import ImageBuilder
from .content import piece
from .guestfs import EFI_SYSTEM, LINUX, SWAP, Partition, gpt
from .stream import Numbers

MIB = 1 << 20
GIB = 1 << 30

WEB_SIZE = 8 * GIB
_BASE_SIZE = 4 * GIB
# Where things are on the web server's disk.
_ROOT = 128 * MIB
_PROGRAMS = 10
_SITE = 3100 * MIB
_TABLES = 3400 * MIB


class Guest:
    """Writes of a guest to a disk under construction; all positions are guest bytes."""

    def __init__(self, builder: ImageBuilder) -> None:
        self.builder = builder
        self.size = builder.geometry.cluster_size
        self._serial = 0
        #: (offset, length) of what was written, for dirty bitmaps.
        self.written: list[tuple[int, int]] = []

    def write(self, kind: str, at: int, count: int, *, compress: bool = False) -> None:
        """Fill ``count`` clusters from ``at`` with one kind of content."""
        first = at // self.size
        for number in range(first, first + count):
            self._serial += 1
            content = piece(kind, self._serial, self.size)
            if compress:
                self.builder.compressed(number, content)
            else:
                self.builder.data(number, content)
        self.written.append((first * self.size, count * self.size))

    def scatter(self, kind: str, at: int, span: int, count: int, seed: str) -> None:
        """Write ``count`` single clusters in random order within ``span`` bytes from ``at``."""
        places = Numbers(seed).shuffled(range(span // self.size))[:count]
        for place in places:
            self.write(kind, at + place * self.size, 1)

    def store(self, at: int, data: bytes) -> None:
        """Write given bytes, from ``at`` (a multiple of the cluster size) on."""
        for inside in range(0, len(data), self.size):
            part = data[inside : inside + self.size]
            self.builder.data((at + inside) // self.size, part)
        self.written.append((at, len(data)))

    def partition_table(self, name: str) -> None:
        """A GPT with a boot, a root and a swap partition, at both ends of the disk."""
        size = self.builder.model.virtual_size
        swap = size - size // 16
        first, last = gpt(
            size,
            (
                Partition(EFI_SYSTEM, "efi", MIB, _ROOT - MIB),
                Partition(LINUX, "root", _ROOT, swap - _ROOT),
                Partition(SWAP, "swap", swap, size // 16 - MIB),
            ),
            name,
        )
        self.store(0, first)
        # The copy ends the disk; what is before it in its first cluster is the swap's unused tail.
        tail = -(-len(last) // self.size) * self.size
        self.store(size - tail, last.rjust(tail, b"\0"))


def stamp(day: int, hour: int, minute: int = 0) -> int:
    """Seconds since 1970 of a time in March 2025 (UTC)."""
    return int(datetime(2025, 3, day, hour, minute, tzinfo=UTC).timestamp())


def base() -> ImageBuilder:
    """A distribution's cloud image: compressed, half the size of what is built on it."""
    builder = ImageBuilder(virtual_size=_BASE_SIZE)
    guest = Guest(builder)
    guest.partition_table("debian-12.example.org")
    guest.write("superblock", _ROOT, 1, compress=True)
    for group in range(0, 24, 2):
        start = _ROOT + group * 128 * MIB
        guest.write("inodes", start + MIB, 3, compress=True)
        guest.write("directory", start + 6 * MIB, 2, compress=True)
        guest.write("binary" if group % 4 else "config", start + 16 * MIB, 8, compress=True)
    return builder


def template() -> ImageBuilder:
    """The company's web template: the cloud image with a web server installed."""
    builder = ImageBuilder(virtual_size=WEB_SIZE)
    builder.backing("debian-12-base.qcow2", "qcow2")
    guest = Guest(builder)
    guest.partition_table("web-template.example.org")
    guest.write("superblock", _ROOT, 1)
    for group in range(0, 28, 4):
        start = _ROOT + group * 128 * MIB
        guest.write("inodes", start + MIB, 1)
        guest.write("html", start + 40 * MIB, 3)
    guest.write("binary", 4500 * MIB, 12)
    return builder


def sibling() -> ImageBuilder:
    """A second server on the same template."""
    builder = ImageBuilder(virtual_size=WEB_SIZE)
    builder.backing("web-template.qcow2", "qcow2")
    guest = Guest(builder)
    guest.write("inodes", _ROOT + MIB, 2)
    guest.write("log", 900 * MIB, 6)
    guest.write("access", 1500 * MIB, 8)
    return builder


def web() -> ImageBuilder:
    """The main sample, ``web01.qcow2``.  8 KiB clusters: a small file with many of them."""
    builder = ImageBuilder(virtual_size=WEB_SIZE, cluster_bits=13)
    builder.backing("web-template.qcow2", "qcow2")
    guest = Guest(builder)

    _install(guest)
    builder.snapshot("clean-install", date=stamp(1, 9, 12))
    _configure(guest)
    before_update = builder.snapshot("before-update", date=stamp(8, 18, 40))
    _update(guest)
    after_update = builder.snapshot("after-update", date=stamp(8, 19, 25))

    builder.revert(before_update)
    _try_out(guest)
    builder.snapshot(
        "test",
        date=stamp(10, 14, 3),
        vm_clock_nsec=4_211_830_000_000,
        vm_state=[piece("memory", page, guest.size) for page in range(256)],
    )

    builder.revert(after_update)
    aborted = builder.snapshot("upgrade-to-13", date=stamp(12, 7, 30))
    guest.scatter("binary", 1400 * MIB, 24 * MIB, 120, "upgrade")
    builder.revert(aborted)
    builder.delete_snapshot(aborted)

    guest.written.clear()
    _run(guest)
    builder.bitmap("backup-daily", guest.written)
    builder.bitmap("backup-weekly", [(0, 3 * GIB)], granularity_bits=15, auto=False)
    builder.trail(96)
    return builder


def _program(number: int) -> int:
    return (300 + 160 * number) * MIB


def _manual(number: int) -> int:
    return (2200 + 96 * number) * MIB


def _install(guest: Guest) -> None:
    guest.partition_table("web01.example.org")
    guest.write("superblock", _ROOT, 2)
    for group in range(0, 56, 8):
        guest.write("inodes", _ROOT + group * 128 * MIB + MIB, 10)
    guest.write("directory", 200 * MIB, 24)
    for number in range(_PROGRAMS):
        guest.write("binary", _program(number), 52)
    # Documentation and translations came compressed with the template's conversion.
    for number in range(8):
        guest.write("config", _manual(number), 70, compress=True)
    guest.builder.zero(3600 * MIB // guest.size, 256)


def _configure(guest: Guest) -> None:
    guest.write("config", 420 * MIB, 60)
    for number in (1, 3, 4, 7, 8):
        guest.write("binary", _program(number), 52)
    for number in (2, 5):
        guest.write("config", _manual(number), 70)
    guest.write("html", _SITE, 180)
    for number in range(4):
        guest.write("sql", _TABLES + 40 * number * MIB, 40)
    guest.scatter("log", 5200 * MIB, 32 * MIB, 90, "logs")


def _update(guest: Guest) -> None:
    for number in (0, 3, 7):
        guest.write("binary", _program(number), 44)
    guest.write("html", _SITE, 110)
    guest.write("binary", 1980 * MIB, 90)
    guest.scatter("directory", 200 * MIB, 8 * MIB, 40, "update")
    guest.write("inodes", _ROOT + MIB, 8)


def _try_out(guest: Guest) -> None:
    guest.write("noise", 6100 * MIB, 70)
    guest.write("binary", _program(3), 48)
    guest.write("html", _SITE + 20 * guest.size, 130)
    guest.builder.skip(6)


def _run(guest: Guest) -> None:
    guest.scatter("access", 5400 * MIB, 96 * MIB, 200, "access")
    guest.write("mail", 5700 * MIB, 120)
    # Space the database reserves for its journal.
    guest.builder.zero_allocated(3800 * MIB // guest.size, 72)
    guest.scatter("sql", _TABLES, 40 * MIB, 90, "orders")
    guest.write("html", _SITE + 40 * guest.size, 50)
    guest.write("noise", 6400 * MIB, 200)
    guest.write("sql", _TABLES + 80 * MIB, 40)
    guest.write("log", 5900 * MIB, 80)
    # A swap file, and what it has been used for.
    guest.builder.zero_allocated(7700 * MIB // guest.size, 110)
    guest.write("memory", 7700 * MIB + 110 * guest.size, 34)
    # Log rotation and fstrim: what only the active state had is given back to the file.
    for start, count in ((6, 9), (30, 61), (100, 3), (110, 40), (162, 5)):
        guest.builder.zero(6400 * MIB // guest.size + start, count)
    guest.builder.zero(5700 * MIB // guest.size + 20, 40)
    guest.builder.zero(5900 * MIB // guest.size + 64, 12)
