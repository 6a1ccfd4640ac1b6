"""QEMU's block status of a disk: what `map` prints and a strict comparison compares.

Finer than the guest map in one respect.  QEMU suspects an image whose file takes clearly less space
than its counted clusters of having been preallocated, and then asks the file about every run of
data: what is a hole there reads as zeros although it is mapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntFlag
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..chain import Chain, Layer
from ..disk import ExtentKind
from ..image.image import Image
from ..image.mapping import merge_runs
from ..image.refcounts import refcount_windows
from ..layout.distinct import distinct
from ..storage.base import Storage


class Status(IntFlag):
    """Flags of one run, by QEMU's names without ``BDRV_BLOCK_``."""

    DATA = 1
    ZERO = 2
    ALLOCATED = 4  # `map` prints it as "present"
    OFFSET_VALID = 8
    COMPRESSED = 16  # newer versions of QEMU only


class StatusBatch(NamedTuple):
    """Adjacent runs in guest order.

    ``start``, ``length``: int64 bytes.  ``flags``: uint8 (:class:`Status`), 0 where the mapping is
    damaged.  ``host``: int64 bytes in the layer's file (its data file, if it has one), -1 without
    OFFSET_VALID.  ``depth``: uint16, index of the layer.  Runs are maximal within a batch.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    flags: NDArray[np.uint8]
    host: NDArray[np.int64]
    depth: NDArray[np.uint16]


_FLAGS = np.zeros(len(ExtentKind), dtype=np.uint8)
_FLAGS[ExtentKind.UNALLOCATED] = Status.ZERO
_FLAGS[ExtentKind.ZERO] = Status.ZERO | Status.ALLOCATED
_FLAGS[ExtentKind.ZERO_ALLOCATED] = Status.ZERO | Status.ALLOCATED
_FLAGS[ExtentKind.DATA] = Status.DATA | Status.ALLOCATED
_FLAGS[ExtentKind.COMPRESSED] = Status.DATA | Status.ALLOCATED | Status.COMPRESSED
_OFFSET = np.uint8(Status.OFFSET_VALID)
_ZERO = np.uint8(Status.ZERO)


def block_status(chain: Chain, start: int = 0, length: int | None = None) -> Iterator[StatusBatch]:
    """The status of ``[start, start + length)``, clipped to the disk, without gaps.

    Raises ReferenceRefused or ReferenceMissing as :meth:`qcow.chain.Chain.extents` does.
    """
    plain = np.array([_shows_offsets(layer) for layer in chain.layers])
    suspects = _Suspects(chain)
    for batch in chain.extents(start, length):
        flags = _FLAGS[batch.kind]
        host = batch.host
        has_offset = host >= 0
        if not plain.all():
            has_offset &= plain[batch.depth]
            host = np.where(has_offset, host, -1)
        flags[has_offset] |= _OFFSET
        data = (batch.kind == ExtentKind.DATA) & has_offset
        result = StatusBatch(batch.start, batch.length, flags, host, batch.depth)
        if data.any():
            result = suspects.refined(result, data)
        yield result


def _shows_offsets(layer: Layer) -> bool:
    """QEMU gives no offset where the file holds ciphertext."""
    return not (isinstance(layer.image, Image) and layer.image.encrypted)


class _Suspects:
    """Which layers are taken for preallocated, and what their files say."""

    def __init__(self, chain: Chain) -> None:
        self._layers = chain.layers
        self._holes: list[_Holes | bool] = [True] * len(chain.layers)  # True: not asked yet

    def refined(self, batch: StatusBatch, data: NDArray[np.bool_]) -> StatusBatch:
        for depth in distinct(batch.depth[data]).tolist():
            holes = self._of(depth)
            if holes is not None:
                batch, data = holes.split(batch, data, depth)
        return batch

    def _of(self, depth: int) -> _Holes | None:
        known = self._holes[depth]
        if known is True:
            layer = self._layers[depth]
            image = layer.image
            known = False
            if isinstance(image, Image) and looks_preallocated(image):
                file = layer.data_file if layer.has_data_file else image.storage
                known = _Holes(file) if file is not None else False
            self._holes[depth] = known
        return known if isinstance(known, _Holes) else None


def looks_preallocated(image: Image) -> bool:
    """QEMU's guess, from the space the file takes and the clusters that are counted as used."""
    geometry = image.usable_geometry_for_tables()
    taken = image.storage.allocated_bytes()
    if taken is None:
        return False
    clusters = taken >> geometry.cluster_bits
    threshold = max(clusters * 10 // 9, clusters + 2)
    used = 0
    for window in refcount_windows(image):
        if window.fault is not None:
            return False
        if window.counts is not None:
            used += int(np.count_nonzero(window.counts))
            if used >= threshold:
                return True
    return False


class _Holes:
    """Where a file has data: as many runs as the file system really keeps."""

    def __init__(self, storage: Storage) -> None:
        runs: Iterable[tuple[int, bool]] = ((run[0], run[2]) for run in storage.extents())
        pairs = np.fromiter(runs, dtype=[("start", np.int64), ("data", np.bool_)])
        size = storage.size()
        #: Starts of runs, and whether each is a hole; behind the end everything is.
        self._starts = np.append(pairs["start"], size)
        self._is_hole = np.append(~pairs["data"], True)

    def split(
        self, batch: StatusBatch, data: NDArray[np.bool_], depth: int
    ) -> tuple[StatusBatch, NDArray[np.bool_]]:
        """Cut the data runs of one layer where the file changes, and mark those in holes zero."""
        mine = data & (batch.depth == depth)
        begin, end = batch.host, batch.host + batch.length
        low = np.searchsorted(self._starts, begin[mine].min(), side="right") - 1
        if low + 1 == len(self._starts) or end[mine].max() <= self._starts[low + 1]:
            if self._is_hole[low]:
                batch.flags[mine] |= _ZERO
            return batch, data
        first = np.searchsorted(self._starts, begin, side="right") - 1
        last = np.searchsorted(self._starts, end, side="left") - 1
        pieces = np.where(mine, last - first + 1, 1)
        if int(pieces.max()) == 1:
            batch.flags[mine & self._is_hole[np.where(mine, first, 0)]] |= _ZERO
            return batch, data
        owner = np.repeat(np.arange(len(begin)), pieces)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        mine = mine[owner]
        run = np.where(mine, first[owner] + number, 0)
        host: NDArray[np.int64] = np.where(
            mine, np.maximum(begin[owner], self._starts[run]), begin[owner]
        )
        start: NDArray[np.int64] = batch.start[owner] + (host - begin[owner])
        stop = int(batch.start[-1] + batch.length[-1])
        flags = batch.flags[owner]
        flags[mine & self._is_hole[run]] |= _ZERO
        merged = merge_runs(start, np.diff(start, append=stop), flags, host, batch.depth[owner])
        result = StatusBatch(merged.start, merged.length, merged.kind, merged.host, merged.depth)
        kinds = np.uint8(Status.DATA | Status.OFFSET_VALID)
        return result, result.flags & kinds == kinds
