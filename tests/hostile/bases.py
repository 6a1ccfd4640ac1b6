"""The ten healthy images that are damaged, made by QEMU once per test session."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from tests.support.qemu import create_encrypted, qemu_img, qemu_io, run

CLUSTER = 0x10000
#: Where QEMU puts things in the bases with 64 KiB clusters, but for ``luks``.  The four data
#: clusters of the disk's first 256 KiB follow each other from DATA.
REFCOUNT_TABLE = 1 * CLUSTER
REFCOUNT_BLOCK = 2 * CLUSTER
L1 = 3 * CLUSTER
L2 = 4 * CLUSTER
DATA = 5 * CLUSTER
COPIED = 1 << 63
COMPRESSED = 1 << 62
#: ``extended_l2`` has 16 KiB clusters (as small as they may be) and one of them allocated.
EXTENDED_L2 = 0x10000

#: The names of the bases.
NAMES = (
    "v3",
    "v2",
    "snapshots",
    "backing",
    "bitmaps",
    "data_file",
    "zlib",
    "zstd",
    "extended_l2",
    "luks",
)

_SIZE = "64M"
_FILL = "write -P 17 0 256k"
_COMPANIONS = {"backing": ("base",), "data_file": ("data",)}
_FILES = {"base": "base.qcow2", "data": "disk.raw"}


@dataclass(frozen=True)
class Bases:
    """The folder with the bases, and a port of this machine where a canary listens.

    The canary stands for the servers that a malicious image makes its reader talk to.
    """

    folder: Path
    canary: int

    def path(self, name: str) -> Path:
        """The image (or a file that one refers to) of that name."""
        return self.folder / _FILES.get(name, f"{name}.qcow2")

    def companions(self, name: str) -> tuple[str, ...]:
        """Names of the files that this base refers to."""
        return _COMPANIONS.get(name, ())


def make_bases(folder: Path, canary: int) -> Bases:
    """Let QEMU make every base in ``folder``: 64 MiB disks, 256 KiB of them written.

    Beside those of NAMES there are ``tiny``, an empty disk of 1 MiB in 512-byte clusters, and
    ``refcount_N`` with refcounts of N bits, otherwise like ``v3``.
    """
    bases = Bases(folder, canary)

    def create(name: str, *options: str, size: str = _SIZE) -> Path:
        image = bases.path(name)
        qemu_img("create", "-q", "-f", "qcow2", *options, image.name, size, cwd=folder)
        return image

    qemu_io(create("v3"), _FILL)
    qemu_io(create("v2", "-o", "compat=0.10"), _FILL)
    qemu_io(create("base"), "write -P 34 1M 64k")
    qemu_io(create("backing", "-b", "base.qcow2", "-F", "qcow2"), _FILL)
    data_file = create("data_file", "-o", "data_file=disk.raw")
    # QEMU takes a relative data file name as relative to its own working directory.
    run("qemu-io", "-f", "qcow2", "-c", _FILL, data_file.name, cwd=folder)
    qemu_io(create("extended_l2", "-o", "extended_l2=on,cluster_size=16k"), "write -P 17 0 16k")
    _with_snapshots(create("snapshots"))
    _with_bitmaps(create("bitmaps"))
    _compressed(bases)
    create("tiny", "-o", "cluster_size=512", size="1M")
    for bits in (1, 2, 4, 8, 32, 64):
        qemu_io(create(f"refcount_{bits}", "-o", f"refcount_bits={bits}"), _FILL)
    luks = bases.path("luks")
    create_encrypted(luks, _SIZE)
    qemu_io(luks, _FILL, key="luks")
    return bases


def _with_snapshots(image: Path) -> None:
    """Snapshots "one" and "two"; the active disk shares its tables with "two" only."""
    qemu_io(image, _FILL)
    qemu_img("snapshot", "-c", "one", image)
    qemu_io(image, "write -P 18 0 64k")
    qemu_img("snapshot", "-c", "two", image)


def _with_bitmaps(image: Path) -> None:
    """Two persistent bitmaps, both recording."""
    qemu_img("bitmap", "--add", image, "b0")
    qemu_img("bitmap", "--add", image, "b1")
    qemu_io(image, _FILL)


def _compressed(bases: Bases) -> None:
    """Four compressed clusters of about 3 KiB, all in one host cluster, once with either codec."""
    chance = random.Random(17)
    source = bases.folder / "source.raw"
    pieces = [(chance.randbytes(2800) * 24)[:CLUSTER] for _ in range(4)]
    source.write_bytes(b"".join(pieces))
    for codec in ("zlib", "zstd"):
        qemu_img(
            *("convert", "-c", "-m", "1", "-f", "raw", "-O", "qcow2"),
            *("-o", f"compression_type={codec}", source, bases.path(codec)),
        )
