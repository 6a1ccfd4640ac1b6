"""The large tables of an image, read in bounded windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..layout.constants import L1_RESERVED_MASK
from ..layout.geometry import Geometry
from ..layout.tables import I64, OFFSETS, U64, decode_u64
from ..storage.base import Storage
from ..storage.buffers import ReadBuffer, page_aligned

if TYPE_CHECKING:
    from .state import State

#: Bytes of L2 tables that are decoded at a time.
WINDOW_BYTES = 1 << 20


class L2Window(NamedTuple):
    """The mapping of ``clusters`` adjacent guest clusters from guest cluster ``first``.

    ``entries``: uint64[clusters], native order; None when no L2 table exists there (``fault`` is
    None) or it cannot be read (``fault`` says why).  ``bitmaps``: uint64[clusters], the subcluster
    bitmaps of extended L2 entries, else None.
    """

    first: int
    clusters: int
    entries: U64 | None
    bitmaps: U64 | None
    fault: str | None = None


def read_l1(storage: Storage, offset: int, entries: int) -> U64:
    """The L1 entries that are in the file (uint64, native); fewer than ``entries`` if it is cut."""
    return decode_u64(storage.read(offset, entries * 8))


def l2_fault(entry: int, geometry: Geometry, file_size: int) -> str | None:
    """Why the L2 table of an L1 entry cannot be read, as a phrase, or None.

    Reserved bits do not keep it from being read (QEMU masks them; a check reports them).
    """
    offset = entry & int(OFFSETS)
    if offset & (geometry.cluster_size - 1):
        return f"the L2 table offset {offset:#x} is not at the start of a cluster"
    if offset >= file_size:
        return f"the L2 table at {offset:#x} lies beyond the end of the file"
    return None


def l1_reserved_bits(entries: U64) -> U64:
    """The reserved bits that are set in each L1 entry."""
    return entries & np.uint64(L1_RESERVED_MASK)


def l2_windows(state: State, first: int = 0, clusters: int | None = None) -> Iterator[L2Window]:
    """The mapping of guest clusters ``[first, first + clusters)`` of ``state``, without gaps.

    Windows never reach past the disk's last cluster.  Long stretches without L2 tables come as one
    window; L2 tables come up to about 1 MiB at a time.
    """
    geometry = state.geometry
    total = geometry.clusters(state.virtual_size)
    stop = total if clusters is None else min(total, first + clusters)
    per_table = geometry.l2_entries
    l1 = state.l1()
    size = state.image.storage.size()
    buffer = ReadBuffer()
    at = first
    while at < stop:
        index = at // per_table
        table_stop = min(stop, (index + 1) * per_table)
        if index >= len(l1):
            missing = index < state.l1_size
            yield L2Window(
                at,
                stop - at,
                None,
                None,
                "its L1 entry is cut off by the end of the file" if missing else None,
            )
            return
        offset = int(l1[index] & OFFSETS)
        if offset == 0:
            last = _hole_end(l1, index, -(-stop // per_table))
            table_stop = min(stop, last * per_table)
            yield L2Window(at, table_stop - at, None, None)
        elif (fault := l2_fault(offset, geometry, size)) is not None:
            yield L2Window(at, table_stop - at, None, None, fault)
        else:
            tables = _readable_run(l1, index, -(-stop // per_table), geometry, size)
            table_stop = min(stop, (index + len(tables)) * per_table)
            yield from _decode(state, tables, index, at, table_stop, size, buffer)
        at = table_stop


def _hole_end(l1: U64, index: int, stop: int) -> int:
    """The first L1 index behind ``index`` whose entry is not empty."""
    stop = min(stop, len(l1))
    step = 1024
    while index < stop:
        used = np.flatnonzero(l1[index : min(stop, index + step)] & OFFSETS)
        if len(used):
            return index + int(used[0])
        index += step
        step *= 4
    return stop


def _readable_run(l1: U64, index: int, stop: int, geometry: Geometry, size: int) -> list[int]:
    """Offsets of the readable L2 tables of consecutive L1 entries, at most one window of them."""
    count = max(1, WINDOW_BYTES // geometry.cluster_size)
    offsets = l1[index : min(stop, index + count)] & OFFSETS
    bad = (
        (offsets == 0)
        | ((offsets & np.uint64(geometry.cluster_size - 1)) != 0)
        | (offsets >= np.uint64(size))
    )
    cut = np.flatnonzero(bad)
    if len(cut):
        offsets = offsets[: int(cut[0])]
    tables: list[int] = offsets.tolist()
    return tables


def _decode(
    state: State,
    tables: list[int],
    index: int,
    at: int,
    stop: int,
    size: int,
    buffer: ReadBuffer,
) -> Iterator[L2Window]:
    geometry = state.geometry
    piece = geometry.cluster_size
    held = buffer.take(len(tables) * piece)
    state.image.storage.read_pieces(tables, piece, held.data)
    words = held.view(">u8")
    base = index * geometry.l2_entries
    low, high = at - base, stop - base
    entries: U64
    bitmaps: U64 | None = None
    if geometry.extended_l2:
        entries = words[0::2][low:high].astype(np.uint64)
        bitmaps = words[1::2][low:high].astype(np.uint64)
    else:
        entries = words[low:high].astype(np.uint64)
    cut = next((i for i, offset in enumerate(tables) if offset + piece > size), None)
    if cut is None:
        yield L2Window(at, stop - at, entries, bitmaps)
        return
    # A table that the end of the file cuts: what is there counts, what is missing is unknown.
    present = cut * geometry.l2_entries + (size - tables[cut]) // geometry.l2_entry_size
    good = max(0, min(stop - at, present - low))
    if good:
        yield L2Window(at, good, entries[:good], bitmaps[:good] if bitmaps is not None else None)
    rest_of_table = min(stop, base + (cut + 1) * geometry.l2_entries)
    if rest_of_table > at + good:
        yield L2Window(
            at + good,
            rest_of_table - at - good,
            None,
            None,
            "its L2 table is cut off by the end of the file",
        )
    if rest_of_table < stop:
        rest = tables[cut + 1 :]
        yield from _decode(state, rest, index + cut + 1, rest_of_table, stop, size, buffer)


class L2Tables(NamedTuple):
    """Whole L2 tables: ``offsets`` int64[k] host bytes, ``entries`` uint64[k, l2_entries] native,
    ``bitmaps`` the same shape for extended L2, else None."""

    offsets: I64
    entries: U64
    bitmaps: U64 | None


def l2_tables(storage: Storage, geometry: Geometry, offsets: I64) -> Iterator[L2Tables]:
    """The L2 tables at ``offsets`` (int64, readable places), about 1 MiB of them at a time.

    Ascending offsets are read fastest.  Bytes beyond the end of the file count as zero.
    """
    piece = geometry.cluster_size
    step = max(1, WINDOW_BYTES // piece)
    buffer = page_aligned(min(step, len(offsets)) * piece)
    for at in range(0, len(offsets), step):
        part = offsets[at : at + step]
        held = buffer[: len(part) * piece]
        storage.read_pieces(part.tolist(), piece, held.data)
        words = held.view(">u8")
        if geometry.extended_l2:
            pairs = words.reshape(len(part), geometry.l2_entries, 2)
            yield L2Tables(part, pairs[:, :, 0].astype(np.uint64), pairs[:, :, 1].astype(np.uint64))
        else:
            yield L2Tables(part, words.reshape(len(part), -1).astype(np.uint64), None)
