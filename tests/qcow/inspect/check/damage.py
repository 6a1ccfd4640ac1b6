"""Images to be damaged: built by this project's builder, small, with a bit of everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qcow.layout.constants import OFFSET_MASK
from qcowtui.samples.built import BuiltImage
from tests.support.images import small_builder

#: Shapes of images: the options of ``small_builder``.
SHAPES: dict[str, dict[str, int | bool | str]] = {
    "64k": {"cluster_bits": 16},
    "4k": {"cluster_bits": 12},
    "512": {"cluster_bits": 9},
    "v2": {"cluster_bits": 12, "version": 2},
    "refcount-1": {"cluster_bits": 12, "refcount_order": 0, "snapshot": False},
    "refcount-2": {"cluster_bits": 12, "refcount_order": 1, "snapshot": False},
    "refcount-8": {"cluster_bits": 12, "refcount_order": 3},
    "refcount-64": {"cluster_bits": 12, "refcount_order": 6},
    "extended": {"cluster_bits": 14, "extended_l2": True},
    "zstd": {"cluster_bits": 12, "compression": "zstd"},
}


def built(shape: str) -> BuiltImage:
    return small_builder(**SHAPES[shape]).build()  # type: ignore[arg-type]


@dataclass(frozen=True)
class Places:
    """Where the tables of a built image lie: (offset, length) of each kind."""

    l1: tuple[int, int]
    l2: tuple[tuple[int, int], ...]
    refcount_table: tuple[int, int]
    refcount_blocks: tuple[tuple[int, int], ...]
    snapshot_table: tuple[int, int] | None

    @classmethod
    def of(cls, image: BuiltImage) -> Places:
        size = image.geometry.cluster_size
        l1 = image.header("l1_table_offset"), 8 * image.header("l1_size")
        tables = {image.u64(l1[0] + at) & OFFSET_MASK for at in range(0, l1[1], 8)}
        refcounts = image.header("refcount_table_offset")
        blocks = {image.u64(refcounts + at) for at in range(0, min(size, 4096), 8)}
        snapshots = None
        if image.header("nb_snapshots"):
            snapshots = image.header("snapshots_offset"), 80
        return cls(
            l1,
            tuple((offset, size) for offset in sorted(tables) if offset),
            (refcounts, 8 * len(blocks)),
            tuple((offset, size) for offset in sorted(blocks) if offset),
            snapshots,
        )


def damaged(folder: Path, shape: str, harm: Callable[[BuiltImage], None]) -> Path:
    """A fresh image of ``shape`` with something done to it, saved."""
    image = built(shape)
    harm(image)
    return image.save(folder / "damaged.qcow2")
