"""Bitmaps: a broken directory, broken tables, and those that nobody wrote back.

A bitmap is no guest data.  What is lost with one is the knowledge of what changed: the next
incremental backup of its chain has to be a full one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...errors import StorageError
from ...findings import Finding
from ...inspect.check import kinds as K
from ...jobs import CancelToken
from ...layout import problems as P
from ...layout.bitmaps import BitmapDirectoryError, BitmapEntry, parse_bitmap_directory
from ...layout.constants import (
    BITMAP_TABLE_OFFSET_MASK,
    BITMAPS_VALID,
    EXT_BITMAPS,
    MAX_BITMAP_DIRECTORY_BYTES,
)
from ...layout.extensions import BitmapsExtension
from ...layout.geometry import Geometry
from ...layout.header_cluster import HeaderCluster
from ...layout.tables import decode_u64
from ...text import plural, safe
from .diagnosis import Case
from .mends import HeaderMend, Mend, Sight
from .remedy import Option, Remedy

if TYPE_CHECKING:
    from ...edit.repairing import Repair

_LOST = "What this bitmap recorded, which cannot be used now either: the next backup must be full."


def find_directory(sight: Sight) -> list[Mend]:
    """One remedy when the directory as a whole cannot be used."""
    image, geometry = sight.image, sight.image.geometry
    problem = sight.problem(P.BITMAPS_INVALID)
    if problem is None or geometry is None or image.bitmaps or not image.bitmaps_valid:
        return []
    cluster = HeaderCluster.parse(sight.header)
    ways: dict[Option, bytes] = {}
    better = _counted_again(sight, geometry, cluster)
    if better is not None:
        option = Option(
            "count",
            f"Take the directory for one of {plural(better.nb_bitmaps, 'bitmap')}",
            "Every bitmap.",
            "",
            "The header.",
            evidence=("With it the entries of the directory are whole and end where it ends.",),
        )
        ways[option] = _encoded(cluster.with_bitmaps(better), sight.header)
    autoclear = cluster.header.autoclear_features & ~BITMAPS_VALID
    bare = cluster.with_bitmaps(None).with_header(autoclear_features=autoclear)
    ways[
        Option(
            "drop",
            "Remove all bitmaps, none of which can be found",
            "All guest data.",
            "Every bitmap, none of which can be used now either: the next backup must be full.",
            "The header.",
        )
    ] = _encoded(bare, sight.header)
    return [HeaderMend("bitmap-directory", problem, ways, next(iter(ways)).key)]


def _encoded(cluster: HeaderCluster, old: bytes) -> bytes:
    made = cluster.encode()
    return made + old[len(made) :]


def _counted_again(
    sight: Sight, geometry: Geometry, cluster: HeaderCluster
) -> BitmapsExtension | None:
    """The extension with the number of bitmaps, or the length, that the directory really has."""
    data = cluster.extension(EXT_BITMAPS)
    if data is None or len(data) != 24:
        return None
    told = BitmapsExtension(*(int.from_bytes(data[a:b], "big") for a, b in _FIELDS))
    offset, size = told.directory_offset, sight.image.storage.size()
    if not 0 < offset < size or offset % geometry.cluster_size:
        return None
    try:
        there = sight.image.storage.read(offset, min(size - offset, MAX_BITMAP_DIRECTORY_BYTES))
    except StorageError:
        return None
    # One of the two numbers is right: with the length that is told, or with the count.
    tries = [(count, told.directory_size) for count in range(1, 65)]
    tries += [(told.nb_bitmaps, _end(there, told.nb_bitmaps))]
    for count, length in tries:
        try:
            found = parse_bitmap_directory(there[:length], count)
        except BitmapDirectoryError:
            continue
        disk = sight.image.header.virtual_size
        if found and all(e.fault(geometry.cluster_size, disk) is None for e in found):
            return BitmapsExtension(count, 0, length, offset)
    return None


_FIELDS = ((0, 4), (4, 8), (8, 16), (16, 24))


def _end(there: bytes, count: int) -> int:
    """Where the entry number ``count`` of a directory ends; 0 when it does not hold as many."""
    at = 0
    for _ in range(min(count, 1024)):
        if at + 24 > len(there):
            return 0
        name = int.from_bytes(there[at + 18 : at + 20], "big")
        extra = int.from_bytes(there[at + 20 : at + 24], "big")
        at += 24 + extra + name + 7 & ~7
    return at if at <= len(there) else 0


# ---- single bitmaps


class BitmapRemedy(Remedy):
    """One bitmap that cannot be used, to be removed."""

    order = 40

    def __init__(self, finding: Finding, entry: BitmapEntry, *, default: bool) -> None:
        shown = safe(entry.name, 60)
        self.id = f"bitmap-{shown}"
        self.finding = finding
        self.options = (
            Option(
                "remove",
                f'Remove the bitmap "{shown}"',
                "All guest data, and every other bitmap.",
                _LOST,
                "The bitmap directory, anew.",
            ),
        )
        self.default = "remove" if default else None
        self._entry = entry

    def apply(self, tx: Repair, option: Option) -> None:
        tx.bitmaps = [entry for entry in tx.bitmaps if entry != self._entry]


def find_bitmaps(case: Case, cancel: CancelToken | None) -> list[Remedy]:
    """Bitmaps marked in use (a choice: QEMU keeps them too) and such as cannot be read at all."""
    image, geometry = case.image, case.image.geometry
    if geometry is None or not image.bitmaps_valid:
        return []
    made: list[Remedy] = []
    for entry in image.bitmaps:
        shown = f'Bitmap "{safe(entry.name, 60)}"'
        fault = entry.fault(geometry.cluster_size, image.virtual_size)
        if fault is None:
            fault = _table_fault(case, geometry, entry)
        if fault is not None:
            finding = Finding(K.BITMAP_TABLE, f"{shown} cannot be used: {fault}.")
            made.append(BitmapRemedy(finding, entry, default=True))
        elif entry.in_use:
            what = f"{shown} was not written back by the program that kept it."
            made.append(BitmapRemedy(Finding(P.BITMAP_INCONSISTENT, what), entry, default=False))
    return made


def _table_fault(case: Case, geometry: Geometry, entry: BitmapEntry) -> str | None:
    """Why the table of a bitmap cannot be used, as a phrase, or None."""
    size = case.image.storage.size()
    length = entry.table_size * 8
    if entry.table_offset + length > size:
        return "its table lies beyond the end of the file"
    table = decode_u64(case.image.storage.read(entry.table_offset, length))
    offsets = table & np.uint64(BITMAP_TABLE_OFFSET_MASK)
    if ((offsets % np.uint64(geometry.cluster_size)) != 0).any():
        return "its table points into the middle of clusters"
    if (offsets >= np.uint64(size)).any():
        return "its table points beyond the end of the file"
    flags = table & ~np.uint64(BITMAP_TABLE_OFFSET_MASK)
    if ((flags & ~np.uint64(1)) != 0).any() or ((flags != 0) & (offsets != 0)).any():
        return "its table has reserved bits set"
    return None
