"""The tiny images whose edits are crashed, and what lies beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qcowtui.samples.builder import ImageBuilder
from tests.support.images import noise, pattern


@dataclass(frozen=True)
class Variant:
    """``make`` gives the bytes of the image; ``backing``: the flat bytes below it."""

    name: str
    make: Callable[[], bytes]
    backing: bytes = b""
    #: The widest count its refcounts hold.
    most: int = 65535
    v2: bool = False


def _build(
    bits: int = 9,
    *,
    clusters: int = 100,
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


def _below(clusters: int, size: int) -> bytes:
    return b"".join(pattern(500 + n, size) if n % 3 else bytes(size) for n in range(clusters))


VARIANTS: tuple[Variant, ...] = (
    Variant("v3-512", lambda: _build()),
    Variant("v2-512", lambda: _build(version=2), v2=True),
    Variant("no-snapshot", lambda: _build(snapshots=0)),
    Variant("three-snapshots", lambda: _build(snapshots=3)),
    Variant("vm-state", lambda: _build(snapshots=2, vm_state=True)),
    Variant("refcount-1", lambda: _build(snapshots=0, compressed=False, refcount_order=0), most=1),
    Variant("refcount-2", lambda: _build(refcount_order=1, compressed=False), most=3),
    Variant("refcount-64", lambda: _build(refcount_order=6)),
    Variant("zstd", lambda: _build(10, compression="zstd")),
    Variant("backing", lambda: _build(backing=True), backing=_below(70, 512)),
    Variant("v2-backing", lambda: _build(version=2, backing=True), _below(120, 512), v2=True),
    Variant("bitmaps", lambda: _build(10, bitmap=True)),
    Variant("4k", lambda: _build(12, clusters=80)),
    Variant("extended", lambda: _build(14, clusters=70, compressed=False, extended_l2=True)),
    Variant("64k", lambda: _build(16, clusters=70, snapshots=1, compressed=False, holes=False)),
)
