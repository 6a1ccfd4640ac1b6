"""Many ranges of bytes, as JSON or as a table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from qcowtui.views.units import plural, size_and_bytes

from .number_rows import Line, Number, RowPrinter, write_json_list
from .output import Output

#: Starts and lengths, int64 bytes, of the same shape (n,).
Ranges = tuple[NDArray[np.int64], NDArray[np.int64]]

_JSON = Line(('{ "start": ', ', "length": ', "},\n"), (True, True))
_HUMAN = Line(("", "", "\n"), (True, True))


def print_ranges_json(batches: Iterable[Ranges], output: Output) -> None:
    """A list of ``{start, length}``, one in a line."""
    rows = RowPrinter([_JSON], (Number.DECIMAL,) * 2)
    write_json_list(
        (
            text
            for start, length in batches
            for text in rows.print(np.zeros(len(start), dtype=np.intp), (start, length))
        ),
        output,
    )


def print_ranges_human(batches: Iterable[Ranges], output: Output) -> None:
    """A line for each range and one that sums them up."""
    rows = RowPrinter([_HUMAN], (Number.PADDED_HEX, Number.HEX))
    count = total = 0
    for start, length in batches:
        if not count and len(start):
            output.line(f"{'Offset':<16}Length")
        count += len(start)
        total += int(length.sum())
        for text in rows.print(np.zeros(len(start), dtype=np.intp), (start, length)):
            output.write_bytes(text)
    if count:
        output.line(f"{plural(count, 'range')}, {size_and_bytes(total)} in all.")
    else:
        output.line("No differences.")
