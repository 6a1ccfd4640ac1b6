"""One block of 2**24 clusters: its chunks, packed, and their summaries.

A chunk in which all clusters are alike is one number; any other has its packed values and a row in
the pools of fine (32 clusters) and mid (512 clusters) summaries.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .ladder import Ladder, Peaks, Summary, Tallies
from .packing import CHUNK, Packed, Values, pack, unpack
from .scheme import PackedTallies, Scheme, tally_fields

#: Clusters in one block, the unit of allocation.
BLOCK: Final = 1 << 24
#: Clusters of the finest summary.
FINE: Final = 32
#: Clusters of the second summary.
MID: Final = 512
#: Chunks in one block.
CHUNKS: Final = BLOCK // CHUNK
#: Chunks that are summarised in one go: what stays in the processor's cache.
BATCH: Final = 64

_FINES: Final = CHUNK // FINE
_MIDS: Final = CHUNK // MID


class Block:
    """Chunks ``0`` ... ``CHUNKS``; the ``inside`` clusters have one value, the rest is padding."""

    __slots__ = (
        "_fine_peak",
        "_fine_tally",
        "_free",
        "_mid_peak",
        "_mid_tally",
        "_packed",
        "_row",
        "_scheme",
        "_uniform",
        "ladder",
    )

    def __init__(self, scheme: Scheme, value: int, inside: int) -> None:
        self._scheme = scheme
        self._uniform: Values = np.full(CHUNKS, value, scheme.dtype)  # valid where _row < 0
        self._row = np.full(CHUNKS, -1, np.int32)  # row in the four pools
        self._packed: list[Packed | None] = [None] * CHUNKS
        self._fine_peak: Peaks = np.zeros((0, _FINES), np.uint32)
        self._fine_tally: PackedTallies = np.zeros((0, _FINES), np.uint64)
        self._mid_peak: Peaks = np.zeros((0, _MIDS), np.uint32)
        self._mid_tally: Tallies = np.zeros((0, scheme.fields, _MIDS), np.uint16)
        self._free: list[int] = []  # rows not in use
        #: Summaries of chunks and of 8, 64 and 512 chunks.
        self.ladder = Ladder(CHUNKS, CHUNK, scheme.fields, scheme.join, height=4)
        whole = inside // CHUNK
        self._uniform[whole:] = scheme.padding
        self.ladder.write(0, scheme.alike(self._uniform, CHUNK))
        if inside % CHUNK:
            row = np.full((1, CHUNK), scheme.padding, scheme.dtype)
            row[0, : inside % CHUNK] = value
            self.store(whole, row)

    @property
    def only_value(self) -> int | None:
        """The value that all clusters have, or None."""
        if (self._row >= 0).any() or (self._uniform != self._uniform[0]).any():
            return None
        return int(self._uniform[0])

    # ---- writing

    def store(self, first: int, rows: Values) -> NDArray[np.int64]:
        """Put whole chunks (n, CHUNK) in place from chunk ``first``; their counts by bucket."""
        scheme = self._scheme
        low = rows.min(axis=1)
        alike = low == rows.max(axis=1)
        summary = scheme.alike(low, CHUNK)
        level, mixed = np.flatnonzero(alike), np.flatnonzero(~alike)
        counts = scheme.count(low[level]) * CHUNK
        if len(mixed):
            chosen = rows if len(mixed) == len(rows) else rows[mixed]
            counts += scheme.count(chosen)
            mid = self._store_mixed(first + mixed, chosen)
            summary.peak[mixed] = mid.peak
            summary.tally[:, mixed] = mid.tally
        if len(level):
            chunks = first + level
            held = self._row[chunks]
            self._uniform[chunks] = low[level]
            self._row[chunks] = -1
            self._free.extend(held[held >= 0].tolist())
            for chunk in chunks[held >= 0].tolist():
                self._packed[chunk] = None
        self.ladder.write(first, summary)
        return counts

    def _store_mixed(self, chunks: NDArray[np.intp], rows: Values) -> Summary:
        """Store chunks that differ inside; the summary of each."""
        scheme = self._scheme
        peak = np.take(scheme.peaks, rows.ravel())
        tally = np.take(scheme.packed_tallies, rows.ravel())
        for _ in range(FINE.bit_length() - 1):
            peak = scheme.join(peak[0::2], peak[1::2])
            tally = tally[0::2] + tally[1::2]
        mid_peak = scheme.join.reduce(peak.reshape(-1, MID // FINE), axis=1).reshape(-1, _MIDS)
        fields = tally_fields(tally, scheme.fields).reshape(scheme.fields, -1, MID // FINE)
        mid_tally = fields.sum(axis=2, dtype=np.uint16).reshape(scheme.fields, -1, _MIDS)
        held = self._take_rows(chunks)
        self._fine_peak[held] = peak.reshape(-1, _FINES)
        self._fine_tally[held] = tally.reshape(-1, _FINES)
        self._mid_peak[held] = mid_peak
        self._mid_tally[held] = mid_tally.transpose(1, 0, 2)
        for chunk, packed in zip(chunks.tolist(), pack(rows), strict=True):
            self._packed[chunk] = packed
        self._row[chunks] = held
        return Summary(scheme.join.reduce(mid_peak, axis=1), mid_tally.sum(axis=2, dtype=np.uint32))

    def _take_rows(self, chunks: NDArray[np.intp]) -> list[int]:
        """A pool row for each chunk; one that has a row keeps it."""
        rows: list[int] = self._row[chunks].tolist()
        missing = sum(row < 0 for row in rows) - len(self._free)
        if missing > 0:
            have = len(self._fine_peak)
            room = min(CHUNKS, have + max(missing, have // 4, 16))
            self._fine_peak = _grown(self._fine_peak, room)
            self._fine_tally = _grown(self._fine_tally, room)
            self._mid_peak = _grown(self._mid_peak, room)
            self._mid_tally = _grown(self._mid_tally, room)
            self._free.extend(range(room - 1, have - 1, -1))
        return [row if row >= 0 else self._free.pop() for row in rows]

    # ---- reading

    def values(self, first: int, last: int) -> Values:
        """The values of whole chunks, flat."""
        out = np.repeat(self._uniform[first:last], CHUNK).reshape(-1, CHUNK)
        for index, packed in enumerate(self._packed[first:last]):
            if packed is not None:
                unpack(packed, out[index])
        return out.ravel()

    def counts(self, first: int, last: int) -> NDArray[np.int64]:
        """How many clusters of these chunks are in each bucket: int64 (buckets + 1,)."""
        alike = self._row[first:last] < 0
        counts = self._scheme.count(self._uniform[first:last][alike]) * CHUNK
        for chunk in (first + np.flatnonzero(~alike)).tolist():
            counts += self._scheme.count(self.values(chunk, chunk + 1))
        return counts

    def fines(self, first: int, last: int) -> tuple[Peaks, PackedTallies]:
        """Peaks and packed tallies of each ``FINE`` clusters of these chunks."""
        # A copy: a row that is given up between two looks would be -1, the last one of the pool.
        row, uniform = self._row[first:last].copy(), self._uniform[first:last]
        peak = np.repeat(self._scheme.peaks[uniform], _FINES).reshape(-1, _FINES)
        packed = self._scheme.packed_tallies[uniform] * np.uint64(FINE)
        tally = np.repeat(packed, _FINES).reshape(-1, _FINES)
        mixed = np.flatnonzero(row >= 0)
        if len(mixed):
            peak[mixed] = self._fine_peak[row[mixed]]
            tally[mixed] = self._fine_tally[row[mixed]]
        return peak.ravel(), tally.ravel()

    def mids(self, first: int, last: int) -> Summary:
        """Summaries of each ``MID`` clusters of these chunks."""
        row, uniform = self._row[first:last].copy(), self._uniform[first:last]  # as above
        mixed = np.flatnonzero(row >= 0)
        fields = self._scheme.fields
        peak = np.empty((len(row), _MIDS), np.uint32)
        tally = np.empty((fields, len(row), _MIDS), np.uint16)
        if len(mixed) < len(row):
            alike = self._scheme.alike(uniform, MID)
            peak[:] = alike.peak[:, None]
            tally[:] = alike.tally[:, :, None]
        if len(mixed):
            peak[mixed] = self._mid_peak[row[mixed]]
            tally[:, mixed] = self._mid_tally[row[mixed]].transpose(1, 0, 2)
        return Summary(peak.ravel(), tally.reshape(fields, -1))


def _grown(pool: NDArray[Any], room: int) -> NDArray[Any]:
    larger = np.empty((room, *pool.shape[1:]), pool.dtype)
    larger[: len(pool)] = pool
    return larger
