"""When two runs of two maps are the same thing, found out without reading any data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..chain import Chain, Layer
from ..disk import ExtentBatch, ExtentKind
from ..formats.raw import RawImage
from ..image.state import State
from ..layout.tables import OFFSETS, U64
from ..storage.base import Storage

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Equal L2 tables between different ones are read along while they are no more bytes than this.
_READ_ALONG = 256 << 10


class Identities:
    """Numbers for the files and tables behind the layers of two chains; equal means the same."""

    def __init__(self, a: Chain, b: Chain) -> None:
        numbers: dict[object, int] = {}

        def number(key: object) -> int:
            return numbers.setdefault(key, len(numbers))

        self._tables = [[number(_table(layer)) for layer in disk.layers] for disk in (a, b)]
        self._files = [[number(_file(layer)) for layer in disk.layers] for disk in (a, b)]

    def same_below_top(self, a: Chain, b: Chain) -> bool:
        """Whether both chains are the same file with the same files below it."""
        return self._files[0] == self._files[1] and self._tables[0][1:] == self._tables[1][1:]

    def same_table(self, one: ExtentBatch, other: ExtentBatch) -> Bools:
        """Runs (at the same place of the disk) that one and the same table maps."""
        left, right = (np.array(numbers) for numbers in self._tables)
        return np.asarray(left[one.depth] == right[other.depth])

    def same_file(self, one: ExtentBatch, other: ExtentBatch) -> Bools:
        """Runs whose data lies in the same file."""
        left, right = (np.array(numbers) for numbers in self._files)
        return np.asarray(left[one.depth] == right[other.depth])

    @staticmethod
    def reads_zero(disk: Chain, batch: ExtentBatch) -> Bools:
        """Runs known to read as zeros; what an absent layer would serve is not known."""
        zero = batch.kind <= ExtentKind.ZERO_ALLOCATED
        absent = disk.absent
        return zero if absent is None else zero & (batch.depth != absent)


def _storage(storage: Storage) -> object:
    identity = storage.identity()
    return id(storage) if identity is None else identity


def _table(layer: Layer) -> object:
    """What maps guest offsets: an L1 table of a file, or a raw file itself."""
    disk = layer.disk
    if disk is None:
        return ("absent", layer.path or layer.name)
    if isinstance(disk, State):
        return ("L1", _storage(disk.image.storage), disk.l1_table_offset, disk.l1_size)
    return ("raw", _storage(disk.storage))


def _file(layer: Layer) -> object:
    """What host offsets lie in."""
    if layer.image is None:
        return _table(layer)
    if not layer.has_data_file:
        return _storage(layer.image.storage)
    if layer.data_file is not None:
        return _storage(layer.data_file)
    return ("data file of", _storage(layer.image.storage))


def l1_differences(one: State, other: State, common: int) -> Iterator[tuple[int, int]]:
    """(start, length) of guest ranges whose L2 tables differ, for two states of one image.

    ``common`` is where the shorter disk ends.  Ranges may hold a few equal tables.
    """
    span = one.geometry.l2_span
    count = one.geometry.l1_entries(common)
    tables = _padded_l1(one, count, 1) != _padded_l1(other, count, 2)
    differing = np.flatnonzero(tables)
    if not len(differing):
        return
    near = max(1, _READ_ALONG // one.geometry.cluster_size)
    breaks = np.flatnonzero(np.diff(differing) > near)
    firsts = differing[np.concatenate(([0], breaks + 1))].tolist()
    lasts = differing[np.concatenate((breaks, [len(differing) - 1]))].tolist()
    for first, last in zip(firsts, lasts, strict=True):
        start = first * span
        yield start, min((last + 1) * span, common) - start


def _padded_l1(state: State, count: int, unknown: int) -> U64:
    """L2 table offsets; entries that the end of the file cuts off are ``unknown``."""
    entries = state.l1()[:count] & OFFSETS
    missing = min(count, state.l1_size) - len(entries)
    lost = np.full(max(0, missing), unknown, dtype=np.uint64)
    rest = np.zeros(count - len(entries) - len(lost), dtype=np.uint64)
    return np.concatenate((entries, lost, rest))


def compressed_differences(
    one: State | RawImage | None, other: State | RawImage | None, start: I64, length: I64
) -> tuple[I64, I64]:
    """(starts, lengths) of runs of clusters whose compressed data lies in different places.

    ``start`` and ``length`` are runs (ascending) that both states, of one image, store compressed.
    """
    assert isinstance(one, State), "only qcow2 has compressed clusters"
    assert isinstance(other, State), "only qcow2 has compressed clusters"
    bits = one.geometry.cluster_bits
    size = one.geometry.cluster_size
    base = int(start[0]) >> bits
    end = int(start[-1] + length[-1])
    count = -(-end // size) - base
    firsts = (start >> bits) - base
    lasts = -(-(start + length) // size) - base
    steps = np.zeros(count + 1, dtype=np.int64)
    np.add.at(steps, firsts, 1)
    np.add.at(steps, lasts, -1)
    asked = np.cumsum(steps[:-1]) > 0
    differs = asked & (_entries(one, base, count) != _entries(other, base, count))
    edges = np.flatnonzero(np.diff(differs, prepend=False, append=False))
    begin = np.maximum((edges[0::2] + base) << bits, int(start[0]))
    stop = np.minimum((edges[1::2] + base) << bits, end)
    return begin, stop - begin


def _entries(state: State, first: int, count: int) -> U64:
    """The L2 entries of guest clusters, zero where there is no table."""
    entries = np.zeros(count, dtype=np.uint64)
    for window in state.windows(first, count):
        if window.entries is not None:
            at = window.first - first
            entries[at : at + window.clusters] = window.entries
    return entries
