"""Guest bytes: filling a buffer from the runs of a map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..codecs.compression import DecodeError, decompressor
from ..disk import Extent, ExtentKind, check_range, extents_of
from ..errors import GuestDataError, ReferenceRefused
from ..layout.constants import COMPRESSION_NAMES
from ..layout.tables import I64, compressed_fields
from ..storage.base import Storage
from ..text import safe

if TYPE_CHECKING:
    from .state import State

#: Compressed clusters are fetched together while their bytes lie within this span of the file.
_FETCH_SPAN = 4 << 20


def read_state(state: State, offset: int, length: int) -> bytes:
    """See :meth:`qcow.image.state.State.read`."""
    check_range(offset, length, state.virtual_size)
    buffer = bytearray(length)
    view = memoryview(buffer)
    image = state.image
    for batch in state.extents(offset, length):
        for extent in extents_of(batch):
            if extent.kind is ExtentKind.UNALLOCATED and image.backing is not None:
                raise ReferenceRefused(
                    f"{_where(state, extent)} lies in the backing file "
                    f'"{safe(image.backing.name, 80)}", which is not opened.'
                )
            at = extent.start - offset
            fill(state, extent, view[at : at + extent.length], None)
    return bytes(buffer)


def fill(state: State, extent: Extent, buffer: memoryview, data_file: Storage | None) -> None:
    """Put the bytes of one run of ``state`` into ``buffer`` (zeroed, ``extent.length`` long).

    ``data_file`` is the opened external data file, if there is one.  Raises GuestDataError.
    """
    image = state.image
    if extent.kind in (ExtentKind.UNALLOCATED, ExtentKind.ZERO, ExtentKind.ZERO_ALLOCATED):
        return
    if extent.kind is ExtentKind.CORRUPT:
        raise GuestDataError(
            f"{_where(state, extent)} cannot be read: its mapping is damaged; "
            "`qcowtui check` says how."
        )
    image.require_plain()
    if extent.kind is ExtentKind.COMPRESSED:
        _fill_compressed(state, extent, buffer)
        return
    storage = image.storage
    if image.header.has_data_file:
        if data_file is None:
            raise ReferenceRefused(
                f"{_where(state, extent)} lies in the external data file "
                f'"{safe(image.data_file or b"", 80)}", which is not opened; --follow allows it.'
            )
        storage = data_file
    got = storage.read_into(extent.host, buffer)
    if got < len(buffer):
        _require_tail_only(state, extent, storage)


def _require_tail_only(state: State, extent: Extent, storage: Storage) -> None:
    # The last cluster of a file need not be written to its end; a whole cluster that is not there
    # was lost.  QEMU reads zeros for both.
    size = state.geometry.cluster_size
    first_missing = -(-storage.size() // size) * size
    if extent.host + extent.length > first_missing:
        lost = max(extent.host, first_missing)
        raise GuestDataError(
            f"{_where(state, extent)} cannot be read: its data at host offset {lost:#x} lies "
            "beyond the end of the file, which was truncated."
        )


def _fill_compressed(state: State, extent: Extent, buffer: memoryview) -> None:
    geometry = state.geometry
    size = geometry.cluster_size
    first = extent.start // size
    count = -(-(extent.start + extent.length) // size) - first
    decode = decompressor(COMPRESSION_NAMES[geometry.compression_type])
    for window in state.windows(first, count):
        assert window.entries is not None, "compressed clusters have L2 entries"
        offsets, lengths = compressed_fields(window.entries, geometry)
        position = 0
        while position < len(offsets):
            taken = _neighbours(offsets[position:], lengths[position:])
            base = int(offsets[position])
            last = position + taken - 1
            data = state.image.storage.read(base, int(offsets[last] + lengths[last]) - base)
            for index in range(position, position + taken):
                start = int(offsets[index]) - base
                guest = (window.first + index) * size
                try:
                    cluster = decode(data[start : start + int(lengths[index])], size)
                except DecodeError as error:
                    raise GuestDataError(
                        f"{_where(state, extent._replace(start=guest, length=size))} cannot be "
                        f"read: the compressed cluster at {int(offsets[index]):#x} is damaged, "
                        f"{error}."
                    ) from error
                low = max(guest, extent.start)
                high = min(guest + size, extent.start + extent.length)
                buffer[low - extent.start : high - extent.start] = cluster[
                    low - guest : high - guest
                ]
            position += taken


def _neighbours(offsets: I64, lengths: I64) -> int:
    """How many of the leading compressed clusters lie in ascending order within one fetch."""
    ends = offsets + lengths
    fits = (offsets >= offsets[0]) & (ends - offsets[0] <= _FETCH_SPAN)
    if len(offsets) > 1:
        fits[1:] &= offsets[1:] >= offsets[:-1]
    stop = np.flatnonzero(~fits)
    return max(1, int(stop[0]) if len(stop) else len(offsets))


def _where(state: State, extent: Extent) -> str:
    name = "" if state.snapshot is None else f' of snapshot "{safe(state.snapshot.name, 60)}"'
    return (
        f"Guest range {extent.start:#x} to {extent.start + extent.length:#x}{name} of "
        f"{safe(state.image.name)}"
    )
