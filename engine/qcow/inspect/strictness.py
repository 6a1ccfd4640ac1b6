"""Where two disks differ in block status: the extra demand of a strict comparison.

Flags are compared as qemu-img has them, and one of them tells how QEMU walks a map rather than what
it says: EOF, set where one answer of the block layer reaches the end of the disk.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..chain import Chain, Layer
from ..chain.intersect import aligned
from ..disk import ExtentBatch
from ..image.mapping import merged
from ..image.state import State
from .blockstatus import Status, block_status

#: One answer about a qcow2 covers at most this many bytes, and one piece of an L2 table.
_LONGEST_ANSWER = (1 << 31) - 1
_L2_PIECE = 64 << 10

_COMPARED = np.uint8(0xFF & ~Status.COMPRESSED)
_ALLOCATED = np.uint8(Status.ALLOCATED)
_END_OF_BASE = np.uint8(Status.ZERO | Status.ALLOCATED)


def first_status_mismatch(a: Chain, b: Chain) -> int | None:
    """Guest offset where the status of two disks of one size first differs, or None.

    Ends at damage in either mapping, where there is no status.  Raises as
    :func:`qcow.inspect.blockstatus.block_status` does.
    """
    end = a.virtual_size
    starts = answers_end_from(a), answers_end_from(b)
    at_end = min(starts) if starts[0] != starts[1] else end
    for one, other in aligned(_statuses(a), _statuses(b)):
        flags = [_compared_flags(disk, batch) for disk, batch in ((a, one), (b, other))]
        stop = (flags[0] != flags[1]) | (flags[0] == 0) | (one.start >= at_end)
        found = np.flatnonzero(stop)
        if len(found):
            first = int(found[0])
            offset = int(one.start[first])
            if at_end < offset:
                return at_end
            return None if flags[0][first] == 0 or flags[1][first] == 0 else offset
    return at_end if at_end < end else None


def _statuses(disk: Chain) -> Iterator[ExtentBatch]:
    """Block status in the shape of a map, flags in the place of kinds."""
    return (ExtentBatch(*batch) for batch in block_status(disk))


def _compared_flags(disk: Chain, batch: ExtentBatch) -> NDArray[np.uint8]:
    flags: NDArray[np.uint8] = batch.kind & _COMPARED
    # Zeros beyond the end of a backing file count as allocated in it.
    beyond = (flags != 0) & (flags & _ALLOCATED == 0) & (batch.depth < len(disk.layers) - 1)
    flags[beyond] = _END_OF_BASE
    return flags


def answers_end_from(disk: Chain) -> int:
    """The first offset from which QEMU describes all the rest of the disk in one answer."""
    end = disk.virtual_size
    if end == 0:
        return 0
    start = 0
    for layer, below in zip(disk.layers, (*disk.layers[1:], None), strict=True):
        begin, falls_through = _last_run(layer, end)
        start = max(start, begin)
        if not falls_through or below is None or below.disk is None:
            break
        size = below.disk.virtual_size
        if size < end:
            return max(start, size)
    return start


def _last_run(layer: Layer, end: int) -> tuple[int, bool]:
    """Where QEMU's run of one layer with byte ``end - 1`` in it begins, and whether it is a gap."""
    disk = layer.disk
    assert disk is not None
    piece = 0
    if isinstance(disk, State):
        geometry = disk.geometry
        entries = min(_L2_PIECE, geometry.cluster_size) // geometry.l2_entry_size
        span = entries << geometry.cluster_bits
        piece = (end - 1) // span * span
    alone = Chain((layer,))
    for batch in merged(ExtentBatch(*status) for status in block_status(alone, piece, end - piece)):
        begin, flags = int(batch.start[-1]), int(batch.kind[-1])
    if isinstance(disk, State):
        begin = max(begin, end - _LONGEST_ANSWER)
        if flags & Status.COMPRESSED:  # described one by one
            begin = (end - 1) & -disk.geometry.cluster_size
    return begin, not flags & Status.ALLOCATED
