"""Moving clusters in a transaction: the content, and everything that refers to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...edit.counting import COMPRESSED
from ...edit.rewriting import follow, rewrite_tables
from ...image.tables import l2_tables
from ...layout.constants import BITMAP_TABLE_OFFSET_MASK
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64, compressed_fields, decode_u64, encode_u64
from ...record import replace
from .survey import all_l1

if TYPE_CHECKING:
    from ...edit.editor import Editor
    from ...edit.transaction import Transaction

#: Bytes copied between two safe points to stop.
_STEP = 64 << 20
_BITMAP_OFFSETS = np.uint64(BITMAP_TABLE_OFFSET_MASK)


class Moves(NamedTuple):
    """Host clusters ``old`` (ascending) go to ``new``, which are free (int64[n] each)."""

    old: I64
    new: I64

    def find(self, clusters: I64) -> tuple[NDArray[np.bool_], I64]:
        """(which of ``clusters`` move, the index of each that does)."""
        moves = (clusters >= self.old[0]) & (clusters <= self.old[-1])
        index = np.searchsorted(self.old, clusters[moves])
        hit = self.old[index] == clusters[moves]
        moves[moves] = hit
        return moves, index[hit]


NO_MOVES = Moves(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def table_ranks(editor: Editor, tx: Transaction, moves: Moves, tables: I64) -> I64:
    """For each of the L2 ``tables`` (clusters) the first of the moves that it must follow.

    len(moves) where it refers to none of them.
    """
    geometry = tx.geometry
    ranks = np.full(len(tables), len(moves.old), dtype=np.int64)
    done = 0
    for batch in l2_tables(tx.image.storage, geometry, tables << geometry.cluster_bits):
        editor.step("reading mappings", done, len(tables), "L2 tables")
        clusters = _first_clusters(tx, batch.entries)
        moved, index = moves.find(clusters.reshape(-1))
        if len(index):
            rank = np.full(moved.shape, len(moves.old), dtype=np.int64)
            rank[moved] = index
            ranks[done : done + len(clusters)] = rank.reshape(clusters.shape).min(axis=1)
        done += len(batch.offsets)
    return ranks


def move_data(editor: Editor, tx: Transaction, moves: Moves, tables: I64) -> None:
    """Move clusters of guest data and of bitmaps to clusters that were taken.

    ``tables``: the L2 tables (clusters) to rewrite; they go to the next free ones of the ledger.
    """
    if not len(moves.old):
        return
    geometry = tx.geometry
    _copy(editor, tx, moves)
    tx.ledger.move(*moves)

    def change(_: I64, entries: U64, bitmaps: U64 | None) -> tuple[U64, U64 | None]:
        moved, index = moves.find(_first_clusters(tx, entries).reshape(-1))
        if not len(index):
            return entries, bitmaps
        changed = entries.reshape(-1).copy()
        changed[moved] = _shifted(changed[moved], moves.new[index] - moves.old[index], geometry)
        return changed.reshape(entries.shape), bitmaps

    rewrite_tables(tx, tables << geometry.cluster_bits, change, all_l1(tx))


def move_tables(editor: Editor, tx: Transaction, moves: Moves) -> None:
    """Move L2 tables as they are, to clusters that were taken."""
    if len(moves.old):
        _copy(editor, tx, moves)
        follow(tx, *moves, all_l1(tx))


def move_bitmaps(tx: Transaction, moves: Moves | None, *, everything: bool) -> None:
    """Let the tables of bitmaps follow ``moves``; they are placed anew, all with ``everything``."""
    bits = np.uint64(tx.geometry.cluster_bits)
    for number, entry in enumerate(tx.bitmaps):
        data = tx.image.storage.read(entry.table_offset, entry.table_size * 8)
        table = decode_u64(data)
        moved = np.zeros(len(table), dtype=np.bool_)
        if moves is not None and len(moves.old):
            clusters = ((table & _BITMAP_OFFSETS) >> bits).astype(np.int64)
            moved, index = moves.find(clusters)
            places = moves.new[index].astype(np.uint64) << bits
            table[moved] = (table[moved] & ~_BITMAP_OFFSETS) | places
        if everything or moved.any():
            tx.release(entry.table_offset, entry.table_size * 8)
            offset = tx.place(encode_u64(table).data)
            tx.bitmaps[number] = replace(entry, table_offset=offset)


def _first_clusters(tx: Transaction, entries: U64) -> I64:
    """The host cluster each L2 entry begins in, 0 for none (int64, the shape of ``entries``)."""
    bits = tx.geometry.cluster_bits
    found: I64 = ((entries & OFFSETS) >> np.uint64(bits)).astype(np.int64)
    packed = (entries & COMPRESSED) != 0
    if tx.image.header.has_data_file:
        found[~packed] = 0
    if packed.any():
        found[packed] = compressed_fields(entries[packed], tx.geometry)[0] >> bits
    return found


def _shifted(entries: U64, clusters: I64, geometry: Geometry) -> U64:
    """L2 entries whose content went ``clusters`` further (which may be negative)."""
    distance = (clusters << geometry.cluster_bits).astype(np.uint64)
    packed = (entries & COMPRESSED) != 0
    fields = np.uint64((1 << geometry.compressed_offset_bits) - 1)
    field = np.where(packed, fields, OFFSETS)
    moved: U64 = (entries & ~field) | ((entries & field) + distance & field)
    return moved


def _copy(editor: Editor, tx: Transaction, moves: Moves) -> None:
    size = tx.geometry.cluster_size
    old, new = moves
    breaks = np.flatnonzero((np.diff(old) != 1) | (np.diff(new) != 1)) + 1
    starts = np.concatenate(([0], breaks))
    lengths = np.diff(starts, append=len(old)) * size
    sources, targets = old[starts] * size, new[starts] * size
    total, done = len(old) * size, 0
    for source, target, length in zip(
        sources.tolist(), targets.tolist(), lengths.tolist(), strict=True
    ):
        for at in range(0, length, _STEP):
            editor.step("moving clusters", done, total, "bytes")
            part = min(_STEP, length - at)
            tx.guard.copy(editor.storage, source + at, target + at, part)
            done += part
