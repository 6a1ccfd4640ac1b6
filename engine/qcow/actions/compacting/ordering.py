"""Bringing the data of the active state into the order of the guest disk, from the file's start on.

Stretch by stretch: what lies in the way goes to the highest free clusters, then the stretch takes
its place.  Each of the two is a switch to a complete image.  Compressed clusters stay where they
are; what lies in order already is not touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...edit.counting import COMPRESSED
from ...image.state import State
from ...inspect.fragmentation import fragmentation
from ...layout.tables import I64, OFFSETS
from .batches import Batches, Tally
from .moving import NO_MOVES, Moves, move_bitmaps, move_data, move_tables, table_ranks
from .survey import FIXED, PACKED, all_tables, survey

if TYPE_CHECKING:
    from ...edit.editor import Editor
    from ...edit.transaction import Transaction


class Ordering:
    """See the module.  ``spare``: bytes a round may take before it gives any back."""

    def __init__(self, editor: Editor, spare: int, tally: Tally) -> None:
        self._editor = editor
        self._spare = spare
        self._tally = tally
        self._batches = Batches(editor)

    def run(self) -> None:
        """Raises as a commit does; every switch before the error leaves a complete image."""
        editor = self._editor
        if editor.image.header.has_data_file or not self._helps():
            return
        tx = editor.begin()
        found = survey(editor, tx)
        total = _count_data(editor.image.active)
        slots = np.flatnonzero(~np.isin(found.roles, (FIXED, PACKED)))
        #: Where the data goes, and where that ends.
        self._slots = slots[slots > 0][:total]
        self._end = int(self._slots[-1]) + 1
        blocks = -(-len(found.roles) // tx.geometry.refcount_block_entries)
        room = self._spare // tx.geometry.cluster_size - found.roots - blocks
        self._most = max(1, room // 2)
        self._make_way(np.zeros(0, dtype=np.int64), roots=True)
        guest = done = 0
        while done < len(self._slots):
            editor.step("ordering", done, len(self._slots))
            guest, done = self._stretch(guest, done)

    def _helps(self) -> bool:
        """Whether reading the disk goes elsewhere in the file more often than the tables ask."""
        active = self._editor.image.active
        found = fragmentation(active, cancel=self._editor.cancel)
        plain = found.allocated_clusters - found.compressed_clusters
        needed = 1 + int(np.count_nonzero(active.l1() & OFFSETS))
        return plain > 0 and (found.jumps_back > 0 or found.runs > needed)

    def _stretch(self, guest: int, done: int) -> tuple[int, int]:
        """Bring the data from guest cluster ``guest`` on into the slots from number ``done`` on.

        What comes after them; nothing is left when the slots are used up.
        """
        data, after = self._data(guest, done)
        if not len(data):
            return after, len(self._slots)
        slots = self._slots[done : done + len(data)]
        if not np.array_equal(data, slots):
            self._make_way(slots[data != slots])
            data, _ = self._data(guest, done)
            self._place(data, slots)
        return after, done + len(data)

    def _data(self, guest: int, done: int) -> tuple[I64, int]:
        """(host clusters of the next data in guest order, the guest cluster behind it)."""
        active = self._editor.image.active
        bits = np.uint64(active.geometry.cluster_bits)
        most = min(self._most, len(self._slots) - done)
        found: list[I64] = []
        missing = most
        at = guest
        for window in active.windows(guest):
            at = window.first + window.clusters
            if window.entries is None:
                continue
            offsets = window.entries & OFFSETS
            plain = np.flatnonzero((window.entries & COMPRESSED == 0) & (offsets != 0))
            clusters = (offsets[plain] >> bits).astype(np.int64)
            # A cluster that guest clusters share has its place already.
            fresh = ~np.isin(clusters, self._slots[:done])
            plain, clusters = plain[fresh][:missing], clusters[fresh][:missing]
            found.append(clusters)
            missing -= len(clusters)
            if not missing:
                at = window.first + int(plain[-1]) + 1
                break
        every = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
        _, first = np.unique(every, return_index=True)
        return every[np.sort(first)], at

    def _make_way(self, slots: I64, *, roots: bool = False) -> None:
        """Free ``slots``; with ``roots`` the tables above the L2 tables go above all slots."""
        tx = self._batches.begin()
        tables = all_tables(tx)
        used = slots[tx.ledger.counts[slots] != 0]
        is_table = np.isin(used, tables)
        data, old_tables = used[~is_table], used[is_table]
        if not (len(used) or roots):
            return
        tx.ledger.seek(self._end)
        moves = NO_MOVES
        if len(data):
            moves = Moves(data, self._high(tx, slots, len(data)))
            self._move(tx, moves, tables)
        left = old_tables[np.isin(old_tables, all_tables(tx))]
        move_tables(self._editor, tx, Moves(left, tx.ledger.allocate(len(left))))
        tx.move_roots = roots
        move_bitmaps(tx, moves, everything=roots)
        self._batches.commit(tx)

    def _place(self, data: I64, slots: I64) -> None:
        elsewhere = data != slots
        order = np.argsort(data[elsewhere])
        moves = Moves(data[elsewhere][order], slots[elsewhere][order])
        if not len(moves.old):
            return
        tx = self._batches.begin()
        tx.ledger.take(moves.new)
        tx.ledger.seek(self._end)
        self._move(tx, moves, all_tables(tx))
        move_bitmaps(tx, moves, everything=False)
        self._batches.commit(tx)

    def _move(self, tx: Transaction, moves: Moves, tables: I64) -> None:
        ranks = table_ranks(self._editor, tx, moves, tables)
        move_data(self._editor, tx, moves, tables[ranks < len(moves.old)])
        self._tally.ordered += len(moves.old)

    def _high(self, tx: Transaction, slots: I64, clusters: int) -> I64:
        """Take free clusters behind ``slots``: the highest below their end, then those above it."""
        first = int(slots[-1]) + 1
        below: I64 = np.flatnonzero(tx.ledger.free(first, self._end))[-clusters:] + first
        tx.ledger.take(below)
        return np.concatenate((below, tx.ledger.allocate(clusters - len(below))))


def _count_data(state: State) -> int:
    """Clusters of data and reserved zeros on the disk of one state, compressed ones aside."""
    total = 0
    for window in state.windows():
        if window.entries is not None:
            plain = (window.entries & COMPRESSED == 0) & (window.entries & OFFSETS != 0)
            total += int(np.count_nonzero(plain))
    return total
