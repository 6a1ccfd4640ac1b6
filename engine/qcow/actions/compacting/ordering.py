"""Bringing the data of the active state into the order of the guest disk, from the file's start on.

Stretch by stretch: what lies in the way goes to the highest free clusters, then the stretch takes
its place.  Each of the two is a switch to a complete image.  Compressed clusters stay where they
are; what lies in order already is not touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...edit.counting import COMPRESSED
from ...image.state import State
from ...inspect.fragmentation import fragmentation
from ...layout.tables import I64, OFFSETS
from .batches import Batches, Tally
from .moving import NO_MOVES, Moves, move_bitmaps, move_data, move_tables, table_ranks
from .survey import FIXED, PACKED, all_tables, first_true, has_role, survey

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
        per_block = tx.geometry.refcount_block_entries
        size = tx.geometry.cluster_size
        del tx  # and the memory of its ledger
        total = _count_data(editor.image.active)
        #: Where data can go, by host cluster, up to where the last of it goes.
        self._slots = ~has_role(found.roles, FIXED, PACKED)
        self._end = _after(self._slots, total)
        self._slots = self._slots[: self._end]
        #: Clusters below it are in order.
        self._next = 0
        blocks = -(-len(found.roles) // per_block)
        room = self._spare // size - found.roots - blocks
        self._most = max(1, room // 2)
        self._make_way(np.zeros(0, dtype=np.int64), roots=True)
        guest = done = 0
        while done < total:
            editor.step("ordering", done, total)
            guest, brought = self._stretch(guest)
            if not brought:
                break
            done += brought

    def _helps(self) -> bool:
        """Whether reading the disk goes elsewhere in the file more often than the tables ask."""
        active = self._editor.image.active
        found = fragmentation(active, cancel=self._editor.cancel)
        plain = found.allocated_clusters - found.compressed_clusters
        needed = 1 + int(np.count_nonzero(active.l1() & OFFSETS))
        return plain > 0 and (found.jumps_back > 0 or found.runs > needed)

    def _stretch(self, guest: int) -> tuple[int, int]:
        """Bring the data from guest cluster ``guest`` on to the next slots.

        The guest cluster behind it, and how many clusters it is.
        """
        data, after = self._data(guest)
        slots = first_true(self._slots, len(data), self._next)
        data = data[: len(slots)]
        if not np.array_equal(data, slots):
            self._make_way(slots[data != slots])
            data, _ = self._data(guest)
            self._place(data[: len(slots)], slots)
        self._next = int(slots[-1]) + 1 if len(slots) else self._end
        return after, len(data)

    def _data(self, guest: int) -> tuple[I64, int]:
        """(host clusters of the next data in guest order, the guest cluster behind it)."""
        active = self._editor.image.active
        bits = np.uint64(active.geometry.cluster_bits)
        found: list[I64] = []
        missing, at = self._most, guest
        for window in active.windows(guest):
            at = window.first + window.clusters
            if window.entries is None:
                continue
            offsets = window.entries & OFFSETS
            plain = np.flatnonzero((window.entries & COMPRESSED == 0) & (offsets != 0))
            clusters = (offsets[plain] >> bits).astype(np.int64)
            # A cluster that several guest clusters name has its place already.
            fresh = clusters >= self._next
            fresh[~fresh] = ~self._slots[clusters[~fresh]]
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
        used = slots[tx.ledger.counts_of(slots) != 0]
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


def _after(mask: NDArray[np.bool_], number: int) -> int:
    """The index behind the ``number``-th true element, or behind the last one."""
    at, step = 0, 1 << 20
    while at < len(mask) and (some := int(np.count_nonzero(mask[at : at + step]))) < number:
        number -= some
        at += step
    found = np.flatnonzero(mask[at : at + step])[:number]
    return at + int(found[-1]) + 1 if len(found) else len(mask)


def _count_data(state: State) -> int:
    """Clusters of data and reserved zeros on the disk of one state, compressed ones aside."""
    total = 0
    for window in state.windows():
        if window.entries is not None:
            plain = (window.entries & COMPRESSED == 0) & (window.entries & OFFSETS != 0)
            total += int(np.count_nonzero(plain))
    return total
