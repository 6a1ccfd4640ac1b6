"""A line that shows where in a file something is wrong, for before and after a repair."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from qcow.inspect.classes import ClusterClass

from .tones import Tone

if TYPE_CHECKING:
    from .pyramid import ClassPyramid

#: The characters, and what they mean where colours do not tell.
MEANINGS = {"!": "damaged", "?": "leaked", "#": "in use", "·": "free"}
_TONES = {"!": Tone.BAD, "?": Tone.WARNING, "#": Tone.GOOD, "·": Tone.MUTED}


def damage_strip(pyramid: ClassPyramid, cells: int) -> list[tuple[str, Tone]]:
    """Runs of at most ``cells`` characters over the whole file; no damage is too small to show."""
    if not pyramid.total:
        return []
    per_cell = 1
    while per_cell * cells < pyramid.total:
        per_cell *= 2
    count = -(-pyramid.total // per_cell)
    hues = pyramid.sample(0, per_cell, count).hue.tolist()
    return [
        (glyph * len(list(run)), _TONES[glyph])
        for glyph, run in groupby(_glyph(ClusterClass(hue)) for hue in hues)
    ]


def _glyph(kind: ClusterClass) -> str:
    if kind > ClusterClass.LEAKED:
        return "!"
    if kind is ClusterClass.LEAKED:
        return "?"
    return "·" if kind in (ClusterClass.UNREAD, ClusterClass.FREE, ClusterClass.BEYOND_END) else "#"
