"""The tiny images whose edits are crashed, and what lies beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from qcowtui.samples.builder import ImageBuilder
from tests.support.images import noise, pattern
from tests.support.qemu import create_encrypted, qemu_img, qemu_io, with_key
from tests.support.shared import once


@dataclass(frozen=True)
class Variant:
    """``make`` gives the bytes of the image; ``below``: flat bytes of backing files, by name."""

    name: str
    make: Callable[[], bytes]
    below: Mapping[bytes, bytes] = field(default_factory=dict)
    #: The external data file as it is before.
    data: Callable[[], bytes] | None = None
    #: The widest count its refcounts hold.
    most: int = 65535
    #: States are large: fewer of them are looked at.
    large: bool = False


@cache
def build(
    bits: int = 9,
    *,
    clusters: int = 900,
    snapshots: int = 1,
    compressed: bool = True,
    backing: bool = False,
    bitmap: bool = False,
    vm_state: bool = False,
    holes: bool = True,
    **options: int | bool | str,
) -> bytes:
    """Data, zero and compressed clusters, rewritten between snapshots, with holes in the file."""
    size = 1 << bits
    # Half a cluster at the end, where clusters are larger than a sector.
    length = (clusters << bits) - (size // 2 & ~511)
    builder = ImageBuilder(virtual_size=length, cluster_bits=bits, **options)  # type: ignore[arg-type]
    for number in range(6):
        builder.data(number, pattern(number, size))
    if builder.geometry.version >= 3:
        builder.zero(8, 2)
        builder.zero_allocated(10, 2)
    if compressed:
        for number in range(12, 18):
            builder.compressed(number, pattern(number, size))
    if builder.geometry.extended_l2:
        builder.subclusters(20, noise(20, size), 0x0000FF0F, 0x00F00000)
    else:
        builder.data(20, noise(20, size))
    # Something in every L2 table.
    for number in range(40, clusters - 1, 60):
        builder.data(number, pattern(number, size))
    builder.data(clusters - 1, pattern(clusters, length - ((clusters - 1) << bits)))
    for taken in range(snapshots):
        state = (pattern(900, size), noise(901, size)) if vm_state and taken == 0 else ()
        builder.snapshot(f"s{taken}", date=1_750_000_000 + taken, vm_state=state)
        builder.data(2 + taken, pattern(100 + taken, size))
        builder.data(66 % clusters + taken, noise(200 + taken, size))
        if compressed:
            builder.data(12 + taken, pattern(112 + taken, size))
    if bitmap:
        builder.bitmap("dirty", [(0, size), (5 * size, size)], granularity_bits=9)
        builder.bitmap("off", [(size, size)], granularity_bits=9, auto=False)
    if backing:
        builder.backing("base.raw", "raw")
    if holes:
        builder.data(30, pattern(30, size), at=builder.space.cursor + 5)
    return builder.build().peek(0, builder.build().length)


def _flat(first: int, clusters: int, size: int) -> bytes:
    """A raw disk; every third cluster holds nothing."""
    return b"".join(pattern(first + n, size) if n % 3 else bytes(size) for n in range(clusters))


#: What backing files hold: the one that variants name, and others they can be put on.
BELOW: Mapping[bytes, bytes] = {
    b"base.raw": _flat(500, 70, 512),
    b"other.raw": _flat(500, 50, 512) + _flat(550, 70, 512),
}


@cache
def _external(raw: str) -> tuple[bytes, bytes]:
    """An image that qemu-img made with an external data file, and that file."""

    def make(folder: Path) -> None:
        options = f"cluster_size=512,data_file=data.raw,data_file_raw={raw}"
        qemu_img("create", "-q", "-f", "qcow2", "-o", options, "image", "51200", cwd=folder)
        qemu_io(folder / "image", *_WRITES, cwd=folder)

    made = once(f"external-{raw}", make)
    return (made / "image").read_bytes(), (made / "data.raw").read_bytes()


@cache
def _encrypted() -> bytes:
    def make(folder: Path) -> None:
        path = folder / "image"
        create_encrypted(path, "409600", "cluster_size=4096")
        qemu_io(path, *_WRITES, key="luks")
        qemu_img("snapshot", "-c", "s0", *with_key(path))
        qemu_io(path, "write -P 99 8192 16k", key="luks")

    return (once("encrypted", make) / "image").read_bytes()


_WRITES = tuple(f"write -P {number} {number * 3584} 1k" for number in range(1, 12))


VARIANTS: tuple[Variant, ...] = (
    Variant("v3-512", lambda: build()),
    Variant("v2-512", lambda: build(version=2)),
    Variant("no-snapshot", lambda: build(snapshots=0)),
    Variant("three-snapshots", lambda: build(snapshots=3)),
    Variant("vm-state", lambda: build(snapshots=2, vm_state=True)),
    Variant("refcount-1", lambda: build(snapshots=0, compressed=False, refcount_order=0), most=1),
    Variant("refcount-2", lambda: build(refcount_order=1, compressed=False), most=3),
    Variant("refcount-64", lambda: build(refcount_order=6)),
    Variant("zstd", lambda: build(10, clusters=500, compression="zstd")),
    Variant("backing", lambda: build(backing=True), BELOW),
    Variant("v2-backing", lambda: build(version=2, backing=True), BELOW),
    Variant("bitmaps", lambda: build(10, clusters=500, bitmap=True)),
    Variant("4k", lambda: build(12, clusters=80)),
    Variant(
        "extended", lambda: build(14, clusters=70, compressed=False, extended_l2=True), large=True
    ),
    Variant(
        "64k",
        lambda: build(16, clusters=40, snapshots=1, compressed=False, holes=False),
        large=True,
    ),
    Variant("luks", _encrypted, large=True),
    Variant("external", lambda: _external("off")[0], data=lambda: _external("off")[1]),
    Variant("external-raw", lambda: _external("on")[0], data=lambda: _external("on")[1]),
)
