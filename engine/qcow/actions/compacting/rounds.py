"""Packing an image in rounds, each a switch to a complete image, with little spare room.

A round moves what it can afford into free clusters below the future end; the tables it rewrites go
to free clusters too.  Once data and L2 tables are in their places, the last switch writes the roots
and the refcounts into the window that was kept for them.  What a round frees is given back before
the next one, so undo is given up at the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...layout.tables import I64
from .batches import Batches, Tally
from .layout import Runs, lay_out, shortest
from .moving import Moves, move_bitmaps, move_data, move_tables, table_ranks
from .survey import (
    BLOCK,
    DATA,
    FIXED,
    FREE,
    PACKED,
    ROOT,
    Survey,
    all_tables,
    first_true,
    has_role,
    survey,
)

if TYPE_CHECKING:
    from ...edit.editor import Editor
    from ...edit.transaction import Transaction

#: Clusters that are looked at for one round, which bounds the memory.
_MOST = 1 << 20
#: Bytes moved in one round, at least; see :meth:`Packing._most`.
_ROUND = 256 << 20


class Packing:
    """Packs the image of ``editor``.  ``spare``: bytes a round may take before it frees any."""

    def __init__(self, editor: Editor, spare: int, tally: Tally) -> None:
        self._editor = editor
        self._spare = spare
        self._tally = tally
        self._batches = Batches(editor)

    def run(self) -> None:
        """Raises as a commit does; every switch before the error leaves a complete image."""
        editor = self._editor
        tx = editor.begin()
        found = survey(editor, tx)
        per_block = tx.geometry.refcount_block_entries
        del tx  # and the memory of its ledger
        layout = lay_out(found, per_block)
        self._note_stuck(found, min(layout.end, len(found.roles)), per_block)
        if layout.end >= len(found.roles):
            return
        self._layout = layout
        #: Data that lies behind the end or in the place of roots and refcounts, and goes anywhere
        #: else (bool by host cluster).
        self._strays = np.zeros(max(len(found.roles), layout.end), dtype=np.bool_)
        np.equal(found.roles, DATA, out=self._strays[: len(found.roles)])
        np.greater(self._strays, layout.is_low(len(self._strays)), out=self._strays)
        del found
        self._roots = layout.reserved
        self._runs = _ascending(layout.runs)
        self._total = int(np.count_nonzero(self._strays)) + int(self._runs.clusters.sum())
        self._done = 0
        self._round(everything=True)
        while self._round():
            pass
        self._last()

    def _note_stuck(self, found: Survey, end: int, per_block: int) -> None:
        """Tell what kept the image from ending where the number of its clusters allows."""
        used = np.count_nonzero(~has_role(found.roles, FREE, ROOT, BLOCK))
        ideal = shortest(int(used) + found.roots, per_block)
        if end > ideal:
            above = found.roles[ideal:end]
            self._tally.stuck = int(np.count_nonzero(has_role(above, FIXED, PACKED)))
            self._tally.late = end - ideal

    def _begin(self) -> Transaction:
        tx = self._batches.begin()
        layout = self._layout
        tx.ledger.reserve(layout.window, layout.window + layout.reserved)
        for _, first, clusters in np.stack(self._runs, axis=1).tolist():
            tx.ledger.reserve(first, first + clusters)
        return tx

    def _round(self, *, everything: bool = False) -> bool:
        """One switch; whether there was anything to move.  ``everything``: roots, in any case."""
        tx = self._begin()
        tables = all_tables(tx)
        moves, rewrite = self._choose(tx, tables)
        data = moves
        if len(moves.old):
            self._editor.step("packing", self._done, self._total)
            self._unreserve(tx, moves)
            tx.ledger.take(moves.new)
            tx.ledger.seek(1)
            move_data(self._editor, tx, moves, rewrite)
            self._strays[moves.old] = False
        else:
            moves = self._choose_tables(tx, tables)
            tx.ledger.take(moves.new)
            move_tables(self._editor, tx, moves)
        if not (len(moves.old) or everything):
            return False
        # Above the future end, so that nothing has to make room for it twice.
        tx.ledger.seek(self._layout.end)
        tx.move_roots = everything
        move_bitmaps(tx, data, everything=everything)
        self._batches.commit(tx)
        self._done += len(data.old)
        self._tally.moved += len(moves.old)
        return True

    def _last(self) -> None:
        """Everything else is in its place: the roots and the refcounts go into the window."""
        tx = self._begin()
        layout = self._layout
        tx.ledger.unreserve(layout.window, layout.window + layout.reserved)
        tx.ledger.seek(layout.window)
        tx.move_roots = True
        move_bitmaps(tx, None, everything=True)
        self._batches.commit(tx)

    def _choose(self, tx: Transaction, tables: I64) -> tuple[Moves, I64]:
        """The data a round can afford to move, and the L2 tables that refer to it."""
        moves = self._candidates(tx)
        if not len(moves.old):
            return moves, tables[:0]
        ranks = table_ranks(self._editor, tx, moves, tables)
        ordered = np.sort(ranks)
        low, high = 1, len(moves.old)
        room = self._room(tx)
        while low < high:  # the most moves that fit with their tables
            middle = (low + high + 1) // 2
            if middle + int(np.searchsorted(ordered, middle)) <= room:
                low = middle
            else:
                high = middle - 1
        if len(self._runs.old):
            ends = np.cumsum(self._runs.clusters)
            runs = max(1, int(np.searchsorted(ends, low, side="right")))
            low = int(ends[runs - 1])
        return Moves(moves.old[:low], moves.new[:low]), tables[ranks < low]

    def _most(self, tx: Transaction) -> int:
        """Clusters of one round.

        The checks of a round cost more in a large image; what is moved stays in memory until its
        round is over, and costs more the longer that takes.
        """
        bits = tx.geometry.cluster_bits
        return max(1, min(_MOST, max(_ROUND >> bits, len(self._strays) >> 8)))

    def _candidates(self, tx: Transaction) -> Moves:
        """Data outside of its place, the lowest first, and places for it."""
        runs, most = self._runs, self._most(tx)
        if len(runs.old):
            ends = np.cumsum(runs.clusters)
            some = max(1, int(np.searchsorted(ends, most, side="right")))
            return Moves(*(_expanded(part[:some], runs.clusters[:some]) for part in runs[:2]))
        outside = first_true(self._strays, most)
        free = self._free(tx, len(outside))
        return Moves(outside[: len(free)], free)

    def _choose_tables(self, tx: Transaction, tables: I64) -> Moves:
        layout = self._layout
        window = (tables >= layout.window) & (tables < layout.window + layout.reserved)
        outside = tables[window | (tables >= layout.end)][: max(1, self._room(tx))]
        free = self._free(tx, len(outside))
        return Moves(outside[: len(free)], free)

    def _free(self, tx: Transaction, most: int) -> I64:
        free = tx.ledger.free(0, self._layout.end)
        free[self._layout.window : self._layout.window + self._layout.reserved] = False
        return first_true(free, most)

    def _room(self, tx: Transaction) -> int:
        """Clusters a round may take, besides those for roots and refcounts."""
        return max(2, self._spare // tx.geometry.cluster_size - self._roots)

    def _unreserve(self, tx: Transaction, moves: Moves) -> None:
        runs = self._runs
        if not len(runs.old):
            return
        count = int(np.searchsorted(np.cumsum(runs.clusters), len(moves.new), side="right"))
        for _, first, clusters in np.stack(runs, axis=1)[:count].tolist():
            tx.ledger.unreserve(first, first + clusters)
        self._runs = Runs(*(part[count:] for part in runs))


def _ascending(runs: Runs) -> Runs:
    order = np.argsort(runs.old, kind="stable")
    return Runs(*(part[order] for part in runs))


def _expanded(first: I64, lengths: I64) -> I64:
    """All clusters of runs that begin at ``first``."""
    before = np.cumsum(lengths) - lengths
    found: I64 = np.repeat(first - before, lengths) + np.arange(int(lengths.sum()))
    return found
