"""What guest clusters hold while a transaction changes them: the content for copy-on-write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..disk import ExtentKind, extents_of
from ..image.mapping import window_extents
from ..image.reader import fill
from ..image.tables import L2Window
from ..layout.tables import U64

if TYPE_CHECKING:
    from ..chain import Chain
    from ..storage.base import Storage
    from .editor import Editor

_ZEROS = (ExtentKind.UNALLOCATED, ExtentKind.ZERO, ExtentKind.ZERO_ALLOCATED)


class OldContent:
    """Guest bytes by given L2 entries, which may be newer than the image's; see :meth:`read_into`.

    Bytes at and beyond the disk's end count as zeros, whatever lies in its last cluster.
    """

    def __init__(self, editor: Editor) -> None:
        self._editor = editor
        self._state = editor.image.active
        self._below: Chain | None = None
        self.end = editor.image.virtual_size
        self.has_backing = editor.image.backing is not None

    def pieces(
        self, cluster: int, entries: U64, bitmaps: U64 | None
    ) -> list[tuple[int, int, ExtentKind]]:
        """(start, end, kind) of the runs one guest cluster consists of; bytes from its start."""
        batch = window_extents(self._state, L2Window(cluster, 1, entries, bitmaps))
        base = cluster << self._state.geometry.cluster_bits
        return [(e.start - base, e.start + e.length - base, e.kind) for e in extents_of(batch)]

    def read_into(
        self,
        cluster: int,
        entries: U64,
        bitmaps: U64 | None,
        start: int,
        buffer: memoryview,
    ) -> None:
        """Fill ``buffer`` with the bytes of a guest cluster from byte ``start`` of it on.

        ``buffer`` holds zeros; ``entries`` and ``bitmaps`` have one element.  Compressed entries
        must be the image's own.  Raises GuestDataError, ReferenceRefused, ReferenceMissing.
        """
        low = (cluster << self._state.geometry.cluster_bits) + start
        high = min(low + len(buffer), self.end)
        for extent in extents_of(
            window_extents(self._state, L2Window(cluster, 1, entries, bitmaps))
        ):
            begin, end = max(low, extent.start), min(high, extent.start + extent.length)
            if begin >= end:
                continue
            view = buffer[begin - low : end - low]
            if extent.kind is ExtentKind.UNALLOCATED:
                self._read_below(begin, view)
                continue
            host = extent.host + begin - extent.start if extent.host >= 0 else -1
            part = extent._replace(start=begin, length=end - begin, host=host)
            fill(self._state, part, view, self._data_file())

    def below_is_zero(self, start: int, end: int) -> bool:
        """Whether the backing files surely show nothing but zeros in guest bytes [start, end)."""
        if not self.has_backing:
            return True
        below = self._backing()
        stop = min(end, below.virtual_size)
        if start >= stop:
            return True
        zeros = np.array(_ZEROS, dtype=np.uint8)
        return all(
            bool(np.isin(batch.kind, zeros).all()) for batch in below.extents(start, stop - start)
        )

    def _read_below(self, start: int, view: memoryview) -> None:
        if not self.has_backing:
            return
        below = self._backing()
        length = min(len(view), below.virtual_size - start)
        if length > 0:
            below.read_into(start, view[:length])

    def _backing(self) -> Chain:
        if self._below is None:
            self._below = self._editor.chain().at_layer(1)
        return self._below

    def _data_file(self) -> Storage | None:
        if not self._editor.image.header.has_data_file:
            return None
        return self._editor.data_file or self._editor.chain().layers[0].data_file
