"""Small integers in few bits: how the map keeps a state for each of 256 M clusters in memory.

Clusters come in chunks of :data:`CHUNK`.  The values of a chunk are stored as their difference to
the smallest one, in 1, 2, 4, 8 or 16 bits each, whichever the largest difference needs.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Clusters in one chunk, the unit of storage.
CHUNK: Final = 4096

#: Values of clusters: uint8 or uint16.
Values = NDArray[Any]


class Packed(NamedTuple):
    """One chunk: ``CHUNK`` values of ``bits`` bits each, little end first, above ``low``."""

    low: int
    bits: int
    payload: bytes


def _spread(bits: int) -> NDArray[Any]:
    """For each byte the 8 / ``bits`` values in it, one per byte of a wider integer."""
    each = np.arange(256, dtype=np.uint8)[:, None] >> np.arange(0, 8, bits, dtype=np.uint8)
    values = np.ascontiguousarray(each & np.uint8((1 << bits) - 1))
    return values.view(np.dtype(f"u{8 // bits}")).ravel()


_SPREAD: Final = {bits: _spread(bits) for bits in (1, 2, 4)}
_WIDTHS: Final = np.array([1, 2, 4, 8, 16])
_LIMITS: Final = np.array([2, 4, 16, 256])  # smallest difference that needs the next width


def pack(rows: Values) -> list[Packed]:
    """Pack chunks: ``rows`` is (n, CHUNK), uint8 or uint16."""
    low = rows.min(axis=1)
    widths = _WIDTHS[np.searchsorted(_LIMITS, rows.max(axis=1) - low, side="right")]
    packed: dict[int, Packed] = {}
    for bits in np.unique(widths).tolist():
        chosen = np.flatnonzero(widths == bits)
        above = rows[chosen] - low[chosen, None]
        if bits < 16:
            above = above.astype(np.uint8, copy=False)
        if bits < 8:
            per_byte = 8 // bits
            joined = above[:, ::per_byte].copy()
            for index in range(1, per_byte):
                joined |= above[:, index::per_byte] << np.uint8(bits * index)
            above = joined
        for row, chunk in enumerate(chosen.tolist()):
            packed[chunk] = Packed(int(low[chunk]), bits, above[row].tobytes())
    return [packed[chunk] for chunk in range(len(rows))]


def unpack(packed: Packed, out: Values) -> None:
    """Write the CHUNK values into ``out`` (uint8 or uint16, the type they were packed from)."""
    low, bits, payload = packed
    if bits == 16:
        codes: Values = np.frombuffer(payload, np.uint16)
    else:
        codes = np.frombuffer(payload, np.uint8)
        if bits < 8:
            codes = np.take(_SPREAD[bits], codes).view(np.uint8)
    np.add(codes, out.dtype.type(low), out=out)
