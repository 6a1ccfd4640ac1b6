"""What each host cluster is to a compaction: whether it can move, and with which others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...edit.counting import COMPRESSED, table_clusters
from ...image.tables import l2_tables
from ...inspect.classes import ClusterClass
from ...inspect.owners import scan_owners
from ...layout.bitmaps import encode_bitmap_directory
from ...layout.distinct import distinct
from ...layout.snapshots import encode_snapshot_table
from ...layout.tables import I64, U64, compressed_fields

if TYPE_CHECKING:
    from ...edit.editor import Editor
    from ...edit.transaction import Transaction

# Roles of host clusters.
FREE, FIXED, DATA, PACKED, TABLE, ROOT, BLOCK = (np.uint8(n) for n in range(7))

_C = ClusterClass
_ROLES = {
    DATA: (_C.ZERO_ALLOCATED, _C.DATA, _C.SHARED, _C.VM_STATE, _C.COMPRESSED, _C.BITMAP),
    TABLE: (_C.L2,),
    ROOT: (_C.L1, _C.SNAPSHOT_L1, _C.SNAPSHOT_TABLE, _C.REFCOUNT_TABLE),
    BLOCK: (_C.REFCOUNT_BLOCK,),
}

Roles = NDArray[np.uint8]
#: Clusters looked at together.
_PART = 1 << 20


class Survey(NamedTuple):
    """``roles``: uint8 by host cluster, up to the last used one.

    DATA can move alone; PACKED are compressed clusters of which a stream spans two, so that they
    stay side by side: ``runs`` (int64[n, 2]: first cluster, clusters).  TABLE is an L2 table; ROOT
    what lies above them, in ``roots`` clusters when placed anew; BLOCK a refcount block; FIXED
    cannot move: the header, leaks, and what is not understood.
    """

    roles: Roles
    runs: I64
    roots: int


def survey(editor: Editor, tx: Transaction) -> Survey:
    """Look at every cluster of the present image.  Raises Cancelled."""
    image, geometry = editor.image, tx.geometry
    end = tx.ledger.last_used() + 1
    found = scan_owners(image, progress=editor.progress, cancel=editor.cancel)
    by_class = np.full(len(ClusterClass), FIXED, dtype=np.uint8)
    for role, members in _ROLES.items():
        by_class[list(members)] = role
    if not tx.bitmaps:
        by_class[_C.BITMAP] = FIXED
    roles = np.empty(end, dtype=np.uint8)
    compressed = False
    for at in range(0, end, _PART):  # an index takes eight times the memory of what it looks up
        stop = min(end, at + _PART)
        classes = found.classes.read(at, stop)
        compressed |= bool((classes == _C.COMPRESSED).any())
        part = roles[at:stop]
        part[:] = by_class[classes]
        part[tx.ledger.counts_in(at, stop) == 0] = FREE
    _mark_bitmap_roots(tx, roles)
    runs = np.zeros((0, 2), dtype=np.int64)
    if compressed:
        packed = found.classes.read(0, end) == _C.COMPRESSED
        runs = _linked(editor, tx, packed, roles)
    sizes = [len(tx.l1) * 8, *(draft.entry.l1_size * 8 for draft in tx.snapshots)]
    if tx.snapshots:
        sizes.append(len(encode_snapshot_table(draft.entry for draft in tx.snapshots)))
    if tx.bitmaps:
        sizes += (entry.table_size * 8 for entry in tx.bitmaps)
        sizes.append(len(encode_bitmap_directory(tx.bitmaps)))
    roots = sum(map(geometry.clusters, sizes)) + image.header.refcount_table_clusters
    return Survey(roles, runs, roots)


def all_tables(tx: Transaction) -> I64:
    """Host clusters of the L2 tables of all states (int64, ascending, no repeats)."""
    return distinct(np.concatenate([table_clusters(l1, tx.geometry) for l1 in all_l1(tx)]))


def has_role(roles: Roles, *members: np.uint8) -> NDArray[np.bool_]:
    """Which clusters have one of these roles."""
    found: NDArray[np.bool_] = roles == members[0]
    for role in members[1:]:
        found |= roles == role
    return found


def first_true(mask: NDArray[np.bool_], most: int, start: int = 0) -> I64:
    """The indices of the first ``most`` true elements from ``start`` on (int64, ascending).

    Looked for in parts, since indices take eight times the memory of a mask.
    """
    found: list[I64] = []
    for at in range(start, len(mask), _PART):
        if most <= 0:
            break
        some: I64 = np.flatnonzero(mask[at : at + _PART])[:most] + at
        found.append(some)
        most -= len(some)
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def all_l1(tx: Transaction) -> list[U64]:
    """The L1 tables of all states; changing one changes the state."""
    return [tx.l1, *(draft.l1 for draft in tx.snapshots)]


def _mark_bitmap_roots(tx: Transaction, roles: Roles) -> None:
    if not tx.bitmaps or tx.image.bitmap_directory is None:
        return
    places = [(entry.table_offset, entry.table_size * 8) for entry in tx.bitmaps]
    for offset, length in [*places, tx.image.bitmap_directory]:
        first = offset >> tx.geometry.cluster_bits
        roles[first : first + tx.geometry.clusters(length)] = ROOT


def _linked(editor: Editor, tx: Transaction, packed: NDArray[np.bool_], roles: Roles) -> I64:
    """The runs of compressed clusters that streams tie together; their roles become PACKED."""
    geometry = tx.geometry
    bits = geometry.cluster_bits
    tied = np.zeros(len(roles) + 1, dtype=np.bool_)  # to the cluster after it
    tables = all_tables(tx)
    done = 0
    for batch in l2_tables(tx.image.storage, geometry, tables << bits):
        editor.step("reading mappings", done, len(tables), "L2 tables")
        done += len(batch.offsets)
        streams = batch.entries[(batch.entries & COMPRESSED) != 0]
        if not len(streams):
            continue
        offsets, lengths = compressed_fields(streams, geometry)
        first, last = offsets >> bits, (offsets + lengths - 1) >> bits
        step = 0
        while bool((more := first + step < last).any()):
            tied[(first + step)[more]] = True
            step += 1
    edges = np.flatnonzero(np.diff(tied, prepend=False, append=False)).reshape(-1, 2)
    runs = np.stack((edges[:, 0], edges[:, 1] - edges[:, 0] + 1), axis=1)
    kept = []
    for number, (start, clusters) in enumerate(runs.tolist()):
        part = slice(start, start + clusters)
        # A stream's last sectors may reach over the end of what is counted.
        whole = start + clusters <= len(roles) and bool(packed[part].all())
        roles[part] = PACKED if whole else FIXED
        if whole:
            kept.append(number)
    found: I64 = runs[np.array(kept, dtype=np.int64)]
    return found
