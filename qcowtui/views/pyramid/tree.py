"""A small value for each of up to 2**40 clusters, written in pieces and summarised at any zoom.

One thread writes (the owner of the scan), any thread reads, without a lock: arrays keep their shape
and are published whole, so a reader meets the state before or after a write in each place, and the
next repaint, prompted by :attr:`ClusterTree.generation`, shows the rest.

Memory follows what is really there, not the number of clusters: a block (2**24 clusters) in which
all clusters are alike costs nothing, a chunk (4096) in which all are alike a few bytes, any other
chunk its packed values and 3/8 byte a cluster of summaries.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .block import BATCH, BLOCK, CHUNKS, FINE, MID, Block
from .ladder import FACTOR, Ladder, Peaks, Summary
from .packing import CHUNK, Values
from .scheme import PackedTallies, Query, Scheme

#: The most clusters a map can have: what an L1 table of QEMU's largest size can describe.
MAX_CLUSTERS: Final = 1 << 40


class ClusterTree:
    """``total`` clusters, all of value ``initial`` at first."""

    def __init__(self, total: int, scheme: Scheme, initial: int = 0) -> None:
        if not 0 <= total <= MAX_CLUSTERS:
            raise ValueError(f"a map of {total} clusters is beyond {MAX_CLUSTERS}")
        self.total = total
        self.scheme = scheme
        #: Grows with every write; compare it to know whether to repaint.
        self.generation = 0
        blocks = -(-total // BLOCK)
        self._blocks: dict[int, Block] = {}  # those whose clusters are not all alike
        self._value: Values = np.full(blocks, initial, scheme.dtype)  # of all other blocks
        self._top = Ladder(blocks, BLOCK, scheme.fields, scheme.join)
        self._counts = np.zeros(scheme.buckets + 1, np.int64)
        self._counts[scheme.bucket[initial]] = total
        whole = total // BLOCK
        if whole:
            self._top.write(0, scheme.alike(self._value[:whole], BLOCK))
        if blocks > whole:  # one that ends early is always kept: it holds the padding
            block = Block(scheme, initial, total - whole * BLOCK)
            self._blocks[whole] = block
            self._top.write(whole, block.ladder.whole())

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many clusters are in each bucket of the scheme, exactly."""
        return self._counts[:-1]

    # ---- writing

    def write(self, start: int, values: Values) -> None:
        """Set the values of clusters ``start`` ... ``start + len(values)``."""
        stop = start + len(values)
        self._check_range(start, stop)
        position = start
        while position < stop:
            index = position // BLOCK
            end = min(stop, (index + 1) * BLOCK)
            self._write_in_block(index, position, values[position - start : end - start])
            position = end
        self.generation += 1

    def fill(self, start: int, stop: int, value: int) -> None:
        """Set clusters ``start`` ... ``stop`` to one value; whole blocks cost nothing."""
        self._check_range(start, stop)
        first, last = -(-start // BLOCK), stop // BLOCK
        pieces = [(start, stop)]
        if first < last:
            self._fill_blocks(first, last, value)
            pieces = [(start, first * BLOCK), (last * BLOCK, stop)]
        for begin, end in pieces:
            for position in range(begin, end, BATCH * CHUNK):
                span = min(end - position, BATCH * CHUNK)
                self.write(position, np.full(span, value, self.scheme.dtype))
        self.generation += 1

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.total:
            raise ValueError(f"clusters {start} to {stop} are not all within 0 to {self.total}")

    def _fill_blocks(self, first: int, last: int, value: int) -> None:
        counts = self._counts - self.scheme.count(self._value[first:last]) * BLOCK
        kept = [index for index in self._blocks if first <= index < last]
        for index in kept:
            counts[self.scheme.bucket[self._value[index]]] += BLOCK
            counts -= self._blocks[index].counts(0, CHUNKS)
        counts[self.scheme.bucket[value]] += (last - first) * BLOCK
        self._value[first:last] = value
        for index in kept:
            del self._blocks[index]
        self._counts = counts
        self._top.write(first, self.scheme.alike(self._value[first:last], BLOCK))

    def _write_in_block(self, index: int, start: int, values: Values) -> None:
        block = self._blocks.get(index)
        if block is None:
            block = Block(self.scheme, int(self._value[index]), BLOCK)
            self._blocks[index] = block
        begin = start - index * BLOCK
        end = begin + len(values)
        counts = self._counts.copy()
        chunk = begin // CHUNK
        while chunk * CHUNK < end:
            stop = min(chunk + BATCH, -(-end // CHUNK))
            low, high = max(begin, chunk * CHUNK), min(end, stop * CHUNK)
            rows = block.values(chunk, stop)
            held = rows[low - chunk * CHUNK : high - chunk * CHUNK]
            given = values[low - begin : high - begin]
            # Most of what a scan settles at its end is as it was told on the way: to find that out
            # costs a tenth of storing it.
            if not np.array_equal(held, given):
                counts -= block.counts(chunk, stop)
                held[:] = given
                counts += block.store(chunk, rows.reshape(-1, CHUNK))
            chunk = stop
        self._counts = counts
        self._top.write(index, block.ladder.whole())
        only = block.only_value
        if only is not None:
            self._value[index] = only
            del self._blocks[index]

    # ---- reading

    def values(self, start: int, stop: int) -> Values:
        """The values of clusters ``start`` ... ``stop``."""
        self._check_range(start, stop)
        out = np.empty(stop - start, self.scheme.dtype)
        position = start
        while position < stop:
            index = position // BLOCK
            base, end = index * BLOCK, min(stop, (index + 1) * BLOCK)
            block = self._blocks.get(index)
            if block is None:
                out[position - start : end - start] = self._value[index]
            else:
                first = (position - base) // CHUNK
                held = block.values(first, -(-(end - base) // CHUNK))
                skip = position - base - first * CHUNK
                out[position - start : end - start] = held[skip : skip + end - position]
            position = end
        return out

    def units(self) -> list[int]:
        """The spans, in clusters, that summaries exist for, ascending."""
        spans = [FINE, MID, *(CHUNK * FACTOR**level for level in range(4))]
        return spans + [BLOCK * FACTOR**level for level in range(len(self._top.levels))]

    def fines(self, first: int, last: int) -> tuple[Peaks, PackedTallies]:
        """Peaks and packed tallies of spans ``first`` ... ``last`` of FINE clusters."""
        per_block, per_chunk = BLOCK // FINE, CHUNK // FINE
        peak = np.empty(last - first, np.uint32)
        tally = np.empty(last - first, np.uint64)
        position = first
        while position < last:
            index = position // per_block
            base, end = index * per_block, min(last, (index + 1) * per_block)
            target = slice(position - first, end - first)
            block = self._blocks.get(index)
            if block is None:
                value = self._value[index]
                peak[target] = self.scheme.peaks[value]
                tally[target] = self.scheme.packed_tallies[value] * np.uint64(FINE)
            else:
                chunk = (position - base) // per_chunk
                peaks, tallies = block.fines(chunk, -(-(end - base) // per_chunk))
                source = slice(position - base - chunk * per_chunk, end - base - chunk * per_chunk)
                peak[target], tally[target] = peaks[source], tallies[source]
            position = end
        return peak, tally

    def summaries(self, unit: int, first: int, last: int) -> Summary:
        """Summaries of spans ``first`` ... ``last`` of ``unit`` clusters (MID and larger)."""
        if unit >= BLOCK:
            level = self._top.levels[_steps(unit // BLOCK)]
            return Summary(level.peak[first:last], level.tally[:, first:last])
        per_block = BLOCK // unit
        blocks = range(first // per_block, -(-last // per_block))
        kept = [index for index in blocks if index in self._blocks]
        if len(kept) < len(blocks):
            values = np.repeat(self._value[blocks.start : blocks.stop], per_block)
            skip = blocks.start * per_block
            whole = self.scheme.alike(values[first - skip : last - skip], unit)
        else:
            tally = np.empty((self.scheme.fields, last - first), np.uint32)
            whole = Summary(np.empty(last - first, np.uint32), tally)
        for index in kept:
            block = self._blocks.get(index)
            if block is None:
                continue  # just became uniform: the next repaint shows it
            base = index * per_block
            low, high = max(first, base) - base, min(last, base + per_block) - base
            part = _in_block(block, unit, low, high)
            target = slice(low + base - first, high + base - first)
            whole.peak[target] = part.peak
            whole.tally[:, target] = part.tally
        return whole

    def find(self, start: int, query: Query, forward: bool = True) -> int | None:
        """The first cluster at or behind ``start`` (backward: at or before) meeting ``query``."""
        if not 0 <= start < self.total:
            return None
        chunk = start // CHUNK
        found = self._find_in_chunk(chunk, query, start, forward)
        if found is not None:
            return found
        index = start // BLOCK
        found = self._find_in_block(index, query, chunk - index * CHUNKS, forward)
        if found is not None:
            return found
        for candidate in _hits(query.may_hold(self._top.levels[0]), index, forward):
            found = self._find_in_block(candidate, query, None, forward)
            if found is not None:
                return found
        return None

    def _find_in_block(
        self, index: int, query: Query, behind: int | None, forward: bool
    ) -> int | None:
        """Search one block; ``behind`` is a chunk that was already searched."""
        block = self._blocks.get(index)
        if block is None:
            if not query.values[self._value[index]]:
                return None
            if behind is None:
                return index * BLOCK if forward else (index + 1) * BLOCK - 1
            chunk = behind + (1 if forward else -1)
            if not 0 <= chunk < CHUNKS:
                return None
            return index * BLOCK + (chunk * CHUNK if forward else (chunk + 1) * CHUNK - 1)
        for chunk in _hits(query.may_hold(block.ladder.levels[0]), behind, forward):
            position = (index * CHUNKS + chunk) * CHUNK
            edge = position if forward else min(self.total, position + CHUNK) - 1
            found = self._find_in_chunk(position // CHUNK, query, edge, forward)
            if found is not None:
                return found
        return None

    def _find_in_chunk(self, chunk: int, query: Query, start: int, forward: bool) -> int | None:
        base, end = chunk * CHUNK, min(self.total, (chunk + 1) * CHUNK)
        low, high = (start, end) if forward else (base, start + 1)
        hits = np.flatnonzero(query.values[self.values(low, high)])
        if not len(hits):
            return None
        return low + int(hits[0 if forward else -1])


def _steps(ratio: int) -> int:
    return (ratio.bit_length() - 1) // (FACTOR.bit_length() - 1)


def _in_block(block: Block, unit: int, low: int, high: int) -> Summary:
    if unit >= CHUNK:
        level = block.ladder.levels[_steps(unit // CHUNK)]
        return Summary(level.peak[low:high], level.tally[:, low:high])
    per_chunk = CHUNK // MID
    chunk = low // per_chunk
    part = block.mids(chunk, -(-high // per_chunk))
    source = slice(low - chunk * per_chunk, high - chunk * per_chunk)
    return Summary(part.peak[source], part.tally[:, source])


def _hits(found: NDArray[np.bool_], behind: int | None, forward: bool) -> list[int]:
    """Where ``found`` is set, in searching order, strictly behind an index."""
    if forward:
        skip = 0 if behind is None else behind + 1
        hits: list[int] = (skip + np.flatnonzero(found[skip:])).tolist()
        return hits
    hits = np.flatnonzero(found if behind is None else found[:behind]).tolist()
    return hits[::-1]
