"""The images that are damaged: those of the crash tests, and some that QEMU made."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

from tests.crash.variants import VARIANTS, Variant
from tests.support.qemu import qemu_img, qemu_io
from tests.support.shared import once

#: By the names of the crash tests; encrypted ones and external data files have their own tests.
_BUILT = (
    "v3-512",
    "v2-512",
    "no-snapshot",
    "three-snapshots",
    "refcount-1",
    "refcount-64",
    "backing",
    "v2-backing",
    "bitmaps",
    "4k",
    "extended",
    "64k",
)


@lru_cache
def _by_qemu(
    name: str, options: str, size: str, snapshots: int, packed: bool, bitmap: bool
) -> bytes:
    def make(folder: Path) -> None:
        path = folder / "image"
        qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, size)
        written = [f"write -P {n + 1} {n * 97}k 60k" for n in range(8)]
        if packed:
            written += (f"write -c -P {n + 40} {1024 + n * 64}k 64k" for n in range(4))
        qemu_io(path, *written)
        if bitmap:
            qemu_img("bitmap", "--add", "-g", "64k", path, "dirty")
        for number in range(snapshots):
            qemu_img("snapshot", "-c", f"s{number}", path)
            qemu_io(path, f"write -P {200 + number} {number * 150}k 70k")
        if "0.10" not in options:
            qemu_io(path, "write -z 256k 128k")

    return (once(name, make) / "image").read_bytes()


def _qemu(
    name: str, options: str, size: str, snapshots: int, *, packed: bool = True, bitmap: bool = False
) -> Variant:
    return Variant(name, partial(_by_qemu, name, options, size, snapshots, packed, bitmap))


IMAGES: tuple[Variant, ...] = (
    *(variant for variant in VARIANTS if variant.name in _BUILT),
    _qemu("qemu-64k", "cluster_size=64k", "3M", 1),
    _qemu("qemu-v2", "compat=0.10,cluster_size=16k", "2M", 1),
    _qemu("qemu-4k", "cluster_size=4k,refcount_bits=64", "3M", 3),
    _qemu("qemu-bitmap", "cluster_size=64k", "2M", 1, bitmap=True),
    _qemu("qemu-extended", "cluster_size=16k,extended_l2=on", "2M", 1, packed=False),
    _qemu("qemu-refcount-1", "cluster_size=4k,refcount_bits=1", "2M", 0, packed=False),
)
