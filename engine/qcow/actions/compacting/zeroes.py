"""Data clusters that hold nothing but zeros become zero clusters, in every state that has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...edit.counting import COMPRESSED, table_clusters
from ...edit.rewriting import rewrite_tables
from ...edit.zero_content import hold_zeros
from ...image.tables import l2_tables
from ...inspect.classes import ClusterClass
from ...inspect.owners import scan_owners
from ...layout.constants import OFLAG_ZERO
from ...layout.distinct import distinct, distinct_counts
from ...layout.tables import I64, OFFSETS, U64
from .batches import Batches, Tally
from .survey import all_l1

if TYPE_CHECKING:
    from ...edit.editor import Editor
    from ...edit.transaction import Transaction

#: Bytes of the file looked at together.
_WINDOW = 1 << 28
_ZERO = np.uint64(OFLAG_ZERO)
_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)
_MAY_BE_ZERO = (ClusterClass.DATA, ClusterClass.SHARED, ClusterClass.VM_STATE)


class Zeroes:
    """Finds them by reading, and rewrites the L2 tables that name them.

    ``spare``: bytes of tables one switch may write; with ``keep`` it is a single one, so that undo
    stays.  Reserved zero clusters lose the space they reserve, too.
    """

    def __init__(self, editor: Editor, spare: int, tally: Tally, *, keep: bool) -> None:
        self._editor = editor
        self._tally = tally
        self._keep = keep
        self._geometry = editor.image.usable_geometry_for_tables()
        self._most = None if keep else max(1, spare // self._geometry.cluster_size)
        self._new = _ZERO if editor.image.header.version >= 3 else np.uint64(0)
        #: Host clusters of nothing but zeros.
        self._zeros: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def run(self) -> None:
        """Nothing for an external data file, and for version 2 with a backing file."""
        image = self._editor.image
        if image.header.has_data_file or (image.header.version < 3 and image.backing is not None):
            return
        self._find()
        batches = Batches(self._editor)
        while True:
            tx = self._editor.begin() if self._keep else batches.begin()
            tables, paths = distinct_counts(
                np.concatenate([table_clusters(l1, tx.geometry) for l1 in all_l1(tx)])
            )
            wanted = self._concerned(tx, tables)[: self._most]
            if not len(wanted):
                return
            self._rewrite(tx, tables, paths, tables[wanted])
            if self._keep:
                self._editor.commit(tx, tx.kept_views(moved=True))
                return
            batches.commit(tx)

    def _find(self) -> None:
        """Read all data of the file; what lies in its holes is zeros."""
        editor, bits = self._editor, self._geometry.cluster_bits
        found = scan_owners(editor.image, progress=editor.progress, cancel=editor.cancel)
        classes = found.classes.read(0, found.total)
        self._zeros = np.zeros(found.total, dtype=np.bool_)
        if editor.image.encrypted:  # ciphertext of zeros is no zeros
            return
        step = max(1, _WINDOW >> bits)
        for at in range(0, found.total, step):
            editor.step("looking for zeros", at << bits, found.total << bits, "bytes")
            data = np.flatnonzero(np.isin(classes[at : at + step], _MAY_BE_ZERO)) + at
            self._zeros[data] = hold_zeros(editor.storage, data, bits)
            self._tally.scanned += len(data) << bits

    def _hits(self, entries: U64, bitmaps: U64 | None) -> NDArray[np.bool_]:
        """Which entries name a cluster that need not be there."""
        offsets = entries & OFFSETS
        plain = (entries & COMPRESSED == 0) & (offsets != 0)
        clusters = (offsets >> np.uint64(self._geometry.cluster_bits)).astype(np.int64)
        clusters[~plain | (clusters >= len(self._zeros))] = 0
        if bitmaps is None:
            nothing = (entries & _ZERO) != 0
        else:
            nothing = (bitmaps & _LOW32) == 0
        hits: NDArray[np.bool_] = plain & (self._zeros[clusters] | nothing)
        return hits

    def _concerned(self, tx: Transaction, tables: I64) -> I64:
        """Indices of the tables with such entries."""
        found: list[I64] = []
        done = 0
        bits = self._geometry.cluster_bits
        for batch in l2_tables(tx.image.storage, self._geometry, tables << bits):
            self._editor.step("reading mappings", done, len(tables), "L2 tables")
            hits = self._hits(batch.entries, batch.bitmaps).any(axis=1)
            found.append(np.flatnonzero(hits) + done)
            done += len(batch.offsets)
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def _rewrite(self, tx: Transaction, tables: I64, paths: I64, wanted: I64) -> None:
        """``paths``: how many L1 entries name each of ``tables``."""
        bits = self._geometry.cluster_bits
        ledger = tx.ledger

        def change(offsets: I64, entries: U64, bitmaps: U64 | None) -> tuple[U64, U64 | None]:
            hits = self._hits(entries, bitmaps)
            gone = ((entries[hits] & OFFSETS) >> np.uint64(bits)).astype(np.int64)
            times = paths[np.searchsorted(tables, offsets >> bits)]
            ledger.add(np.repeat(gone, np.repeat(times, np.count_nonzero(hits, axis=1))), -1)
            left = ledger.counts_of(distinct(gone))
            self._tally.zeroed += int(np.count_nonzero(left == 0))
            tx.settle_all |= bool((left == 1).any())
            if bitmaps is None:
                return np.where(hits, self._new, entries), None
            shown = (bitmaps | bitmaps >> _SHIFT32) & _LOW32
            return (
                np.where(hits, np.uint64(0), entries),
                np.where(hits, shown << _SHIFT32, bitmaps),
            )

        rewrite_tables(tx, wanted << bits, change, all_l1(tx))
