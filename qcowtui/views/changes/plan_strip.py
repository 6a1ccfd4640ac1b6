"""A line that shows where in the file a plan frees and writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcow.edit.plan import Plan
    from qcow.findings import Range


class Cell(IntEnum):
    """What happens in a part of the file; the larger one is shown where several do."""

    SAME = 0
    GONE = 1  # the file ends before it
    FREED = 2
    WRITTEN = 3


#: A character for each, where colours do not tell.
GLYPHS = {Cell.SAME: "·", Cell.GONE: " ", Cell.FREED: "-", Cell.WRITTEN: "+"}
MEANINGS = {Cell.FREED: "freed", Cell.WRITTEN: "written", Cell.SAME: "as it is"}


def plan_strip(plans: Sequence[Plan], cells: int) -> list[tuple[Cell, int]]:
    """Runs of cells over the whole file, as long as it is at most."""
    end = max(max(plan.length_before, plan.length_after) for plan in plans)
    found = [Cell.SAME] * cells
    if not end:
        return []
    after = plans[-1].length_after
    for at in range(-(-after * cells // end), cells):
        found[at] = Cell.GONE
    for plan in plans:
        _mark(found, plan.freed_ranges, end, Cell.FREED)
        _mark(found, plan.written_ranges, end, Cell.WRITTEN)
    return [(cell, len(list(run))) for cell, run in groupby(found)]


def _mark(found: list[Cell], ranges: Iterable[Range], end: int, cell: Cell) -> None:
    """Mark every cell that a range touches: nothing is too small to show."""
    cells = len(found)
    for one in ranges:
        first = min(cells - 1, one.start * cells // end)
        stop = min(cells, -(-(one.start + one.length) * cells // end))
        for at in range(first, max(first + 1, stop)):
            if found[at] is not Cell.GONE or cell is Cell.FREED:
                found[at] = max(found[at], cell)
