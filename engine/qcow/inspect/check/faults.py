"""What can be wrong with a single entry of an L2 table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...findings import FindingKind
from ...layout.constants import (
    L2_RESERVED_MASK,
    OFFSET_MASK,
    OFLAG_COPIED,
    OFLAG_ZERO,
)
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64, compressed_fields
from ...record import record
from . import kinds as K
from .collect import MAX_EXAMPLES, Collector, EntryRuns, exceeding
from .space import HostSpace
from .tables import TableWindow

_COPIED = np.uint64(OFLAG_COPIED)
_ZERO = np.uint64(OFLAG_ZERO)
_RESERVED = np.uint64(L2_RESERVED_MASK)
_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)


@record
class Scope:
    """What looking at entries needs to know of the image.

    ``limit``: clusters that counts are kept for; at least one more than the file has.
    """

    geometry: Geometry
    space: HostSpace
    data_file: bool
    limit: int


@record
class Rows:
    """Some entries of a window, ascending.

    ``number``: int64[n], counted through all tables of the window.  ``entry``: uint64[n].
    ``maps``: uint64[n] subcluster bitmaps of extended L2 entries, else None.
    """

    number: I64
    entry: U64
    maps: U64 | None

    def take(self, which: NDArray[np.bool_]) -> Rows:
        return Rows(
            self.number[which],
            self.entry[which],
            None if self.maps is None else self.maps[which],
        )


class EntryFaults:
    """Notes faults of entries; threads may share it."""

    def __init__(self, scope: Scope, collector: Collector) -> None:
        self._scope = scope
        self._geometry = scope.geometry
        self._collector = collector
        self._table_bits = scope.geometry.l2_entries.bit_length() - 1

    def plain(self, window: TableWindow, rows: Rows) -> None:
        """Entries that are not compressed: reserved bits, the zero flag, bitmaps."""
        bits = bits_of(rows.entry)
        if bits & L2_RESERVED_MASK:
            self._note(
                K.L2_RESERVED,
                window,
                rows.take((rows.entry & _RESERVED) != 0),
                lambda entry, _: f"ERROR found l2 entry with reserved bits set: {entry:x}",
            )
        if bits & OFLAG_ZERO and (self._geometry.version < 3 or self._geometry.extended_l2):
            self._note(
                K.ZERO_FLAG,
                window,
                rows.take((rows.entry & _ZERO) != 0),
                lambda entry, _: f"zero flag in l2 entry: {entry:x}",
                counted=False,
            )
        if rows.maps is None or not rows.maps.any():
            return
        placed = (rows.entry & OFFSETS) != 0
        if self._scope.data_file:
            placed |= rows.entry >= _COPIED
        self._note(
            K.SUBCLUSTERS,
            window,
            rows.take(placed & ((rows.maps >> _SHIFT32) & rows.maps != 0)),
            lambda entry, _: (
                f"ERROR offset={entry & OFFSET_MASK:x}: Allocated cluster has corrupted "
                "subcluster allocation bitmap"
            ),
        )
        self._note(
            K.SUBCLUSTERS,
            window,
            rows.take(~placed & (rows.maps & _LOW32 != 0)),
            lambda *_: "ERROR: Unallocated cluster has non-zero subcluster allocation map",
        )

    def placed(self, window: TableWindow, rows: Rows, offsets: I64) -> None:
        """Entries with a cluster: where it is.  ``offsets``: its host offset in bytes."""
        size = self._geometry.cluster_size
        if bits_of(offsets) & (size - 1):
            self._misaligned(window, rows, (offsets & (size - 1)) != 0)
        if self._scope.data_file:
            self._copied_in_data_file(window, rows.take(rows.entry < _COPIED))
        elif int(offsets.max()) >= self._scope.space.length:
            self._note(
                K.DATA_OUTSIDE,
                window,
                rows.take(offsets >= self._scope.space.length),
                lambda entry, _: exceeding(entry & OFFSET_MASK, size),
            )

    def compressed(self, window: TableWindow, rows: Rows) -> None:
        """Compressed entries: flags that exclude compression, and data beyond the end."""
        geometry = self._geometry
        mask = (1 << geometry.compressed_offset_bits) - 1
        self._note(
            K.COMPRESSED_COPIED,
            window,
            rows.take(rows.entry >= _COPIED),
            lambda entry, _: (
                f"ERROR: coffset=0x{entry & mask:x}: copied flag must never be set for "
                "compressed clusters"
            ),
        )
        if self._scope.data_file:
            self._note(
                K.COMPRESSED_MISPLACED,
                window,
                rows,
                lambda entry, number: (
                    f"ERROR compressed cluster {number} with data file, "
                    f"entry=0x{entry & ~OFLAG_COPIED:x}"
                ),
            )
            return
        if rows.maps is not None:
            self._note(
                K.COMPRESSED_MISPLACED,
                window,
                rows.take(rows.maps != 0),
                lambda entry, number: (
                    f"ERROR compressed cluster {number} with non-zero subcluster allocation "
                    f"bitmap, entry=0x{entry & ~OFLAG_COPIED:x}"
                ),
            )
            rows = rows.take(rows.maps == 0)
        offsets, lengths = compressed_fields(rows.entry, geometry)
        self._note(
            K.COMPRESSED_OUTSIDE,
            window,
            rows.take(offsets + lengths - self._scope.space.length >= geometry.cluster_size),
            lambda entry, _: exceeding(*geometry.compressed_extent(entry)),
        )

    def _misaligned(self, window: TableWindow, rows: Rows, wrong: NDArray[np.bool_]) -> None:
        if rows.maps is not None:
            data = rows.maps & _LOW32 != 0
        else:
            data = (rows.entry & _ZERO) == 0
        self._note(
            K.DATA_UNALIGNED,
            window,
            rows.take(wrong & data),
            lambda entry, _: (
                f"ERROR offset={entry & OFFSET_MASK:x}: Data cluster is not properly aligned; "
                "L2 entry corrupted."
            ),
        )
        self._note(
            K.ZERO_UNALIGNED,
            window,
            rows.take(wrong & ~data),
            lambda entry, _: (
                f"ERROR offset={entry & OFFSET_MASK:x}: Preallocated cluster is not properly "
                "aligned; L2 entry corrupted."
            ),
        )

    def _copied_in_data_file(self, window: TableWindow, rows: Rows) -> None:
        """Clusters of a data file have no refcount; each has one owner and COPIED set."""
        if window.active and window.offsets[0] != 0:
            self._note(
                K.COPIED_MISSING,
                window,
                rows,
                lambda entry, _: f"ERROR OFLAG_COPIED data cluster: l2_entry={entry:x} refcount=1",
                times=window.active,
            )

    def _note(
        self,
        kind: FindingKind,
        window: TableWindow,
        rows: Rows,
        example: Callable[[int, int], str],
        *,
        counted: bool = True,
        times: int | None = None,
    ) -> None:
        """Record entries; ``example(entry, number in its table)`` describes one.

        qemu-img counts an entry once for each L1 entry that leads to it, unless it does not see it.
        """
        found = len(rows.number)
        if not found:
            return
        if counted:
            self._collector.totals(corruptions=found * (window.times if times is None else times))
        else:
            self._collector.totals(extra_corruptions=found)
        if window.offsets[0] == 0:
            kind = K.L1_STRAY
        table = window.offsets[rows.number >> self._table_bits]
        number = rows.number & ((1 << self._table_bits) - 1)
        shown = slice(MAX_EXAMPLES)
        self._collector.add(
            kind,
            found,
            entries=EntryRuns.of(table, number),
            examples=[
                (place + at * self._geometry.l2_entry_size, example(entry, at))
                for place, at, entry in zip(
                    table[shown].tolist(),
                    number[shown].tolist(),
                    rows.entry[shown].tolist(),
                    strict=True,
                )
            ],
        )


def bits_of(words: NDArray[np.integer]) -> int:
    """All bits that are set anywhere in 64-bit words (native or big-endian)."""
    joined = int(np.bitwise_or.reduce(words.view(np.uint64)))
    if words.dtype.isnative:
        return joined
    return int.from_bytes(joined.to_bytes(8, "little"), "big")
