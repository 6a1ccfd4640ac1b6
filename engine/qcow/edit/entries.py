"""L2 entries as arrays: what they say, and which ones an edit wants (qcow2 spec, "Standard
Cluster Descriptor", "Extended L2 Entries")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..layout.constants import OFLAG_ZERO
from ..layout.geometry import Geometry
from ..layout.tables import I64, OFFSETS, U64
from .counting import COMPRESSED, COPIED

ZERO = np.uint64(OFLAG_ZERO)
#: Subcluster bitmaps of a whole cluster of data, and of zeros.
ALL_ALLOCATED = np.uint64(0xFFFFFFFF)
ALL_ZEROES = np.uint64(0xFFFFFFFF00000000)

Mapping = tuple[U64, U64 | None]


def allocated(entries: U64, *, external: bool) -> NDArray[np.bool_]:
    """Which entries have a host cluster, compressed ones included.

    In an external data file offset 0 is a place like any other, and COPIED tells.
    """
    mask = OFFSETS | COMPRESSED | (COPIED if external else np.uint64(0))
    there: NDArray[np.bool_] = (entries & mask) != 0
    return there


def data_entries(hosts: I64, geometry: Geometry, *, external: bool) -> Mapping:
    """Entries (and bitmaps) of whole clusters of data at host offsets ``hosts``."""
    entries = hosts.astype(np.uint64)
    if external:
        entries |= COPIED
    if not geometry.extended_l2:
        return entries, None
    return entries, np.full(len(entries), ALL_ALLOCATED, dtype=np.uint64)


def zero_entries(
    entries: U64, bitmaps: U64 | None, geometry: Geometry, *, keep_allocation: bool
) -> Mapping:
    """What maps whole clusters as zeros instead; in version 2, which cannot say so, as nothing.

    ``keep_allocation`` keeps host clusters that hold a cluster of their own.
    """
    if geometry.version < 3:
        return np.zeros_like(entries), bitmaps
    kept = np.zeros_like(entries)
    if keep_allocation:
        kept = np.where((entries & COMPRESSED) != 0, kept, entries)
    if bitmaps is not None:
        return kept, np.full_like(bitmaps, ALL_ZEROES)
    return kept | ZERO, None


def discarded_entries(
    entries: U64, bitmaps: U64 | None, geometry: Geometry, chosen: NDArray[np.bool_]
) -> Mapping:
    """With those ``chosen`` given up, so that they read as zeros; in version 2 as nothing."""
    if bitmaps is not None:
        return (
            np.where(chosen, np.uint64(0), entries),
            np.where(chosen, ALL_ZEROES, bitmaps),
        )
    flag = ZERO if geometry.version >= 3 else np.uint64(0)
    return np.where(chosen, flag, entries), None
