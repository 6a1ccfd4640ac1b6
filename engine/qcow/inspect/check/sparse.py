"""The comparison for a vast file with little in it: block by block, not cluster by cluster.

Many entries of the refcount table may name the same block, and a block may lie in a hole; the work
follows the blocks that really hold bytes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...errors import StorageError
from ...image.image import Image
from ...layout.constants import REFCOUNT_TABLE_OFFSET_MASK
from ...layout.tables import I64, U64, decode_refcounts
from . import kinds as K
from .blocks import LAST_BLOCK_OFFSET
from .codes import PACKED, UNKNOWN
from .collect import contained
from .compare import Comparison, codes_of, overflow_codes
from .counts import SparseCounts
from .presence import DataMap

#: Clusters that are counted and not referred to, as far as they are listed one by one.
_LISTED = 1 << 16
#: Entries of the refcount table looked at together.
_ENTRIES = 1 << 16


def compare_sparse(
    image: Image,
    table: U64,
    counts: SparseCounts,
    comparison: Comparison,
    data: DataMap,
    tell: Callable[[int], None],
) -> None:
    """Compare the clusters that are referred to, and count what else the blocks hold.

    Afterwards ``counts`` carries codes.  ``table`` is the refcount table; ``tell`` gets the number
    of the block reached now and then.
    """
    _SparseJudge(image, table, counts, comparison, data).run(tell)


class _SparseJudge:
    def __init__(
        self,
        image: Image,
        table: U64,
        counts: SparseCounts,
        comparison: Comparison,
        data: DataMap,
    ) -> None:
        self._image = image
        self._counts = counts
        self._comparison = comparison
        self._geometry = comparison.expected.geometry
        self._end = comparison.expected.end
        self._data = data
        self._offsets = table & np.uint64(REFCOUNT_TABLE_OFFSET_MASK)
        self._per_block = self._geometry.refcount_block_entries
        self._on_disk = np.zeros(len(counts.clusters), dtype=np.uint64)
        self._unknown = np.zeros(len(counts.clusters), dtype=bool)
        #: Leaked clusters that were found one by one, and how many were not.
        self._listed: list[tuple[I64, U64]] = []
        self._room = _LISTED

    def run(self, tell: Callable[[int], None]) -> None:
        clusters = self._counts.clusters
        number = clusters // self._per_block
        named = number < len(self._offsets)
        block = np.zeros(len(clusters), dtype=np.uint64)
        block[named] = self._offsets[number[named]]
        self._find_unreadable(block)
        by_block = np.argsort(block, kind="stable")
        block = block[by_block]
        index, stops = self._grouped()
        starts = np.concatenate(([0], stops[:-1]))[: len(stops)]
        offsets = self._offsets[index[starts]].astype(np.int64)
        held = self._data.holds(offsets, self._geometry.cluster_size)
        for turn in np.flatnonzero(held).tolist():
            tell(turn)
            offset = np.uint64(offsets[turn])
            low, high = np.searchsorted(block, (offset, offset + np.uint64(1)))
            self._one_block(
                int(offset),
                index[starts[turn] : stops[turn]],
                np.sort(by_block[int(low) : int(high)]),
            )
        self._judge_references()
        if self._listed:
            where, values = (np.concatenate(part) for part in zip(*self._listed, strict=True))
            order = np.argsort(where)
            nothing = np.zeros(len(where), dtype=np.uint64)
            self._comparison.mismatches(where[order], values[order], nothing)

    def _grouped(self) -> tuple[I64, I64]:
        """(entries of the table whose block can be read, ascending within those of one block; where
        each of these groups ends)."""
        index = np.flatnonzero((self._offsets != 0) & ~self._bad(self._offsets))
        keys = self._offsets[index]
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        stops = np.flatnonzero(keys[1:] != keys[:-1]) + 1
        return index[order], np.append(stops, len(index)) if len(index) else stops

    def _bad(self, offsets: U64) -> NDArray[np.bool_]:
        wrong: NDArray[np.bool_] = offsets & np.uint64(self._geometry.cluster_size - 1) != 0
        return wrong | (offsets > np.uint64(LAST_BLOCK_OFFSET))

    def _find_unreadable(self, block: U64) -> None:
        self._unknown |= self._bad(block)
        bad = np.flatnonzero(self._bad(self._offsets))
        first = bad * self._per_block
        counted = np.clip(self._end - first, 0, self._per_block)
        self._comparison.collector.totals(check_errors=int(counted.sum()))

    def _one_block(self, offset: int, index: I64, mine: I64) -> None:
        """The block at ``offset``, which entries ``index`` of the table name.

        ``mine``: the positions of the clusters that it counts.
        """
        try:
            raw = self._image.storage.read(offset, self._geometry.cluster_size)
        except StorageError:
            self._unknown[mine] = True
            self._comparison.collector.totals(check_errors=1)
            self._comparison.collector.add(
                K.UNREADABLE,
                place=(offset, self._geometry.cluster_size),
                note="a refcount block",
            )
            return
        counts = decode_refcounts(
            raw.ljust(self._geometry.cluster_size, b"\0"), self._geometry.refcount_order
        )
        filled = np.flatnonzero(counts)
        if not len(filled):
            return
        clusters = self._counts.clusters[mine]
        self._on_disk[mine] = counts[clusters % self._per_block]
        known = clusters[self._on_disk[mine] != 0]
        inside = 0
        for at in range(0, len(index), _ENTRIES):
            part = index[at : at + _ENTRIES]
            bounds = np.searchsorted(filled, self._end - part * self._per_block)
            inside += int(bounds.sum())
            last = np.flatnonzero(bounds)
            if len(last):
                row = int(last[-1])
                highest = int(filled[int(bounds[row]) - 1])
                self._comparison.saw(int(part[row]) * self._per_block + highest)
        behind = len(filled) * len(index) - inside
        inside -= int(np.count_nonzero(known < self._end))
        behind -= int(np.count_nonzero(known >= self._end))
        self._list(index, filled, counts, known, inside, behind)

    def _list(
        self,
        index: I64,
        filled: I64,
        counts: NDArray[np.unsignedinteger],
        known: I64,
        inside: int,
        behind: int,
    ) -> None:
        """Name clusters that are counted and not referred to, as far as there is room."""
        leaks_left, behind_left = inside, behind
        for number in index[:_LISTED].tolist():
            if self._room <= 0 or (leaks_left <= 0 and behind_left <= 0):
                break
            clusters = filled + number * self._per_block
            clusters = clusters[~contained(clusters, known)]
            low = clusters[clusters < self._end][: self._room]
            high = clusters[clusters >= self._end][: self._room]
            self._room -= len(low) + len(high)
            if len(low):
                self._listed.append((low, counts[low % self._per_block].astype(np.uint64)))
            if len(high):
                self._comparison.beyond_end(high, counts[high % self._per_block].astype(np.uint64))
            leaks_left -= len(low)
            behind_left -= len(high)
        if leaks_left > 0:
            self._comparison.unlisted_leaks(leaks_left)
        if behind_left > 0:
            none = np.zeros(0, dtype=np.int64)
            self._comparison.beyond_end(none, none.astype(np.uint64), behind_left)

    def _judge_references(self) -> None:
        clusters = self._counts.clusters
        references: U64 = self._counts.values
        codes = codes_of(self._on_disk, references)
        judged = (clusters < self._end) & ~self._unknown
        where = np.flatnonzero(judged)
        capped = self._comparison.cap(clusters[where], references[where])
        counted = references[where] if capped is None else capped
        if capped is not None:
            part = codes_of(self._on_disk[where], counted)
            overflow_codes(part, references[where], self._geometry.refcount_max)
            codes[where] = part
        on_disk = self._on_disk[where]
        seen = np.flatnonzero((counted != 0) | (on_disk != 0))
        if len(seen):
            self._comparison.saw(int(clusters[where[seen[-1]]]))
        differ = np.flatnonzero(on_disk != counted)
        if len(differ):
            codes[where[differ]] |= self._comparison.mismatches(
                clusters[where[differ]], on_disk[differ], counted[differ]
            )
        packed = self._counts.packed_at(slice(None))
        if packed is not None:
            codes |= packed.view(np.uint8) * np.uint8(PACKED)
        codes[self._unknown] = UNKNOWN
        self._counts.recode()
        self._counts.codes[:] = codes


def count_far_blocks(
    image: Image, table: U64, limit: int, comparison: Comparison, data: DataMap
) -> None:
    """What blocks hold that count clusters from ``limit`` on, far behind the end of the file.

    Nothing that counts can refer to those.
    """
    near = -(-limit // comparison.expected.geometry.refcount_block_entries)
    if not table[near:].any():
        return
    far = table.copy()
    far[:near] = 0
    nothing = SparseCounts(0, 0)
    nothing.settle()
    _SparseJudge(image, far, nothing, comparison, data).run(lambda _: None)
