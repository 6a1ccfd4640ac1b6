"""Writing whole guest clusters: to free places of the image, or to their own in the data file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..layout.tables import I64
from ..record import record
from ..storage.base import Storage
from .entries import data_entries
from .identity_file import IdentityFile
from .zero_content import zero_rows

if TYPE_CHECKING:
    from .editor import Editor
    from .transaction import Transaction

#: ``fill(offset, buffer)``: put the guest bytes from ``offset`` into ``buffer``, which holds zeros.
#: It is called with ascending offsets.  ``Chain.read_into`` is one.
Fill = Callable[[int, memoryview], object]


@record
class Content:
    """Guest bytes from ``start`` on that are in memory already: a :data:`Fill` that need not be
    called."""

    start: int
    data: memoryview

    def __call__(self, offset: int, buffer: memoryview) -> None:
        at = offset - self.start
        buffer[:] = self.data[at : at + len(buffer)]

    def whole(self, offset: int, length: int) -> memoryview | None:
        """The bytes of a range; None where there are not so many."""
        at = offset - self.start
        return self.data[at : at + length] if at + length <= len(self.data) else None


@record
class Stored:
    """Guest bytes from ``start`` on as they lie in ``source`` from ``host`` on: a :data:`Fill` that
    the system can carry out by itself."""

    start: int
    source: Storage
    host: int

    def __call__(self, offset: int, buffer: memoryview) -> None:
        self.source.read_into(self.at(offset), buffer)

    def at(self, offset: int) -> int:
        """Where in ``source`` the guest byte ``offset`` lies."""
        return self.host + offset - self.start


#: Bytes of guest data that are mapped together (at least one cluster).
_CHUNK = 16 << 20
#: Bytes in memory at a time (at least one cluster): few enough to stay in the processor's cache.
_PIECE = 1 << 20


class Placer:
    """Writes whole clusters through ``tx``; with ``external`` to that file.

    In a dry run no content is read or written.  ``size``: bytes of the disk.
    """

    def __init__(
        self, editor: Editor, tx: Transaction, external: IdentityFile | None, size: int
    ) -> None:
        self._editor = editor
        self._tx = tx
        self._external = external
        self._size = size
        self._bits = tx.geometry.cluster_bits
        self._piece = max(1, _PIECE >> self._bits)
        self._buffer = np.zeros(0, dtype=np.uint8)

    def write(self, first: int, clusters: int, fill: Fill) -> None:
        """Write what ``fill`` gives to guest clusters from ``first`` on."""
        step = max(1, _CHUNK >> self._bits)
        for at in range(first, first + clusters, step):
            count = min(step, first + clusters - at)
            self._step(at - first, clusters)
            places = self._places(at, count)
            inside = (at + count) << self._bits <= self._size
            if isinstance(fill, Stored) and self._external is None and inside:
                self._copy(at, places, fill)
                self._map(at, places)
                continue
            for low in range(0, count, self._piece):
                part = slice(low, min(count, low + self._piece))
                data = None if self._editor.dry else self._filled(at + low, part, fill)
                self._put(at + low, places[part], data)
            self._map(at, places)

    def write_sparse(
        self, first: int, clusters: int, fill: Fill, zero: Callable[[int, int], None]
    ) -> None:
        """The same, but for clusters that are all zeros call ``zero(first, clusters)`` instead."""
        for at in range(first, first + clusters, self._piece):
            count = min(self._piece, first + clusters - at)
            self._step(at - first, clusters)
            data = self._filled(at, slice(0, count), fill)
            empty = zero_rows(np.frombuffer(data, dtype=np.uint64).reshape(count, -1))
            edges = (np.flatnonzero(np.diff(empty)) + 1).tolist()
            for low, high in zip([0, *edges], [*edges, count], strict=True):
                if empty[low]:
                    zero(at + low, high - low)
                    continue
                places = self._places(at + low, high - low)
                part = None if self._editor.dry else data[low << self._bits : high << self._bits]
                self._put(at + low, places, part)
                self._map(at + low, places)

    def _step(self, done: int, clusters: int) -> None:
        self._editor.step("writing data", done << self._bits, clusters << self._bits, "bytes")

    def _filled(self, first: int, part: slice, fill: Fill) -> memoryview:
        """Guest bytes of whole clusters, always in the same memory: new memory costs more."""
        length = (part.stop - part.start) << self._bits
        offset = first << self._bits
        if isinstance(fill, Content) and (there := fill.whole(offset, length)) is not None:
            return there
        if len(self._buffer) < length:
            self._buffer = np.zeros(length, dtype=np.uint8)
        else:
            self._buffer[:length] = 0
        data = self._buffer.data[:length]
        fill(offset, data[: self._size - offset])
        return data

    def _places(self, first: int, clusters: int) -> I64:
        """Host clusters for guest clusters from ``first`` on, free ones where there is a choice."""
        if self._external is None:
            return self._tx.ledger.allocate(clusters)
        self._external.note_overwriting(self._tx.tables.get(first, clusters)[0])
        return np.arange(first, first + clusters, dtype=np.int64)

    def _put(self, first: int, places: I64, data: memoryview | None) -> None:
        """Write one cluster of ``data`` to each of ``places``, neighbours in one call."""
        if self._external is not None:
            self._external.write(first << self._bits, len(places) << self._bits, data)
            return
        guard = self._tx.guard
        for low, at, length in self._runs(places):
            if data is None:
                guard.promise(at, length)
            else:
                guard.write(at, data[low : low + length])

    def _copy(self, first: int, places: I64, source: Stored) -> None:
        guard = self._tx.guard
        for low, at, length in self._runs(places):
            if self._editor.dry:
                guard.promise(at, length)
            else:
                guard.copy(source.source, source.at((first << self._bits) + low), at, length)

    def _runs(self, places: I64) -> Iterator[tuple[int, int, int]]:
        """(bytes before it, host offset, bytes) of each run of adjacent clusters."""
        breaks = (np.flatnonzero(np.diff(places) != 1) + 1).tolist()
        for low, high in zip([0, *breaks], [*breaks, len(places)], strict=True):
            yield low << self._bits, int(places[low]) << self._bits, (high - low) << self._bits

    def _map(self, first: int, places: I64) -> None:
        external = self._external is not None
        hosts: I64 = places << self._bits
        entries = data_entries(hosts, self._tx.geometry, external=external)
        self._tx.tables.set(first, *entries)
