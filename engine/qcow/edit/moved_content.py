"""Comparing what two images hold where their L2 entries differ: data that was moved, and zeros.

Whole runs are read at once, and what several snapshots share is read once.  Whatever cannot be
decided here counts as different, and is left to a reader of guest data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..image.image import Image
from ..layout.constants import OFLAG_ZERO, SUBCLUSTERS
from ..layout.tables import I64, OFFSETS, U64, compressed_fields
from ..parallel import share_out, threads_for
from ..storage.base import Storage
from ..storage.buffers import page_aligned
from .counting import COMPRESSED, COPIED
from .zero_content import hold_zeros, zero_rows

#: Bytes read at a time from each of the two images.
_WINDOW = 1 << 20
_ZERO = np.uint64(OFLAG_ZERO)
_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)
_PLACE = np.uint64((1 << 62) - 1)

Bools = NDArray[np.bool_]


class Entries(NamedTuple):
    """L2 entries of the same guest clusters in two images (uint64[n] each).

    The bitmaps belong to extended L2 entries, else they are None.
    """

    old: U64
    new: U64
    old_bits: U64 | None
    new_bits: U64 | None

    @classmethod
    def of(
        cls,
        old: U64,
        new: U64,
        old_bits: U64 | None,
        new_bits: U64 | None,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
    ) -> Self:
        """Those at (rows, columns) of whole tables."""
        return cls(
            old[rows, columns],
            new[rows, columns],
            None if old_bits is None else old_bits[rows, columns],
            None if new_bits is None else new_bits[rows, columns],
        )


class MovedContent:
    """Compares the content of clusters of ``before`` with that of others of ``after``."""

    def __init__(self, before: Image, after: Image) -> None:
        self._before, self._after = before.storage, after.storage
        self._geometry = before.usable_geometry_for_tables()
        self._size = self._geometry.cluster_size
        self._external = before.header.has_data_file or after.header.has_data_file
        self._zeroed_reads_zero = before.backing is None
        self._encrypted = before.encrypted or after.encrypted
        #: Host clusters found the same: of ``before`` (ascending), and of ``after``.
        self._proven = np.zeros((2, 0), dtype=np.int64)
        #: Host clusters of ``before`` that hold nothing but zeros, ascending.
        self._zeros: I64 = np.zeros(0, dtype=np.int64)

    def agrees(self, pairs: Entries) -> Bools:
        """Which of the pairs surely read the same (bool[n])."""
        old, new = pairs.old & ~COPIED, pairs.new & ~COPIED
        agree = np.zeros(len(old), dtype=np.bool_)
        if self._external:
            return agree
        packed_old, packed_new = (old & COMPRESSED) != 0, (new & COMPRESSED) != 0
        both = packed_old & packed_new
        if both.any():
            agree[both] = self._same_streams(old[both], new[both])
        plain = ~(packed_old | packed_new)
        if pairs.old_bits is not None and pairs.new_bits is not None:
            bits = pairs.old_bits[plain], pairs.new_bits[plain]
            agree[plain] = self._same_subclusters(old[plain], new[plain], *bits)
        else:
            agree[plain] = self._same_plain(old[plain], new[plain])
        return agree

    def _same_plain(self, old: U64, new: U64) -> Bools:
        there, wanted = (old & OFFSETS) != 0, (new & OFFSETS) != 0
        zero, zeroed = (old & _ZERO) != 0, (new & _ZERO) != 0
        absent = self._zeroed_reads_zero
        agree: Bools = (zero | (~there & absent)) & (zeroed | (~wanted & absent))
        data = there & ~zero
        moved = data & wanted & ~zeroed
        agree[moved] = self._same_clusters(self._clusters(old[moved]), self._clusters(new[moved]))
        gone = data & (zeroed | (~wanted & self._zeroed_reads_zero))
        if not self._encrypted:
            agree[gone] = self._are_zero(self._clusters(old[gone]))
            filled = (zero | (~there & absent)) & wanted & ~zeroed
            agree[filled] = hold_zeros(
                self._after, self._clusters(new[filled]), self._geometry.cluster_bits
            )
        return agree

    def _same_subclusters(self, old: U64, new: U64, old_bits: U64, new_bits: U64) -> Bools:
        """What is data in both is compared; data that became zeros must have been zeros."""
        data, kept = old_bits & _LOW32, new_bits & _LOW32
        known, expected = data | old_bits >> _SHIFT32, kept | new_bits >> _SHIFT32
        # Nothing may turn up or get lost, and nothing may become data that was none.
        agree: Bools = (known == expected) & (kept & ~data == 0)
        agree &= (new_bits >> _SHIFT32) & kept == 0
        agree &= (kept == 0) | ((new & OFFSETS) != 0)
        agree &= (data == 0) | ((old & OFFSETS) != 0)
        same = np.flatnonzero(agree & (data == kept) & (data != 0))
        agree[same] = self._same_clusters(self._clusters(old[same]), self._clusters(new[same]))
        for index in np.flatnonzero(agree & (data != kept)).tolist():
            agree[index] = not self._encrypted and self._same_parts(
                int(old[index] & OFFSETS),
                int(new[index] & OFFSETS),
                int(data[index]),
                int(kept[index]),
            )
        return agree

    def _same_parts(self, old: int, new: int, data: int, kept: int) -> bool:
        """One cluster whose subclusters ``kept`` of ``data`` are still there, the others zeros."""
        one = np.zeros(self._size, dtype=np.uint8)
        self._before.read_pieces([old], self._size, one.data)
        parts = one.reshape(SUBCLUSTERS, -1)
        other = np.zeros_like(one)
        if kept:
            self._after.read_pieces([new], self._size, other.data)
        others = other.reshape(SUBCLUSTERS, -1)
        for number in range(SUBCLUSTERS):
            if data >> number & 1:
                wanted = others[number] if kept >> number & 1 else np.uint8(0)
                if (parts[number] != wanted).any():
                    return False
        return True

    def _clusters(self, entries: U64) -> I64:
        found: I64 = ((entries & OFFSETS) >> np.uint64(self._geometry.cluster_bits)).astype(
            np.int64
        )
        return found

    def _same_clusters(self, old: I64, new: I64) -> Bools:
        """Whether the clusters hold the same bytes (repeats are looked at once)."""
        order = np.argsort(old, kind="stable")
        first, second = old[order], new[order]
        ask = np.ones(len(order), dtype=np.bool_)
        ask[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
        ask &= ~self._is_proven(first, second)
        self._compare(first[ask], second[ask])
        agree = np.zeros(len(old), dtype=np.bool_)
        agree[order] = self._is_proven(first, second)
        return agree

    def _is_proven(self, old: I64, new: I64) -> Bools:
        proven, by = self._proven
        if not len(proven):
            return np.zeros(len(old), dtype=np.bool_)
        place = np.minimum(np.searchsorted(proven, old), len(proven) - 1)
        found: Bools = (proven[place] == old) & (by[place] == new)
        return found

    def _compare(self, old: I64, new: I64) -> None:
        """Read both and note those that are the same; ``old`` ascends."""
        same = np.zeros(len(old), dtype=np.bool_)
        step = max(1, _WINDOW // self._size)
        parts = [slice(at, at + step) for at in range(0, len(old), step)]

        def work(take: Callable[[], slice | None]) -> None:
            one, other = (page_aligned(step * self._size) for _ in range(2))
            while (part := take()) is not None:
                length = len(old[part]) * self._size
                self._read(self._before, old[part], one)
                self._read(self._after, new[part], other)
                words = one[:length].view(np.uint64), other[:length].view(np.uint64)
                if np.array_equal(*words):
                    same[part] = True
                else:
                    differs = (words[0] != words[1]).reshape(-1, self._size // 8).any(axis=1)
                    same[part] = ~differs

        share_out(parts, work, threads_for(len(parts)), lambda _: None)
        both = np.concatenate((self._proven, np.stack((old[same], new[same]))), axis=1)
        self._proven = both[:, np.argsort(both[0], kind="stable")]

    def _are_zero(self, clusters: I64) -> Bools:
        """Whether clusters of ``before`` hold nothing but zeros."""
        ordered = np.sort(clusters)
        ask = np.ones(len(ordered), dtype=np.bool_)
        ask[1:] = ordered[1:] != ordered[:-1]
        ask &= ~np.isin(ordered, self._zeros)
        asked = ordered[ask]
        step = max(1, _WINDOW // self._size)
        buffer = page_aligned(step * self._size)
        found = [self._zeros]
        for at in range(0, len(asked), step):
            part = asked[at : at + step]
            self._read(self._before, part, buffer)
            words = buffer[: len(part) * self._size].view(np.uint64)
            found.append(part[zero_rows(words.reshape(len(part), -1))])
        self._zeros = np.sort(np.concatenate(found))
        zero: Bools = np.isin(clusters, self._zeros)
        return zero

    def _read(self, storage: Storage, clusters: I64, buffer: NDArray[np.uint8]) -> None:
        offsets: list[int] = (clusters << self._geometry.cluster_bits).tolist()
        storage.read_pieces(offsets, self._size, buffer.data)

    def _same_streams(self, old: U64, new: U64) -> Bools:
        """Whether compressed data is the same, byte by byte; runs that moved alike are one."""
        start, length = compressed_fields(old, self._geometry)
        place, budget = compressed_fields(new, self._geometry)
        agree: Bools = length == budget
        order = np.flatnonzero(agree)[np.argsort(start[agree], kind="stable")]
        start, length, shift = start[order], length[order], (place - start)[order]
        end = np.maximum.accumulate(start + length)
        apart = (start[1:] > end[:-1]) | (shift[1:] != shift[:-1])
        heads = [0, *(np.flatnonzero(apart) + 1).tolist()] if len(order) else []
        for first, stop in zip(heads, [*heads[1:], len(order)], strict=True):
            begin, finish = int(start[first]), int((start + length)[first:stop].max())
            if not self._same_bytes(begin, begin + int(shift[first]), finish - begin):
                agree[order[first:stop]] = False
        return agree

    def _same_bytes(self, old: int, new: int, length: int) -> bool:
        for at in range(0, length, _WINDOW):
            part = min(_WINDOW, length - at)
            # The sectors of the last stream may reach beyond the end of the file.
            one = self._before.read(old + at, part).ljust(part, b"\0")
            if one != self._after.read(new + at, part).ljust(part, b"\0"):
                return False
        return True
