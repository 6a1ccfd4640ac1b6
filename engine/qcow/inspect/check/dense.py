"""The comparison where there is a count for every cluster of a range."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ...errors import StorageError
from ...image.image import Image
from ...image.refcounts import RefcountWindow, refcount_windows
from ...layout.constants import REFCOUNT_TABLE_OFFSET_MASK
from ...layout.tables import U64
from . import kinds as K
from .blocks import LAST_BLOCK_OFFSET
from .codes import ONE, PACKED, TRUE_ONE, UNKNOWN, USED
from .compare import Comparison, codes_of, overflow_codes
from .counts import Counts

#: Clusters looked at together.
_STEP = 1 << 18


def compare_dense(
    image: Image,
    table: U64,
    counts: Counts,
    comparison: Comparison,
    tell: Callable[[int], None],
) -> None:
    """Compare every cluster of ``counts`` and turn its values to codes.

    ``table`` is the refcount table.  ``tell`` gets the cluster reached now and then.
    """
    counts.recode()
    judge = _DenseJudge(image, table, counts, comparison)
    for window in judge.windows():
        tell(window.first)
        judge.take(window)


class _DenseJudge:
    def __init__(self, image: Image, table: U64, counts: Counts, comparison: Comparison) -> None:
        self._image = image
        self._table = table
        self._counts = counts
        self._comparison = comparison
        self._geometry = comparison.expected.geometry
        self._most = self._geometry.refcount_max

    def windows(self) -> Iterator[RefcountWindow]:
        """The refcounts of the range, without the blocks that the storage cannot read."""
        low, high = self._counts.low, self._counts.high
        per_block = self._geometry.refcount_block_entries
        at = low
        while at < high:
            try:
                for window in refcount_windows(self._image, at, high - at, self._table):
                    at = window.first + window.clusters
                    yield window
            except StorageError:
                # Somewhere in the window from ``at`` on: take one block on its own.
                stop = min(high, (at // per_block + 1) * per_block)
                try:
                    yield from refcount_windows(self._image, at, stop - at, self._table)
                except StorageError:
                    self._unreadable(at, stop)
                at = stop

    def _unreadable(self, first: int, stop: int) -> None:
        index = first // self._geometry.refcount_block_entries
        collector = self._comparison.collector
        collector.totals(check_errors=1)
        collector.add(
            K.UNREADABLE,
            place=(
                int(self._table[index]) & REFCOUNT_TABLE_OFFSET_MASK,
                self._geometry.cluster_size,
            ),
            note="a refcount block",
        )
        self._counts.codes[self._counts.positions(first, stop)] = UNKNOWN

    def take(self, window: RefcountWindow) -> None:
        first, on_disk = window.first, window.counts
        stop = first + window.clusters
        end = self._comparison.expected.end
        if window.fault is not None and self._is_unknown(first):
            self._unknown(first, stop)
            return
        for at in range(first, stop, _STEP):
            upto = min(stop, at + _STEP)
            middle = min(max(at, end), upto)
            for begin, finish, judge in (
                (at, middle, self._inside),
                (middle, upto, self._behind),
            ):
                if begin < finish:
                    part = None if on_disk is None else on_disk[begin - first : finish - first]
                    judge(begin, finish, part)

    def _is_unknown(self, cluster: int) -> bool:
        """Whether a faulty block is unreadable; one beyond the end of the file reads as zeros."""
        index = cluster // self._geometry.refcount_block_entries
        offset = int(self._table[index]) & REFCOUNT_TABLE_OFFSET_MASK
        return offset % self._geometry.cluster_size != 0 or offset > LAST_BLOCK_OFFSET

    def _unknown(self, first: int, stop: int) -> None:
        counted = min(stop, self._comparison.expected.end) - first
        self._comparison.collector.totals(check_errors=max(0, counted))
        where = self._counts.positions(first, stop)
        self._counts.codes[where] = UNKNOWN

    def _inside(self, first: int, stop: int, on_disk: NDArray[np.unsignedinteger] | None) -> None:
        where = self._counts.positions(first, stop)
        references = self._counts.values[where]
        if on_disk is None and not references.any():
            return
        capped = self._comparison.cap(range(first, stop), references)
        counted = references if capped is None else capped
        differ = counted != 0 if on_disk is None else on_disk != counted
        mismatch = bool(differ.any())
        if not mismatch and int(references.max()) <= 1:
            # By far the most frequent case, and the quickest: each used cluster has one owner.
            self._saw(first, references)
            self._mark(where, references.astype(np.uint8) * np.uint8(ONE | TRUE_ONE | USED))
            return
        codes = codes_of(on_disk, counted)
        if capped is not None:
            overflow_codes(codes, references, self._most)
        self._saw(first, codes if on_disk is None else (on_disk != 0) | (codes != 0))
        if mismatch:
            index = np.flatnonzero(differ)
            disk = (
                np.zeros(len(index), dtype=np.uint64)
                if on_disk is None
                else on_disk[index].astype(np.uint64)
            )
            codes[index] |= self._comparison.mismatches(
                index + first, disk, counted[index].astype(np.uint64)
            )
        self._mark(where, codes)

    def _behind(self, first: int, stop: int, on_disk: NDArray[np.unsignedinteger] | None) -> None:
        """Clusters behind the end of the file: references to them were found out already."""
        where = self._counts.positions(first, stop)
        references = self._counts.values[where]
        codes = codes_of(on_disk, references)
        if on_disk is not None:
            left = np.flatnonzero((on_disk != 0) & (references == 0))
            if len(left):
                self._comparison.beyond_end(left + first, on_disk[left].astype(np.uint64))
        self._counts.codes[where] = codes

    def _mark(self, where: slice, codes: NDArray[np.uint8]) -> None:
        packed = self._counts.packed_at(where)
        if packed is not None:
            codes |= packed.view(np.uint8) * np.uint8(PACKED)
        self._counts.codes[where] = codes

    def _saw(self, first: int, used: NDArray[np.generic]) -> None:
        tail = used[-4096:]
        found = np.flatnonzero(tail)
        if len(found):
            self._comparison.saw(first + len(used) - len(tail) + int(found[-1]))
        elif used.any():
            self._comparison.saw(first + int(np.flatnonzero(used)[-1]))
