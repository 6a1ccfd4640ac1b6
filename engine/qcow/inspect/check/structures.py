"""The structures of fixed or small size: header, snapshot table, bitmaps, LUKS header."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ...image.image import Image
from ...layout import problems as P
from ...layout.bitmaps import BitmapEntry
from ...layout.constants import (
    BITMAP_TABLE_ALL_ONES,
    BITMAP_TABLE_OFFSET_MASK,
    BITMAP_TABLE_RESERVED_MASK,
    MAX_BITMAP_BYTES,
)
from ...layout.distinct import distinct
from ...layout.geometry import Geometry
from ...layout.tables import I64
from ...text import safe
from . import kinds as K
from .claims import Claims, Owner
from .collect import Collector
from .presence import DataMap
from .regions import TableRegion, Words, read_words, segments
from .space import HostSpace

#: A LUKS1 header with eight key slots takes 2 MiB, 4 MiB with the widest keys.
_MAX_LUKS_BYTES = 64 << 20
#: Version 3: VM state size and disk size.
_NEEDED_SNAPSHOT_EXTRA = 16


def claim_header(claims: Claims, geometry: Geometry) -> None:
    claims.region(Owner.HEADER, 0, geometry.cluster_size)


def claim_snapshot_table(
    image: Image, geometry: Geometry, claims: Claims, collector: Collector
) -> None:
    """The snapshot table, and what version 3 or a data file do not allow in it."""
    start = image.header.snapshots_offset
    count = len(image.snapshots)
    if not count:
        # Of a table that cannot be parsed at least the first cluster is no leak.
        damaged = any(finding.kind is P.SNAPSHOT_TABLE_INVALID for finding in image.problems)
        if damaged and 0 < start < image.storage.size() and not start % geometry.cluster_size:
            claims.region(Owner.SNAPSHOT_TABLE, start, 1)
        return
    last = image.snapshots[-1]
    claims.region(Owner.SNAPSHOT_TABLE, start, last.entry_offset + last.entry_length - start)
    if image.header.has_data_file:
        collector.totals(corruptions=1)
        collector.add(
            K.SNAPSHOT_DATA_FILE,
            count,
            place=(start, last.entry_offset + last.entry_length - start),
            examples=[(0, f"ERROR {count} snapshots in image with data file")],
        )
    if geometry.version < 3:
        return
    for snapshot in image.snapshots:
        if snapshot.extra_size < _NEEDED_SNAPSHOT_EXTRA:
            collector.totals(corruptions=1)
            collector.add(
                K.SNAPSHOT_INCOMPLETE,
                place=(snapshot.entry_offset, snapshot.entry_length),
                examples=[
                    (
                        snapshot.index,
                        f"ERROR snapshot table entry {snapshot.index} is incomplete",
                    )
                ],
            )


def claim_luks_header(image: Image, claims: Claims, collector: Collector) -> None:
    crypto = image.crypto
    if crypto is None:
        return
    if crypto.length > _MAX_LUKS_BYTES:
        collector.totals(extra_corruptions=1)
        collector.add(K.LUKS_LENGTH, place=(crypto.offset, crypto.length))
        return
    claims.region(Owner.LUKS_HEADER, crypto.offset, crypto.length)


class Bitmaps:
    """Persistent bitmaps: their clusters are claimed while they are valid."""

    def __init__(
        self,
        image: Image,
        geometry: Geometry,
        space: HostSpace,
        data: DataMap,
        collector: Collector,
    ) -> None:
        self._image = image
        self._geometry = geometry
        self._space = space
        self._data = data
        self._collector = collector

    def claim(self, claims: Claims, cancelled: Callable[[], None]) -> None:
        """Claim directory, tables and data of valid bitmaps and judge the table entries."""
        directory = self._image.bitmap_directory
        if directory is None or not self._image.bitmaps_valid:
            return
        claims.region(Owner.BITMAP_DIRECTORY, *directory)
        usable = self._usable()
        for bitmap in usable:
            claims.region(Owner.BITMAP_TABLE, bitmap.table_offset, bitmap.table_size * 8)
        for words in self._words(usable):
            cancelled()
            self._judge(words)
            clusters, times = self._clusters(words)
            claims.clusters(Owner.BITMAP_DATA, clusters, times)

    def stale_clusters(self) -> I64:
        """The clusters of bitmaps that are no longer valid (int64, ascending)."""
        directory = self._image.bitmap_directory
        none = np.zeros(0, dtype=np.int64)
        if directory is None or self._image.bitmaps_valid:
            return none
        usable = self._usable()
        places = [directory, *((b.table_offset, b.table_size * 8) for b in usable)]
        found = [none]
        for offset, size in places:
            if size and not self._space.outside(offset, size):
                found.append(np.arange(*self._space.run(offset, size), dtype=np.int64))
        found += [self._clusters(words)[0] for words in self._words(usable)]
        return distinct(np.concatenate(found))

    def _usable(self) -> list[BitmapEntry]:
        size = self._geometry.cluster_size
        return [
            bitmap
            for bitmap in self._image.bitmaps
            if bitmap.table_offset
            and bitmap.table_offset % size == 0
            and 0 < bitmap.table_size <= max(1, MAX_BITMAP_BYTES // size)
        ]

    def _words(self, bitmaps: list[BitmapEntry]) -> Iterator[Words]:
        regions = [TableRegion(b.table_offset, b.table_size, b.index) for b in bitmaps]
        storage = self._image.storage
        return read_words(storage, segments(regions, storage.size()), self._data, self._failed)

    def _failed(self, offset: int, length: int) -> None:
        self._collector.totals(check_errors=1)
        self._collector.add(K.UNREADABLE, place=(offset, length), note="a bitmap table")

    def _judge(self, words: Words) -> None:
        values = words.values
        offsets = values & np.uint64(BITMAP_TABLE_OFFSET_MASK)
        wrong = (values & np.uint64(BITMAP_TABLE_RESERVED_MASK)) != 0
        wrong |= (offsets != 0) & (values & np.uint64(BITMAP_TABLE_ALL_ONES) != 0)
        wrong |= (offsets & np.uint64(self._geometry.cluster_size - 1)) != 0
        names = {bitmap.index: bitmap.name for bitmap in self._image.bitmaps}
        for owner in distinct(words.owner[wrong]).tolist():
            mine = np.flatnonzero(wrong & (words.owner == owner))
            first = int(mine[0])
            # QEMU refuses to open the image, so its check does not complete.
            self._collector.totals(corruptions=1, check_errors=1)
            self._collector.add(
                K.BITMAP_TABLE,
                len(mine),
                note=f'bitmap "{safe(names[owner], 60)}"',
                examples=[
                    (
                        owner << 32 | int(words.number[first]),
                        f"bitmap table entry {int(words.number[first])}: {int(values[first]):#x}",
                    )
                ],
            )

    def _clusters(self, words: Words) -> tuple[I64, I64]:
        """(data clusters inside the file, references to each)."""
        offsets = (words.values & np.uint64(BITMAP_TABLE_OFFSET_MASK)).astype(np.int64)
        sound = (offsets != 0) & (offsets & (self._geometry.cluster_size - 1) == 0)
        sound &= (words.values & np.uint64(BITMAP_TABLE_RESERVED_MASK)) == 0
        outside = sound & (offsets >= self._space.length)
        if outside.any() and self._image.bitmaps_valid:
            count = int(words.times[outside].sum())
            self._collector.totals(corruptions=count)
            self._collector.add(K.TABLE_OUTSIDE, count, note="bitmap data")
        inside = sound & ~outside
        return offsets[inside] >> self._geometry.cluster_bits, words.times[inside]
