"""The refcounts on disk, read in bounded windows (qcow2 spec, "Host cluster management")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..layout.constants import REFCOUNT_TABLE_OFFSET_MASK
from ..layout.geometry import Geometry
from ..layout.header_rules import refcount_table_fault
from ..layout.tables import U64, decode_refcounts, decode_u64
from ..record import record
from ..storage.buffers import ReadBuffer

if TYPE_CHECKING:
    from .image import Image

#: Bytes of refcount blocks that are decoded at a time.
WINDOW_BYTES = 1 << 20
#: Clusters in one decoded window at most (narrow refcounts pack many into a block).
_WINDOW_CLUSTERS = 1 << 20


@record
class RefcountWindow:
    """The counts of ``clusters`` adjacent host clusters from host cluster ``first``.

    ``counts``: unsigned integers, native order, shape (clusters,); None where no refcount block
    exists, which means all zero, or where the block cannot be read (``fault`` says why).
    """

    first: int
    clusters: int
    counts: NDArray[np.unsignedinteger] | None
    fault: str | None = None


def refcount_table(image: Image) -> U64:
    """The entries of the refcount table present in the file (uint64, native, not masked).

    Empty when the header's reference to the table cannot be used.
    """
    geometry = image.usable_geometry_for_tables()
    header = image.header
    if refcount_table_fault(header, geometry) is not None:
        return np.zeros(0, dtype=np.uint64)
    length = header.refcount_table_clusters << geometry.cluster_bits
    return decode_u64(image.storage.read(header.refcount_table_offset, length))


def refcount_windows(
    image: Image,
    first: int = 0,
    clusters: int | None = None,
    table: U64 | None = None,
    buffer: ReadBuffer | None = None,
) -> Iterator[RefcountWindow]:
    """The refcounts of host clusters ``[first, first + clusters)`` without gaps.

    Without ``clusters`` up to the end of the file.  ``table`` saves reading it again, ``buffer``
    saves new memory for each call.
    """
    geometry = image.usable_geometry_for_tables()
    size = image.storage.size()
    stop = geometry.clusters(size) if clusters is None else first + clusters
    if table is None:
        table = refcount_table(image)
    offsets = table & np.uint64(REFCOUNT_TABLE_OFFSET_MASK)
    per_block = geometry.refcount_block_entries
    buffer = buffer or ReadBuffer()
    at = first
    while at < stop:
        index = at // per_block
        if index >= len(offsets):
            yield RefcountWindow(at, stop - at, None)
            return
        offset = int(offsets[index])
        if offset == 0:
            used = np.flatnonzero(offsets[index : -(-stop // per_block)])
            end = min(stop, (index + int(used[0])) * per_block) if len(used) else stop
            yield RefcountWindow(at, end - at, None)
        elif (fault := block_fault(offset, geometry, size)) is not None:
            end = min(stop, (index + 1) * per_block)
            yield RefcountWindow(at, end - at, None, fault)
        else:
            blocks = _readable_run(offsets, index, -(-stop // per_block), geometry, size)
            end = min(stop, (index + len(blocks)) * per_block)
            base = index * per_block
            yield from _decode(image, geometry, blocks, base, at, end, buffer)
        at = end


def block_fault(offset: int, geometry: Geometry, file_size: int) -> str | None:
    """Why a refcount block cannot be read, as a phrase, or None."""
    if offset & (geometry.cluster_size - 1):
        return f"the refcount block offset {offset:#x} is not at the start of a cluster"
    if offset >= file_size:
        return f"the refcount block at {offset:#x} lies beyond the end of the file"
    return None


def _readable_run(offsets: U64, index: int, stop: int, geometry: Geometry, size: int) -> list[int]:
    count = max(
        1,
        min(
            WINDOW_BYTES // geometry.cluster_size,
            _WINDOW_CLUSTERS // geometry.refcount_block_entries,
        ),
    )
    part = offsets[index : min(stop, index + count)]
    bad = (part == 0) | ((part & np.uint64(geometry.cluster_size - 1)) != 0)
    bad |= part >= np.uint64(size)
    cut = np.flatnonzero(bad)
    blocks: list[int] = (part[: int(cut[0])] if len(cut) else part).tolist()
    return blocks


def _decode(
    image: Image,
    geometry: Geometry,
    blocks: list[int],
    base: int,
    at: int,
    stop: int,
    buffer: ReadBuffer,
) -> Iterator[RefcountWindow]:
    piece = geometry.cluster_size
    held = buffer.take(len(blocks) * piece).data
    image.storage.read_pieces(blocks, piece, held)
    if geometry.refcount_order < 3:
        # One block of 1-bit counts in a 2 MiB cluster counts 16 M clusters: decode it in parts.
        bits = geometry.refcount_bits
        step = _WINDOW_CLUSTERS
        for begin in range(at, stop, step):
            end = min(stop, begin + step)
            low = (begin - base) * bits // 8
            high = -(-(end - base) * bits // 8)
            counts = decode_refcounts(held[low:high], geometry.refcount_order)
            skip = (begin - base) - low * 8 // bits
            yield RefcountWindow(begin, end - begin, counts[skip : skip + end - begin])
        return
    width = geometry.refcount_bits // 8
    part = held[(at - base) * width : (stop - base) * width]
    yield RefcountWindow(at, stop - at, decode_refcounts(part, geometry.refcount_order))


def refcount_of(image: Image, cluster: int) -> int:
    """The refcount on disk of one host cluster; 0 where no readable block counts it."""
    for window in refcount_windows(image, cluster, 1):
        return 0 if window.counts is None else int(window.counts[0])
    return 0
