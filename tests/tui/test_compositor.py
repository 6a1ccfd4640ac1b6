"""What is painted in parts is what would be painted as a whole."""

from __future__ import annotations

from pathlib import Path

from rich.segment import Segment
from textual._compositor import ChopsUpdate
from textual.geometry import Region

from qcowtui.tui._compat import ThriftyCompositor

from .driving import WIDE, Driven, driving

_PLACES = (
    (Region(0, 0, 160, 48),),
    (Region(60, 10, 20, 1), Region(0, 46, 160, 1)),
    (Region(3, 5, 1, 1), Region(100, 40, 30, 4), Region(90, 2, 1, 30)),
)


def _characters(update: ChopsUpdate) -> dict[tuple[int, int], Segment]:
    """(column, line) of every cell of the spans -> its character and style."""
    found: dict[tuple[int, int], Segment] = {}
    for y, first, last in update.spans:
        for x, strip in update.chops[y].items():
            for text, style, _ in strip or ():
                for character in text:
                    if first <= x < last:
                        found[x, y] = Segment(character, style)
                    x += 1
    return found


def _whole(app: Driven) -> dict[tuple[int, int], Segment]:
    found = {}
    for y, strip in enumerate(app.dashboard._compositor.render_strips()):
        x = 0
        for text, style, _ in strip:
            for character in text:
                found[x, y] = Segment(character, style)
                x += 1
    return found


async def test_parts_are_as_the_whole(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await app.press("2", "right", "down")
        compositor = app.dashboard._compositor
        assert isinstance(compositor, ThriftyCompositor)
        whole = _whole(app)
        for places in _PLACES:
            compositor._dirty_regions.update(places)
            update = compositor.render_partial_update()
            assert isinstance(update, ChopsUpdate)
            cells = {
                (x, y) for place in places for y in place.line_range for x in place.column_range
            }
            painted = _characters(update)
            assert cells <= painted.keys()
            assert all(painted[cell] == whole[cell] for cell in cells)
