"""Lines of text around numbers, by the ten thousand: millions of extents as JSON or as a table.

All lines are laid out in one byte matrix: the text of a line comes from a template, the digits from
tables of four at a time, and what a line does not use stays NUL and is deleted in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .output import Output

#: Lines made at a time, so that their matrix stays in the processor's cache.
CHUNK = 1 << 13

_GROUP = 4  # digits written at a time
_HEX_WIDTH = 16


class Number(Enum):
    """How a number is spelt."""

    DECIMAL = "decimal"
    HEX = "C's %#x"
    PADDED_HEX = "C's %#-16x"


#: Columns a number takes beside its digits.
_BESIDE = {Number.DECIMAL: 0, Number.HEX: 2, Number.PADDED_HEX: 2 + _HEX_WIDTH}


class Line(NamedTuple):
    """One kind of line: ``texts[0]``, the first number, ``texts[1]``, ... , ``texts[-1]``.

    ``shown``: which of the numbers this kind of line has.
    """

    texts: tuple[str, ...]
    shown: tuple[bool, ...]


class RowPrinter:
    """Prints rows of numbers, each as one of several kinds of line with the same numbers."""

    def __init__(self, lines: Sequence[Line], numbers: Sequence[Number]) -> None:
        self._lines = lines
        self._numbers = tuple(numbers)
        self._shown = np.array([line.shown for line in lines], dtype=np.bool_)
        self._layouts: dict[tuple[int, ...], _Layout] = {}

    def print(
        self, kinds: NDArray[np.integer], columns: Sequence[NDArray[np.int64]]
    ) -> Iterator[bytes]:
        """The text of all rows, ASCII, in pieces.

        ``kinds``: index into the kinds of line, shape (n,).  ``columns``: for each number int64 of
        shape (n,); negative where the line does not show it.
        """
        for low in range(0, len(kinds), CHUNK):
            part = slice(low, low + CHUNK)
            yield self._chunk(kinds[part], [column[part] for column in columns])

    def _chunk(self, kinds: NDArray[np.integer], columns: list[NDArray[np.int64]]) -> bytes:
        values = [np.maximum(column, 0) for column in columns]
        groups = tuple(
            _groups(int(value.max()), number)
            for value, number in zip(values, self._numbers, strict=True)
        )
        layout = self._layouts.get(groups)
        if layout is None:
            layout = self._layouts[groups] = _Layout(self._lines, self._numbers, groups)
        matrix = layout.template.take(kinds, axis=0)
        for index, (value, number) in enumerate(zip(values, self._numbers, strict=True)):
            place = matrix[:, layout.starts[index] : layout.starts[index] + layout.widths[index]]
            if number is Number.DECIMAL:
                _put_decimal(place, value)
            else:
                _put_hex(place, value, padded=number is Number.PADDED_HEX)
            shown = self._shown[:, index]
            if not shown.all():
                place[~shown[kinds]] = 0
        return matrix.tobytes().translate(None, b"\0")


def write_json_list(texts: Iterable[bytes], output: Output) -> bool:
    """Lines that each end with a comma, as one JSON list; whether there was any."""
    output.write("[")
    held = b""  # what separates two lines, until it is known that there is another
    for text in texts:
        output.write_bytes(held)
        output.write_bytes(memoryview(text)[:-2])
        held = text[-2:]
    output.write("]\n")
    return bool(held)


class _Layout:
    """Where everything stands in the matrix, for numbers of so many groups of digits."""

    def __init__(
        self, lines: Sequence[Line], numbers: Sequence[Number], groups: tuple[int, ...]
    ) -> None:
        self.widths = [
            count * _GROUP + _BESIDE[number] for count, number in zip(groups, numbers, strict=True)
        ]
        texts = [[text.encode("utf-8", "surrogateescape") for text in line.texts] for line in lines]
        room = [max(map(len, column)) for column in zip(*texts, strict=True)]
        self.starts = []
        at = room[0]
        for width, text in zip(self.widths, room[1:], strict=True):
            self.starts.append(at)
            at += width + text
        self.template = np.zeros((len(lines), at), dtype=np.uint8)
        places = [0, *(s + w for s, w in zip(self.starts, self.widths, strict=True))]
        for row, pieces in enumerate(texts):
            for place, piece in zip(places, pieces, strict=True):
                self.template[row, place : place + len(piece)] = np.frombuffer(piece, np.uint8)


def _groups(largest: int, number: Number) -> int:
    digits = len(str(largest)) if number is Number.DECIMAL else len(f"{largest:x}")
    return -(-digits // _GROUP)


class _Digits:
    """Four digits at a time, as uint32 of four characters.

    Three tables follow each other: the first group of a number (leading zeros NUL), the groups
    behind it (all digits), and the only group of a number (zero is a digit).
    """

    def __init__(self, base: int) -> None:
        self.unit = base**_GROUP
        value = np.arange(self.unit)
        full = np.zeros((self.unit, _GROUP), dtype=np.uint8)
        for place in range(_GROUP - 1, -1, -1):
            full[:, place] = np.frombuffer(b"0123456789abcdef", np.uint8)[value % base]
            value //= base
        first = full.copy()
        value = np.arange(self.unit)
        for place in range(_GROUP):
            first[value < base ** (_GROUP - 1 - place), place] = 0
        only = first.copy()
        only[0, -1] = ord("0")
        self.table: NDArray[np.uint32] = np.concatenate((first, full, only)).view(np.uint32)[:, 0]

    def put(self, place: NDArray[np.uint8], values: NDArray[np.int64]) -> None:
        """Write the digits of ``values`` into ``place``, uint8 of shape (n, 4 * groups)."""
        groups = place.shape[1] // _GROUP
        digits = np.empty((len(values), groups), dtype=np.uint32)
        rest = values
        for group in range(groups - 1, -1, -1):
            is_last = group == groups - 1
            if group:
                higher = rest // self.unit
                low = rest - higher * self.unit
                behind = self.unit if not is_last else -self.unit
                low += np.where(higher != 0, behind, 0)
                if is_last:
                    low += 2 * self.unit
            else:
                low = rest + 2 * self.unit if is_last else rest
                higher = rest
            digits[:, group] = self.table[low]
            rest = higher
        place[...] = digits.view(np.uint8)


_tables: dict[int, _Digits] = {}


def _digits(base: int) -> _Digits:
    if base not in _tables:
        _tables[base] = _Digits(base)
    return _tables[base]


def _put_decimal(place: NDArray[np.uint8], values: NDArray[np.int64]) -> None:
    _digits(10).put(place, values)


#: Row n: n spaces.
_SPACES = np.where(np.arange(_HEX_WIDTH) < np.arange(_HEX_WIDTH + 1)[:, None], ord(" "), 0).astype(
    np.uint8
)


def _put_hex(place: NDArray[np.uint8], values: NDArray[np.int64], *, padded: bool) -> None:
    """``0x`` (not before zero), the digits, and perhaps spaces up to the width."""
    digits = place[:, 2:-_HEX_WIDTH] if padded else place[:, 2:]
    _digits(16).put(digits, values)
    place[:, :2] = np.where(values[:, None] != 0, np.frombuffer(b"0x", np.uint8), np.uint8(0))
    if not padded:
        return
    used = np.count_nonzero(digits, axis=1) + np.where(values != 0, 2, 0)
    place[:, -_HEX_WIDTH:] = _SPACES[np.maximum(_HEX_WIDTH - used, 0)]
