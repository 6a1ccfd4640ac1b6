"""Writing L2 tables anew in free clusters, with every L1 table that names them following."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..image.tables import l2_tables
from ..layout.distinct import distinct
from ..layout.geometry import Geometry
from ..layout.tables import I64, OFFSETS, U64
from .counting import COMPRESSED, COPIED

if TYPE_CHECKING:
    from .ledger import Ledger
    from .transaction import Transaction

#: ``change(offsets int64[k], entries uint64[k, n], bitmaps uint64[k, n] or None)`` gives the
#: entries and bitmaps wanted, of the same shapes.
Change = Callable[[I64, U64, U64 | None], tuple[U64, U64 | None]]


def encode_tables(entries: U64, bitmaps: U64 | None) -> memoryview:
    """The bytes of L2 tables, one after the other, from native ``entries`` and ``bitmaps``."""
    if bitmaps is None:
        words = entries.astype(">u8")
    else:
        words = np.empty((*entries.shape, 2), dtype=">u8")
        words[..., 0] = entries
        words[..., 1] = bitmaps
    return words.reshape(-1).view(np.uint8).data


def with_copied(entries: U64, ledger: Ledger, geometry: Geometry) -> U64:
    """``entries`` with COPIED set exactly where the cluster has a single reference."""
    offsets = entries & OFFSETS
    clusters = (offsets >> np.uint64(geometry.cluster_bits)).astype(np.int64)
    clusters[(entries & COMPRESSED) != 0] = 0
    plain = entries & ~COPIED
    return np.where(ledger.single(clusters), plain | COPIED, plain)


def write_scattered(
    tx: Transaction, clusters: I64, data: memoryview, what: str = "writing tables"
) -> None:
    """Write one cluster of ``data`` to each of ``clusters``; neighbours go in one call."""
    size = tx.geometry.cluster_size
    breaks = (np.flatnonzero(np.diff(clusters) != 1) + 1).tolist()
    starts = [0, *breaks]
    for first, stop in zip(starts, [*breaks, len(clusters)], strict=True):
        if first < stop:
            tx.guard.write(int(clusters[first]) * size, data[first * size : stop * size])


def rewrite_tables(tx: Transaction, offsets: I64, change: Change, followers: Sequence[U64]) -> int:
    """Give each L2 table at ``offsets`` (host bytes) to ``change``; how many it wanted otherwise.

    Those go to free clusters, and every entry of the L1 arrays ``followers`` that named the old
    place names the new one and counts there.  What the entries refer to is counted by the caller.
    """
    geometry, ledger = tx.geometry, tx.ledger
    offsets = distinct(offsets)
    old_places: list[I64] = []
    new_places: list[I64] = []
    bits = geometry.cluster_bits
    done = 0
    for batch in l2_tables(tx.image.storage, geometry, offsets):
        tx.step("rewriting L2 tables", done, len(offsets))
        done += len(batch.offsets)
        entries, bitmaps = change(batch.offsets, batch.entries, batch.bitmaps)
        differs = (entries != batch.entries).any(axis=1)
        if bitmaps is not None and batch.bitmaps is not None:
            differs |= (bitmaps != batch.bitmaps).any(axis=1)
        if not differs.any():
            continue
        old = batch.offsets[differs] >> bits
        own = (ledger.marks_of(old) & tx.MINE) != 0
        new = old.copy()
        new[~own] = ledger.allocate(int(np.count_nonzero(~own)))
        everything = bool(differs.all())
        data = encode_tables(
            entries if everything else entries[differs],
            bitmaps if everything or bitmaps is None else bitmaps[differs],
        )
        if own.any():
            order = np.argsort(new)
            size = geometry.cluster_size
            whole = np.frombuffer(data, dtype=np.uint8).reshape(len(new), size)[order]
            write_scattered(tx, new[order], whole.reshape(-1).data)
        else:
            write_scattered(tx, new, data)
        old_places.append(old[~own])
        new_places.append(new[~own])
    tx.step("rewriting L2 tables", len(offsets), len(offsets))
    if not old_places:
        return 0
    follow(tx, np.concatenate(old_places), np.concatenate(new_places), followers)
    return sum(map(len, old_places))


def follow(tx: Transaction, old: I64, new: I64, followers: Sequence[U64]) -> None:
    """Point the L1 entries that named table clusters ``old`` (ascending) at ``new``, and count."""
    if not len(old):
        return
    bits = np.uint64(tx.geometry.cluster_bits)
    for l1 in followers:
        clusters = ((l1 & OFFSETS) >> bits).astype(np.int64)
        place = np.searchsorted(old, clusters)
        place[place == len(old)] = 0
        named = (old[place] == clusters) & (clusters != 0)
        if not named.any():
            continue
        moved = new[place[named]]
        tx.ledger.add(clusters[named], -1)
        tx.ledger.add(moved, 1)
        l1[named] = (l1[named] & ~OFFSETS) | (moved.astype(np.uint64) << bits)


def settle(tx: Transaction, offsets: I64, followers: Sequence[U64]) -> int:
    """Make COPIED right in the L2 tables at ``offsets``; how many had to be written anew.

    With an external data file nothing is counted, and the flag says "allocated": it stays.
    """
    if tx.image.header.has_data_file:
        return 0

    def change(_: I64, entries: U64, bitmaps: U64 | None) -> tuple[U64, U64 | None]:
        return with_copied(entries, tx.ledger, tx.geometry), bitmaps

    return rewrite_tables(tx, offsets, change, followers)
