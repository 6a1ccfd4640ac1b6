"""Versions, cluster sizes, refcount widths, sizes, preallocation, discards: one file, one state."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from tests.oracle.catalogue.base import Theme, create, noise, stripes, written
from tests.support.qemu import qemu_img, qemu_io

theme = Theme()

CLUSTER_SIZES = (
    512,
    1024,
    2048,
    4096,
    8192,
    16384,
    32768,
    131072,
    262144,
    524288,
    1 << 20,
    2 << 20,
)
REFCOUNT_WIDTHS = (1, 2, 4, 8, 32, 64)


@theme.variant("fresh")
def fresh(folder: Path) -> Path:
    return create(folder / "disk.qcow2", "64M")


@theme.variant("fresh-v2", "v2")
def fresh_v2(folder: Path) -> Path:
    return create(folder / "disk.qcow2", "64M", "compat=0.10")


@theme.variant("written")
def written_v3(folder: Path) -> Path:
    return written(folder / "disk.qcow2", "16M")


@theme.variant("written-v2", "v2")
def written_v2(folder: Path) -> Path:
    return written(folder / "disk.qcow2", "16M", "compat=0.10")


def _clusters(folder: Path, cluster_size: int) -> Path:
    # Enough for several L2 tables where a table is small, and a few MiB where it is large.
    unit = cluster_size if cluster_size >= 4096 else 4 * cluster_size
    return written(
        folder / "disk.qcow2",
        str(max(4 << 20, 20 * cluster_size)),
        f"cluster_size={cluster_size}",
        unit=unit,
        length=min(40 * unit, max(3 << 20, 6 * cluster_size)),
    )


for _size in CLUSTER_SIZES:
    theme.add(f"cluster-{_size}", partial(_clusters, cluster_size=_size))


@theme.variant("cluster-512-v2", "v2")
def cluster_512_v2(folder: Path) -> Path:
    return written(
        folder / "disk.qcow2", "8M", "cluster_size=512", "compat=0.10", unit=2048, length=100_000
    )


def _refcounts(folder: Path, bits: int) -> Path:
    path = written(
        folder / "disk.qcow2", "8M", f"refcount_bits={bits}", "cluster_size=4096", unit=9216
    )
    if bits > 1:  # a 1-bit count cannot say "shared"
        qemu_img("snapshot", "-c", "shared", path)
        qemu_io(path, "write -q -P 99 4096 20000")
    return path


for _bits in REFCOUNT_WIDTHS:
    theme.add(
        f"refcount-{_bits}",
        partial(_refcounts, bits=_bits),
        *(("snapshots",) if _bits > 1 else ()),
    )


@theme.variant("lazy-clean")
def lazy_clean(folder: Path) -> Path:
    return written(folder / "disk.qcow2", "16M", "lazy_refcounts=on")


@theme.variant("lazy-dirty", "dirty")
def lazy_dirty(folder: Path) -> Path:
    """A VM killed while its refcounts were postponed: 128 "corruptions" that are none."""
    path = create(folder / "disk.qcow2", "64M", "lazy_refcounts=on")
    qemu_io(path, "write -q -P 0x5a 0 4M", "flush", killed=True)
    return path


@theme.variant("lazy-dirty-small-clusters", "dirty")
def lazy_dirty_small(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "4M", "lazy_refcounts=on", "cluster_size=1k")
    qemu_io(path, "write -q -P 1 0 200k", "flush")
    qemu_io(path, "write -q -P 2 100k 300k", "discard 10k 20k", "flush", killed=True)
    return path


@theme.variant("killed-unflushed")
def killed_unflushed(folder: Path) -> Path:
    path = written(folder / "disk.qcow2", "16M")
    qemu_io(path, "write -q -P 0x77 8M 1M", killed=True)
    return path


@theme.variant("size-zero")
def size_zero(folder: Path) -> Path:
    return create(folder / "disk.qcow2", "0")


@theme.variant("size-one-sector")
def size_one_sector(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "512")
    qemu_io(path, "write -q -P 7 0 512")
    return path


@theme.variant("size-unaligned")
def size_unaligned(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "1000001")
    qemu_io(path, "write -q -P 8 900k 60k", "write -q -P 9 999936 512")
    return path


@theme.variant("size-unaligned-last-zero")
def size_unaligned_zero(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "1000001")
    qemu_io(path, "write -q -P 8 0 950k", "write -q -z 900k 78848")
    return path


@theme.variant("huge-sparse", "huge")
def huge_sparse(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "2T")
    qemu_io(
        path,
        "write -q -P 1 0 64k",
        "write -q -P 2 1T 200k",
        "write -q -P 3 1100585369600 4k",
        "write -q -P 4 2199023190016 64k",
        "write -q -z 2G 1G",
    )
    return path


@theme.variant("huge-sparse-2m", "huge")
def huge_sparse_2m(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "2T", "cluster_size=2M")
    qemu_io(path, "write -q -P 1 0 64k", "write -q -P 2 1T 512")
    return path


def _preallocated(folder: Path, mode: str) -> Path:
    return create(folder / "disk.qcow2", "2M", f"preallocation={mode}")


for _mode in ("metadata", "falloc", "full"):
    theme.add(f"preallocated-{_mode}", partial(_preallocated, mode=_mode), "preallocated")


@theme.variant("preallocated-then-written", "preallocated")
def preallocated_written(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "8M", "preallocation=metadata", "cluster_size=16k")
    qemu_io(path, *stripes(2 << 20, 100_000 // 512 * 512), "write -q -P 3 7M 4k")
    return path


@theme.variant("preallocated-v2", "preallocated", "v2")
def preallocated_v2(folder: Path) -> Path:
    return create(folder / "disk.qcow2", "3M", "preallocation=metadata", "compat=0.10")


@theme.variant("zero-plain")
def zero_plain(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "8M")
    qemu_io(path, "write -q -P 5 0 2M", "write -q -z 4M 1M", "write -q -z -u 512k 256k")
    return path


@theme.variant("zero-allocated")
def zero_allocated(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "8M")
    qemu_io(path, "write -q -P 5 0 2M", "write -q -z 512k 256k", "write -q -z 1M 100k")
    return path


@theme.variant("zero-sub-cluster")
def zero_sub_cluster(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "8M")
    qemu_io(path, "write -q -P 5 0 256k", "write -q -z 1000k 3k", "write -q -z 66560 1024")
    return path


@theme.variant("discarded")
def discarded(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "16M")
    qemu_io(
        path,
        "write -q -P 5 0 4M",
        "discard -q 1M 1M",
        "discard -q 3M 64k",
        "write -q -P 6 1536k 64k",
    )
    return path


@theme.variant("discarded-v2", "v2")
def discarded_v2(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "16M", "compat=0.10")
    qemu_io(path, "write -q -P 5 0 4M", "discard -q 1M 1M", "write -q -z 2M 128k")
    return path


def _scattered(folder: Path, cluster_size: int, version: str) -> Path:
    """Written in random order: no cluster lies behind its neighbour."""
    path = create(folder / "disk.qcow2", "4M", f"cluster_size={cluster_size}", f"compat={version}")
    order = list(range((2 << 20) // cluster_size))
    random.Random(5).shuffle(order)
    qemu_io(
        path,
        *(f"write -q -P {1 + i % 255} {i * cluster_size} {cluster_size}" for i in order[:400]),
    )
    return path


theme.add("scattered-4k", partial(_scattered, cluster_size=4096, version="1.1"))
theme.add("scattered-v2-16k", partial(_scattered, cluster_size=16384, version="0.10"), "v2")


@theme.variant("beyond-end")
def beyond_end(folder: Path) -> Path:
    """Bytes behind the image end, as a copy onto a larger device leaves them."""
    path = written(folder / "disk.qcow2", "8M")
    with path.open("ab") as file:
        file.write(b"\xee" * 300_000)
    return path


@theme.variant("beyond-end-hole")
def beyond_end_hole(folder: Path) -> Path:
    path = written(folder / "disk.qcow2", "8M")
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + (8 << 20))
    return path


@theme.variant("grown")
def grown(folder: Path) -> Path:
    path = written(folder / "disk.qcow2", "2M", "cluster_size=512", unit=4096)
    qemu_img("resize", "-q", path, "40M")
    qemu_io(path, "write -q -P 0x42 39M 64k")
    return path


@theme.variant("shrunk")
def shrunk(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "16M", "cluster_size=4k")
    qemu_io(path, *stripes(15 << 20, 300 * 1024))
    qemu_img("resize", "-q", "--shrink", path, "5M")
    return path


@theme.variant("amended-refcount-width")
def amended_width(folder: Path) -> Path:
    path = written(folder / "disk.qcow2", "8M")
    qemu_img("amend", "-q", "-o", "refcount_bits=64", path)
    return path


@theme.variant("amended-to-v2", "v2")
def amended_down(folder: Path) -> Path:
    path = written(folder / "disk.qcow2", "8M", "lazy_refcounts=on")
    qemu_img("amend", "-q", "-o", "compat=0.10", path)
    return path


@theme.variant("amended-to-v3")
def amended_up(folder: Path) -> Path:
    path = written(folder / "disk.qcow2", "8M", "compat=0.10")
    qemu_img("amend", "-q", "-o", "compat=1.1,lazy_refcounts=on", path)
    return path


@theme.variant("converted-sparse")
def converted_sparse(folder: Path) -> Path:
    raw = noise(folder / "noise.raw", 3, 1 << 20)
    with raw.open("r+b") as file:
        file.truncate(5_000_192)
        file.seek(3 << 20)
        file.write(b"island")
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, folder / "disk.qcow2")
    return folder / "disk.qcow2"


@theme.variant("converted-full")
def converted_full(folder: Path) -> Path:
    raw = noise(folder / "noise.raw", 3, 700_416)
    with raw.open("r+b") as file:
        file.truncate(1_500_160)
    qemu_img(
        "convert", "-f", "raw", "-O", "qcow2", "-S", "0", "-o", "cluster_size=8k", raw,
        folder / "disk.qcow2",
    )  # fmt: skip
    return folder / "disk.qcow2"
