"""A second walk over L2 tables: COPIED flags against refcounts, and who refers to bad clusters.

It needs to see only windows whose clusters are not what the first walk took them for; for a sound
image without snapshots that is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import StorageError
from ...findings import FindingKind
from ...image.image import Image
from ...layout.constants import OFFSET_MASK, OFLAG_COMPRESSED, OFLAG_COPIED
from ...layout.distinct import distinct
from ...layout.tables import I64, OFFSETS, U64, compressed_fields
from ...parallel import share_out, threads_for
from . import kinds as K
from .codes import (
    CAUSE,
    CAUSE_HIGH,
    CAUSE_LOW,
    CAUSE_OVERFLOW,
    CAUSE_OVERLAP,
    CAUSE_STALE,
    CAUSE_ZERO,
    ONE,
    PACKED,
    TRUE_ONE,
    UNKNOWN,
    USED,
)
from .collect import MAX_EXAMPLES, Collector, EntryRuns
from .compare import shown_refcount
from .counts import Counts
from .entries import Runs, WindowFacts
from .faults import Scope
from .tables import TableReader, TableWindow

KIND_OF_CAUSE: dict[int, FindingKind] = {
    CAUSE_ZERO: K.REFCOUNT_ZERO,
    CAUSE_LOW: K.REFCOUNT_LOW,
    CAUSE_HIGH: K.REFCOUNT_HIGH,
    CAUSE_OVERLAP: K.OVERLAP,
    CAUSE_STALE: K.REFCOUNT_STALE,
    CAUSE_OVERFLOW: K.REFCOUNT_OVERFLOW,
}
_COMPRESSED = np.uint64(OFLAG_COMPRESSED)
_COPIED = np.uint64(OFLAG_COPIED)
#: Odd entries of different windows that are judged together.
_TOGETHER = 1 << 16
#: A window is looked at again without asking further when its clusters lie this far apart.
_SPREAD = 16


class Entries(NamedTuple):
    """L2 entries of any tables, those of one table side by side and ascending.

    int64[n] ``table``: host offset of the table; ``number``: in the table; ``cluster``: the host
    cluster it refers to.  uint64[n] ``entry``.
    """

    table: I64
    number: I64
    entry: U64
    cluster: I64


class SecondLook:
    """``last``: whether the range of ``counts`` is the last one, with everything behind it."""

    def __init__(
        self, image: Image, scope: Scope, counts: Counts, collector: Collector, *, last: bool
    ) -> None:
        self._image = image
        self._scope = scope
        self._counts = counts
        self._collector = collector
        self._last = last
        self._bits = scope.geometry.cluster_bits
        self._table_bits = scope.geometry.l2_entries.bit_length() - 1
        codes = counts.codes
        self._flags = _flags(codes)
        self._facts: Sequence[WindowFacts] = ()
        self._double: list[I64] = []  # clusters of compressed data that plain entries refer to, too

    def run(
        self,
        windows: Sequence[TableWindow],
        facts: Sequence[WindowFacts],
        between: Callable[[int], None],
    ) -> None:
        self._facts = facts
        chosen = [w for w in windows if self._is_suspect(w, facts[w.number])]
        if chosen:
            share_out(chosen, self._work, threads_for(len(chosen)), between)
        if self._double:
            clusters = distinct(np.concatenate(self._double))
            alone = np.count_nonzero(self._counts.codes_at(clusters) & CAUSE == 0)
            self._collector.totals(extra_corruptions=int(alone))
            self._collector.add(
                K.OVERLAP,
                len(clusters),
                hosts=(clusters, np.ones(len(clusters), dtype=np.int64)),
                examples=[
                    (cluster, f"cluster {cluster}: guest data and compressed data")
                    for cluster in clusters[:MAX_EXAMPLES].tolist()
                ],
            )

    def _is_suspect(self, window: TableWindow, facts: WindowFacts) -> bool:
        if facts.low > facts.high and not facts.beyond:
            return False
        check_copied = bool(window.active and facts.allocated) and window.offsets[0] != 0
        if check_copied and (facts.beyond or 0 < facts.copied < facts.allocated):
            return True
        # A window of runs need not be read again, so that it is not worth a closer look here.
        closer = facts.runs is None
        codes = self._flags
        for turn in range(2):
            odd = codes & _CAUSE_SEEN or (facts.allocated and codes & _PACKED_SEEN)
            if check_copied:
                odd = odd or codes & (_SHARED_SEEN if facts.copied else _ONE_SEEN)
            if not odd or turn or not closer:
                return bool(odd)
            where = self._counts.positions(facts.low, facts.high + 1)
            if where.stop - where.start > _SPREAD * (facts.allocated + facts.compressed):
                return True
            codes = _flags(self._counts.codes[where])
        return False

    def _work(self, take: Callable[[], TableWindow | None]) -> None:
        reader = TableReader(self._image.storage, self._scope.geometry)
        # Windows of runs give few entries each: they are judged many windows at a time.
        few: list[Entries] = []
        active = held = 0
        while (window := take()) is not None:
            runs = self._facts[window.number].runs
            if runs is None:
                try:
                    words, _ = reader.load(window.offsets)
                except StorageError:
                    _, words, _ = reader.load_each(window.offsets)
                self._look(window, words)
                continue
            if window.active != active or held > _TOGETHER:
                self._judge_all(few, active)
                few, held = [], 0
            active = window.active
            few.append(self._odd_ones(window, runs))
            held += len(few[-1].number)
        self._judge_all(few, active)

    def _judge_all(self, parts: list[Entries], active: int) -> None:
        if parts:
            self._judge(Entries(*(np.concatenate(c) for c in zip(*parts, strict=True))), active)

    def _odd_ones(self, window: TableWindow, runs: Runs) -> Entries:
        """Those entries of a window that are not as they should be.

        The window need not be read for that: its runs say what is in it.
        """
        parts = [self._odd_in(runs, flag) for flag in (True, False)]
        run, clusters = (np.concatenate(column) for column in zip(*parts, strict=True))
        index = runs.start[run] + clusters - runs.first[run]
        order = np.argsort(index, kind="stable")
        clusters = clusters[order]
        entries = (clusters << self._bits).astype(np.uint64)
        entries[runs.copied[run[order]]] |= _COPIED
        return self._entries(window, index[order], entries, clusters)

    def _entries(self, window: TableWindow, index: I64, entries: U64, clusters: I64) -> Entries:
        number = index & ((1 << self._table_bits) - 1)
        return Entries(window.offsets[index >> self._table_bits], number, entries, clusters)

    def _odd_in(self, runs: Runs, copied: bool) -> tuple[I64, I64]:
        """(number of the run, cluster) of the odd clusters of the runs with that flag."""
        chosen = np.flatnonzero(runs.copied == copied)
        chosen = chosen[np.argsort(runs.first[chosen], kind="stable")]
        if not len(chosen):
            return chosen, chosen
        odd = _odd(copied)
        first = runs.first[chosen]
        stop = first + runs.length[chosen]
        together = int(stop[-1] - first[0]) <= _SPREAD * int((stop - first).sum())
        if together and bool((first[1:] >= stop[:-1]).all()):
            clusters = self._counts.select(int(first[0]), int(stop[-1]), odd)
            run = np.searchsorted(first, clusters, side="right") - 1
            inside = clusters < stop[run]
            return chosen[run[inside]], clusters[inside]
        found = [
            self._counts.select(begin, end, odd)
            for begin, end in zip(first.tolist(), stop.tolist(), strict=True)
        ]
        return np.repeat(chosen, [len(part) for part in found]), np.concatenate(found)

    def _look(self, window: TableWindow, words: U64) -> None:
        compressed = (words & _COMPRESSED) != 0
        if compressed.any():
            self._look_at_compressed(window, np.flatnonzero(compressed), words[compressed])
        index = np.flatnonzero((words & OFFSETS != 0) & ~compressed)
        entries = words[index]
        clusters = ((entries & OFFSETS) >> np.uint64(self._bits)).astype(np.int64)
        mine = self._mine(clusters)
        if mine is not None:
            index, entries, clusters = index[mine], entries[mine], clusters[mine]
        # The "table" at offset 0 is the header; QEMU compares no flags there.
        active = window.active if window.offsets[0] else 0
        self._judge(self._entries(window, index, entries, clusters), active)

    def _judge(self, found: Entries, active: int) -> None:
        """Judge entries that are neither empty nor compressed, of tables used ``active`` times."""
        if not len(found.number):
            return
        codes = self._counts.codes_at(found.cluster)
        if active:
            self._compare_copied(found, codes, active)
        self._name_causes(found, codes)
        packed = codes & PACKED != 0
        if packed.any():
            self._double.append(distinct(found.cluster[packed]))
            runs = EntryRuns.of(found.table[packed], found.number[packed])
            self._collector.add(K.OVERLAP, 0, entries=runs)

    def _mine(self, clusters: I64) -> NDArray[np.bool_] | None:
        """Which clusters belong to this range; None when all do."""
        low, high = self._counts.low, self._counts.high
        if low == 0 and self._last:
            return None
        mine: NDArray[np.bool_] = clusters >= low
        return mine if self._last else mine & (clusters < high)

    def _compare_copied(self, found: Entries, codes: NDArray[np.uint8], active: int) -> None:
        copied = found.entry >= _COPIED
        wrong = (copied != (codes & ONE != 0)) & (codes & UNKNOWN == 0)
        if not wrong.any():
            return
        # QEMU leaves a table out whose own refcount it cannot read.
        tables = self._counts.codes_at(found.table[wrong] >> self._bits)
        wrong[wrong] = tables & UNKNOWN == 0
        self._collector.totals(corruptions=int(np.count_nonzero(wrong)) * active)
        # Where the flag says what the count should be, the wrong count is the cause.
        own = wrong & (copied != (codes & TRUE_ONE != 0))
        for kind, which in ((K.COPIED_SET, own & copied), (K.COPIED_MISSING, own & ~copied)):
            where = np.flatnonzero(which)
            if len(where):
                runs = EntryRuns.of(found.table[where], found.number[where])
                self._collector.add(kind, len(where), entries=runs, note="guest data")
                places = found.table[where] + found.number[where]
                self._copied_examples(kind, places, found.entry[where])
        absorbed = wrong & ~own
        if not absorbed.any():
            return
        for cause, kind in KIND_OF_CAUSE.items():
            where = np.flatnonzero(absorbed & (codes & CAUSE == cause))
            if len(where):
                self._collector.add(kind, 0, flags=len(where))
                self._copied_examples(kind, found.cluster[where], found.entry[where])

    def _copied_examples(self, kind: FindingKind, keys: I64, entries: U64) -> None:
        for key, entry in zip(
            keys[:MAX_EXAMPLES].tolist(), entries[:MAX_EXAMPLES].tolist(), strict=True
        ):
            if self._collector.wants(kind, key):
                count = shown_refcount(self._image, (entry & OFFSET_MASK) >> self._bits)
                text = f"ERROR OFLAG_COPIED data cluster: l2_entry={entry:x} refcount={count}"
                self._collector.add(kind, 0, examples=[(key, text)])

    def _look_at_compressed(self, window: TableWindow, index: I64, entries: U64) -> None:
        offsets, lengths = compressed_fields(entries, self._scope.geometry)
        first, last = offsets >> self._bits, (offsets + lengths - 1) >> self._bits
        for step in range(int((last - first).max()) + 1):
            there = first + step <= last
            clusters = (first + step)[there]
            found = self._entries(window, index[there], entries[there], clusters)
            self._name_causes(found, self._counts.codes_at(clusters))

    def _name_causes(self, found: Entries, codes: NDArray[np.uint8]) -> None:
        causes = codes & CAUSE
        if not causes.any():
            return
        for cause, kind in KIND_OF_CAUSE.items():
            where = np.flatnonzero(causes == cause)
            if len(where):
                runs = EntryRuns.of(found.table[where], found.number[where])
                self._collector.add(kind, 0, entries=runs, note="guest data")


def _odd(copied: bool) -> Callable[[NDArray[np.uint8]], NDArray[np.bool_]]:
    """Which codes are not those of a sound cluster with that flag in what refers to it."""
    expected = ONE if copied else 0
    return lambda codes: (codes & np.uint8(ONE | CAUSE | PACKED)) != expected


_CAUSE_SEEN, _PACKED_SEEN, _SHARED_SEEN, _ONE_SEEN = 1, 2, 4, 8


def _flags(codes: NDArray[np.uint8]) -> int:
    """What occurs in ``codes``, as a bit mask."""
    if not len(codes):
        return 0
    seen = 0
    step = 1 << 20
    for at in range(0, len(codes), step):
        part = codes[at : at + step]
        joined = int(np.bitwise_or.reduce(part))
        seen |= _CAUSE_SEEN if joined & CAUSE else 0
        seen |= _PACKED_SEEN if joined & PACKED else 0
        seen |= _ONE_SEEN if joined & ONE else 0
        if (
            joined & USED
            and not seen & _SHARED_SEEN
            and bool(((part & (ONE | USED)) == USED).any())
        ):
            seen |= _SHARED_SEEN
    return seen
