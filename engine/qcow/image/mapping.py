"""From L2 entries to runs: the guest map of one state (qcow2 spec, "Cluster mapping")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..disk import ExtentBatch, ExtentKind
from ..layout.constants import OFLAG_COMPRESSED, OFLAG_COPIED, OFLAG_ZERO
from ..layout.geometry import Geometry
from ..layout.tables import OFFSETS, U64
from .tables import L2Window

if TYPE_CHECKING:
    from .state import State

_COMPRESSED = np.uint64(OFLAG_COMPRESSED)
_COPIED = np.uint64(OFLAG_COPIED)
_ZERO = np.uint64(OFLAG_ZERO)
_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)

Kinds = NDArray[np.uint8]
Bytes = NDArray[np.int64]


def extents(state: State, start: int = 0, length: int | None = None) -> Iterator[ExtentBatch]:
    """The runs of ``[start, start + length)`` of ``state``; host offsets are in the data file."""
    stop = state.virtual_size if length is None else min(state.virtual_size, start + length)
    if start >= stop:
        return
    size = state.geometry.cluster_size
    first = start // size
    clusters = -(-stop // size) - first
    for window in state.windows(first, clusters):
        batch = window_extents(state, window)
        yield _clip(batch, start, stop)


def window_extents(state: State, window: L2Window) -> ExtentBatch:
    """The runs of one window, maximal within it."""
    geometry = state.geometry
    bits = geometry.cluster_bits
    if window.entries is None:
        kind = ExtentKind.UNALLOCATED if window.fault is None else ExtentKind.CORRUPT
        return _single(window.first << bits, window.clusters << bits, kind, -1)
    entries, bitmaps = window.entries, window.bitmaps
    if bitmaps is None and (host := _one_stretch(entries, geometry)) is not None:
        return _single(window.first << bits, window.clusters << bits, ExtentKind.DATA, host)
    heads = stretches(entries, bitmaps, geometry)
    if heads is None:
        starts = np.arange(window.clusters, dtype=np.int64) << bits
        lengths = np.full(window.clusters, geometry.cluster_size, dtype=np.int64)
    else:
        starts = heads << bits
        lengths = np.diff(starts, append=np.int64(window.clusters << bits))
        entries = entries[heads]
        bitmaps = bitmaps[heads] if bitmaps is not None else None
    if bitmaps is None:
        kind_of, hosts = classify(entries, state)
    else:
        starts, lengths, kind_of, hosts = _subcluster_runs(starts, lengths, entries, bitmaps, state)
    return merge_runs(starts + (window.first << bits), lengths, kind_of, hosts)


def _one_stretch(entries: U64, geometry: Geometry) -> int | None:
    """The first host offset when all of ``entries`` is one contiguous run of data."""
    first, size = int(entries[0]), geometry.cluster_size
    offset = first & int(OFFSETS)
    if (
        int(entries[-1]) - first != (len(entries) - 1) * size
        or first & (OFLAG_COMPRESSED | OFLAG_ZERO)
        or offset == 0
        or offset & (size - 1)
        or bool((entries[1:] - entries[:-1] != np.uint64(size)).any())
    ):
        return None
    return offset


def stretches(entries: U64, bitmaps: U64 | None, geometry: Geometry) -> Bytes | None:
    """Where contiguous stretches start (indices, int64), when few of them make up the window.

    Entries that grow by one cluster from one to the next have the same flags and so the same kind,
    as long as the first has a host offset; that spares judging each of them.
    """
    breaks = entries[1:] - entries[:-1] != np.uint64(geometry.cluster_size)
    if bitmaps is not None:
        breaks |= bitmaps[1:] != bitmaps[:-1]
    heads = np.concatenate((np.zeros(1, dtype=np.int64), np.flatnonzero(breaks) + 1))
    if len(heads) * 8 > len(entries):
        return None
    several = np.diff(heads, append=np.int64(len(entries))) > 1
    first = entries[heads[several]] & OFFSETS
    last = entries[np.append(heads[1:], len(entries))[several] - 1] & OFFSETS
    if not bool(((first != 0) & (last > first)).all()):
        return None
    if bitmaps is not None:
        alike = bitmaps[heads[several]]
        if not bool(((alike == _LOW32) | (alike == 0) | (alike == ~_LOW32)).all()):
            return None
    return heads


def classify(entries: U64, state: State) -> tuple[Kinds, Bytes]:
    """(kind, host offset or -1) of each standard L2 entry."""
    geometry = state.geometry
    offset = entries & OFFSETS
    compressed = (entries & _COMPRESSED) != 0
    zero = (entries & _ZERO) != 0
    has_offset = offset != 0
    kind = np.where(has_offset, np.uint8(ExtentKind.DATA), np.uint8(ExtentKind.UNALLOCATED))
    external = state.image.header.has_data_file
    if external:
        # Offset 0 is a valid place in a data file; COPIED tells it from "unallocated".
        at_zero = ~has_offset & ((entries & _COPIED) != 0)
        kind[at_zero] = ExtentKind.DATA
        has_offset |= at_zero
    if zero.any():
        # The zero flag came with version 3; a version 2 image that carries it is damaged.
        zero_kinds = (
            (ExtentKind.CORRUPT, ExtentKind.CORRUPT)
            if geometry.version < 3
            else (ExtentKind.ZERO_ALLOCATED, ExtentKind.ZERO)
        )
        kind[zero & has_offset] = zero_kinds[0]
        kind[zero & ~has_offset] = zero_kinds[1]
    kind[has_offset & ((offset & np.uint64(geometry.cluster_size - 1)) != 0)] = ExtentKind.CORRUPT
    host = offset.astype(np.int64)
    host[~has_offset] = -1
    if compressed.any():
        kind[compressed] = ExtentKind.CORRUPT if external else ExtentKind.COMPRESSED
        host[compressed] = -1
    host[kind == ExtentKind.CORRUPT] = -1
    return kind, host


def _subcluster_runs(
    starts: Bytes, lengths: Bytes, entries: U64, bitmaps: U64, state: State
) -> tuple[Bytes, Bytes, Kinds, Bytes]:
    """Runs (start in bytes from the window, length, kind, host) of extended L2 entries.

    A cluster whose 32 subclusters agree stays one piece; the others are expanded.  Pieces longer
    than a cluster have subclusters that agree.
    """
    geometry = state.geometry
    kind, host = classify(entries & ~_ZERO, state)
    has_host = host >= 0
    plain = kind <= ExtentKind.DATA
    allocated = bitmaps & _LOW32
    zeros = bitmaps >> _SHIFT32
    data_all = plain & has_host & (allocated == _LOW32) & (zeros == 0)
    zero_all = plain & (zeros == _LOW32) & (allocated == 0)
    none_all = plain & (bitmaps == 0)
    kind[none_all] = ExtentKind.UNALLOCATED
    kind[zero_all] = np.where(
        has_host[zero_all], np.uint8(ExtentKind.ZERO_ALLOCATED), np.uint8(ExtentKind.ZERO)
    )
    wrong = (kind == ExtentKind.COMPRESSED) & (bitmaps != 0)
    kind[wrong] = ExtentKind.CORRUPT
    mixed = np.flatnonzero(plain & ~(data_all | zero_all | none_all))
    if not len(mixed):
        return starts, lengths, kind, host
    size = geometry.subcluster_size
    shifts = np.arange(32, dtype=np.uint64)
    is_data = (allocated[mixed, None] >> shifts) & np.uint64(1) != 0
    is_zero = (zeros[mixed, None] >> shifts) & np.uint64(1) != 0
    there = has_host[mixed, None]
    sub = np.full(is_data.shape, ExtentKind.UNALLOCATED, dtype=np.uint8)
    sub[is_data & there] = ExtentKind.DATA
    sub[is_zero & there] = ExtentKind.ZERO_ALLOCATED
    sub[is_zero & ~there] = ExtentKind.ZERO
    sub[(is_data & is_zero) | (is_data & ~there)] = ExtentKind.CORRUPT
    inner = np.arange(32, dtype=np.int64) * size
    sub_starts = (starts[mixed, None] + inner).reshape(-1)
    sub_hosts = np.where(there, host[mixed, None] + inner, np.int64(-1)).reshape(-1)
    sub_kinds = sub.reshape(-1)
    sub_hosts[sub_kinds == ExtentKind.CORRUPT] = -1
    keep = np.ones(len(entries), dtype=bool)
    keep[mixed] = False
    all_starts = np.concatenate((starts[keep], sub_starts))
    order = np.argsort(all_starts, kind="stable")
    return (
        all_starts[order],
        np.concatenate((lengths[keep], np.full(len(sub_starts), size, dtype=np.int64)))[order],
        np.concatenate((kind[keep], sub_kinds))[order],
        np.concatenate((host[keep], sub_hosts))[order],
    )


def merge_runs(
    start: Bytes, length: Bytes, kind: Kinds, host: Bytes, depth: NDArray[np.uint16] | None = None
) -> ExtentBatch:
    """Join neighbours of one kind (and depth) whose host offsets continue each other."""
    if depth is None:
        depth = np.zeros(len(start), dtype=np.uint16)
    if len(start) > 1:
        same = (kind[1:] == kind[:-1]) & (depth[1:] == depth[:-1])
        continues = np.where(host[1:] < 0, host[:-1] < 0, host[1:] == host[:-1] + length[:-1])
        # A run with a host offset is never continued by one without.
        same &= continues & ((host[1:] < 0) == (host[:-1] < 0))
        heads = np.flatnonzero(np.concatenate(([True], ~same)))
        if len(heads) < len(start):
            length = np.add.reduceat(length, heads)
            start, kind, host, depth = start[heads], kind[heads], host[heads], depth[heads]
    return ExtentBatch(start, length, kind, host, depth)


def select(batch: ExtentBatch, which: slice | NDArray[np.bool_] | NDArray[np.intp]) -> ExtentBatch:
    """Some of the runs of a batch."""
    return ExtentBatch(
        batch.start[which],
        batch.length[which],
        batch.kind[which],
        batch.host[which],
        batch.depth[which],
    )


def join(batches: Sequence[ExtentBatch]) -> ExtentBatch:
    """Batches that follow each other as one, runs joined across the seams."""
    return merge_runs(
        np.concatenate([batch.start for batch in batches]),
        np.concatenate([batch.length for batch in batches]),
        np.concatenate([batch.kind for batch in batches]),
        np.concatenate([batch.host for batch in batches]),
        np.concatenate([batch.depth for batch in batches]),
    )


def merged(batches: Iterable[ExtentBatch]) -> Iterator[ExtentBatch]:
    """The same runs with those joined that continue across the seam of two batches."""
    held: ExtentBatch | None = None
    for batch in batches:
        whole = batch if held is None else join((held, batch))
        if len(whole.start) > 1:
            yield select(whole, slice(None, -1))
        held = select(whole, slice(-1, None))
    if held is not None:
        yield held


def _single(start: int, length: int, kind: ExtentKind, host: int) -> ExtentBatch:
    return ExtentBatch(
        np.array([start], dtype=np.int64),
        np.array([length], dtype=np.int64),
        np.array([kind], dtype=np.uint8),
        np.array([host], dtype=np.int64),
        np.zeros(1, dtype=np.uint16),
    )


def _clip(batch: ExtentBatch, start: int, stop: int) -> ExtentBatch:
    """Cut the runs to ``[start, stop)`` and drop those outside it."""
    if int(batch.start[0]) >= start and int(batch.start[-1] + batch.length[-1]) <= stop:
        return batch
    begin = np.maximum(batch.start, start)
    length = np.minimum(batch.start + batch.length, stop) - begin
    host = np.where(batch.host >= 0, batch.host + (begin - batch.start), batch.host)
    clipped = ExtentBatch(begin, length, batch.kind, host, batch.depth)
    return select(clipped, length > 0)
