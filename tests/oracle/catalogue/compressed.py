"""Compressed clusters: whole images by convert, single clusters by qemu-io, both algorithms."""

from __future__ import annotations

from pathlib import Path

from tests.oracle.catalogue.base import Theme, create, noise, prose
from tests.support.qemu import qemu_img, qemu_io

theme = Theme("compressed")


def _converted(folder: Path, *options: str, length: int = 3_000_320) -> Path:
    raw = prose(folder / "prose.raw", 21, length)
    with raw.open("r+b") as file:  # a part that does not compress is stored plainly
        file.seek(length // 2)
        file.write(noise(folder / "noise.raw", 22, 200_000).read_bytes())
    chosen = ("-o", ",".join(options)) if options else ()
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", *chosen, raw, folder / "disk.qcow2")
    raw.unlink()
    return folder / "disk.qcow2"


theme.add("compressed-zlib", _converted)
theme.add("compressed-zstd", lambda folder: _converted(folder, "compression_type=zstd"))
theme.add("compressed-v2", lambda folder: _converted(folder, "compat=0.10"), "v2")
theme.add(
    "compressed-zlib-512", lambda folder: _converted(folder, "cluster_size=512", length=600_064)
)
theme.add("compressed-zlib-2m", lambda folder: _converted(folder, "cluster_size=2M"))
theme.add(
    "compressed-zstd-2m",
    lambda folder: _converted(folder, "cluster_size=2M", "compression_type=zstd"),
)
theme.add(
    "compressed-zstd-4k",
    lambda folder: _converted(folder, "cluster_size=4k", "compression_type=zstd"),
)
theme.add(
    "compressed-refcount-2",
    lambda folder: _converted(folder, "refcount_bits=2", "cluster_size=32k"),
)
theme.add(
    "compressed-extended-l2", lambda folder: _converted(folder, "extended_l2=on"), "extended-l2"
)


def _by_guest(folder: Path, *options: str) -> Path:
    path = create(folder / "disk.qcow2", "4M", *options)
    text = prose(folder / "prose.raw", 23, 65536)
    qemu_io(
        path,
        f"write -q -c -s {text} 0 64k",
        "write -q -c -P 0x31 64k 64k",
        "write -q -P 0x32 128k 64k",
        f"write -q -c -s {text} 1M 128k",
        "write -q -P 0x33 1088k 4k",
        "write -q -c -P 0x34 3M 1M",
        "discard -q 3200k 64k",
    )
    return path


theme.add("compressed-by-guest-zlib", _by_guest)
theme.add("compressed-by-guest-zstd", lambda folder: _by_guest(folder, "compression_type=zstd"))


@theme.variant("compressed-partly-overwritten")
def partly_overwritten(folder: Path) -> Path:
    path = _converted(folder)
    qemu_io(path, "write -q -P 0x41 100k 300k", "write -q -z 1M 128k", "discard -q 2M 64k")
    return path


@theme.variant("compressed-with-snapshots", "snapshots")
def with_snapshots(folder: Path) -> Path:
    path = _converted(folder)
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -q -P 0x41 100k 300k", "write -q -c -P 0x42 768k 64k")
    qemu_img("snapshot", "-c", "second", path)
    qemu_io(path, "write -q -P 0x43 0 64k")
    return path


@theme.variant("compressed-out-of-order")
def out_of_order(folder: Path) -> Path:
    raw = prose(folder / "prose.raw", 24, 4 << 20)
    qemu_img(
        "convert", "-c", "-W", "-m", "8", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=16k",
        raw, folder / "disk.qcow2",
    )  # fmt: skip
    return folder / "disk.qcow2"


@theme.variant("compressed-unaligned-end")
def unaligned_end(folder: Path) -> Path:
    return _converted(folder, length=1_000_448)
