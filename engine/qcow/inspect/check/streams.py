"""Compressed clusters: whether what is stored unpacks to exactly one cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...codecs.compression import DecodeError, decompressor
from ...errors import StorageError
from ...image.image import Image
from ...layout.constants import COMPRESSION_NAMES, OFLAG_COMPRESSED, OFLAG_COPIED
from ...layout.distinct import distinct
from ...layout.geometry import Geometry
from ...layout.tables import I64, U64, compressed_fields
from ...parallel import share_out, threads_for
from . import kinds as K
from .collect import MAX_EXAMPLES, Collector, EntryRuns, contained
from .entries import WindowFacts
from .space import HostSpace
from .tables import TableReader, TableWindow

#: Compressed clusters whose table entries are held at a time.
_BATCH = 1 << 18
#: Bytes of compressed data read together.
_SPAN = 4 << 20
#: Streams remembered so that a stream many tables share is unpacked once.
_REMEMBERED = 8 << 20


class _Piece(NamedTuple):
    """Streams that are read together, as slices of the batch."""

    first: int
    stop: int


class StreamCheck:
    """Unpacks each compressed cluster of the image once."""

    def __init__(
        self, image: Image, geometry: Geometry, space: HostSpace, collector: Collector
    ) -> None:
        self._image = image
        self._geometry = geometry
        self._space = space
        self._collector = collector
        self._decode = decompressor(COMPRESSION_NAMES[geometry.compression_type])
        self._known: U64 = np.zeros(0, dtype=np.uint64)
        self._damaged: dict[int, str] = {}  # table entry -> why
        self._done = 0

    def run(
        self,
        windows: Sequence[TableWindow],
        facts: Sequence[WindowFacts],
        between: Callable[[int], None],
    ) -> None:
        """``between`` gets the number of clusters done, and may raise to stop."""
        reader = TableReader(self._image.storage, self._geometry)
        batch: list[tuple[TableWindow, I64, U64]] = []
        pending = 0
        for window in windows:
            if not facts[window.number].compressed:
                continue
            index, entries = self._streams(reader, window)
            batch.append((window, index, entries))
            pending += len(index)
            if pending >= _BATCH:
                self._batch(batch, between)
                batch, pending = [], 0
        if batch:
            self._batch(batch, between)
        self._collector.totals(extra_corruptions=len(self._damaged))

    def _streams(self, reader: TableReader, window: TableWindow) -> tuple[I64, U64]:
        """(entry numbers, entries) of the streams inside the file that can be unpacked."""
        try:
            entries, bitmaps = reader.load(window.offsets)
        except StorageError:
            _, entries, bitmaps = reader.load_each(window.offsets)
        wanted = (entries & np.uint64(OFLAG_COMPRESSED)) != 0
        if bitmaps is not None:
            wanted &= bitmaps == 0
        index = np.flatnonzero(wanted)
        streams = entries[index] & ~np.uint64(OFLAG_COPIED)
        offsets, lengths = compressed_fields(streams, self._geometry)
        inside = offsets + lengths - self._space.length < self._geometry.cluster_size
        return index[inside], streams[inside]

    def _batch(
        self, batch: list[tuple[TableWindow, I64, U64]], between: Callable[[int], None]
    ) -> None:
        different = distinct(np.concatenate([entries for _, _, entries in batch]))
        fresh = different[~contained(different, self._known)]
        self._unpack(fresh, between)
        self._done += sum(len(index) for _, index, _ in batch)
        if len(self._known) + len(fresh) <= _REMEMBERED:
            self._known = np.sort(np.concatenate((self._known, fresh)))
        if self._damaged:
            wrong = np.array(sorted(self._damaged), dtype=np.uint64)
            for window, index, entries in batch:
                self._report(window, index, entries, contained(entries, wrong))

    def _unpack(self, streams: U64, between: Callable[[int], None]) -> None:
        offsets, lengths = compressed_fields(streams, self._geometry)
        order = np.argsort(offsets, kind="stable")
        streams, offsets, lengths = streams[order], offsets[order], lengths[order]
        pieces = _pieces(offsets, lengths)

        def work(take: Callable[[], _Piece | None]) -> None:
            while (piece := take()) is not None:
                part = slice(*piece)
                self._unpack_piece(streams[part], offsets[part], lengths[part])

        def progress(number: int) -> None:
            between(self._done + (pieces[number].first if number < len(pieces) else 0))

        share_out(pieces, work, threads_for(len(pieces)), progress)

    def _unpack_piece(self, streams: U64, offsets: I64, lengths: I64) -> None:
        size = self._geometry.cluster_size
        base = int(offsets[0])
        length = int((offsets + lengths).max()) - base
        try:
            data = memoryview(self._image.storage.read(base, length))
        except StorageError as error:
            for stream in streams.tolist():
                self._damaged[stream] = str(error)
            return
        decode = self._decode
        for stream, offset, count in zip(
            streams.tolist(), (offsets - base).tolist(), lengths.tolist(), strict=True
        ):
            try:
                decode(bytes(data[offset : offset + count]), size)
            except DecodeError as error:
                self._damaged[stream] = str(error)

    def _report(
        self, window: TableWindow, index: I64, entries: U64, wrong: NDArray[np.bool_]
    ) -> None:
        where = np.flatnonzero(wrong)
        if not len(where):
            return
        offsets, lengths = compressed_fields(entries[where[:MAX_EXAMPLES]], self._geometry)
        per_table = self._geometry.l2_entries
        self._collector.add(
            K.COMPRESSED_DAMAGED,
            len(where),
            entries=EntryRuns.of(
                window.offsets[index[where] // per_table], index[where] % per_table
            ),
            examples=[
                (
                    offset,
                    f"compressed cluster at 0x{offset:x}, {length} bytes: {self._damaged[entry]}",
                )
                for offset, length, entry in zip(
                    offsets.tolist(),
                    lengths.tolist(),
                    entries[where[:MAX_EXAMPLES]].tolist(),
                    strict=True,
                )
            ],
        )


def _pieces(offsets: I64, lengths: I64) -> list[_Piece]:
    """Cut ascending streams where they lie too far apart to be read together."""
    if not len(offsets):
        return []
    ends = offsets + lengths
    found: list[_Piece] = []
    first = 0
    while first < len(offsets):
        stop = int(np.searchsorted(offsets, int(offsets[first]) + _SPAN))
        gaps = np.flatnonzero(offsets[first + 1 : stop] > ends[first : stop - 1] + _SPAN // 16)
        if len(gaps):
            stop = first + 1 + int(gaps[0])
        found.append(_Piece(first, stop))
        first = stop
    return found
