"""What a map widget is given to paint: codes for cells, and an ink for each code.

The same widget shows host order, guest order and the refcount heat map; only the painter differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from qcow.inspect.classes import ClusterClass

from . import units
from .palette import FADES, Ink, MapTheme, class_ink, dimmed_ink, heat_ink
from .pyramid import ClassPyramid, RefcountPyramid
from .pyramid.classes import ALL_CLASSES, PROBLEMS, worst_class

#: Code of a place that is not in the image.
OUTSIDE: Final = 0

Codes = NDArray[np.uint8]


class Painter(Protocol):
    """The source of a map: any thread may feed it, the screen asks it."""

    @property
    def total(self) -> int:
        """Clusters."""

    @property
    def generation(self) -> int:
        """Another number when any code may have changed."""

    def inks(self, theme: MapTheme) -> tuple[Ink, ...]:
        """The look of each code (at most 255); the first is OUTSIDE."""

    def codes(self, first: int, per_cell: int, cells: int) -> Codes:
        """Codes of at most ``cells`` cells of ``per_cell`` clusters from cluster ``first``."""

    def problems(self, first: int, per_cell: int, cells: int) -> NDArray[np.bool_]:
        """Whether each of the same cells holds damage."""

    def is_problem(self, cluster: int) -> bool:
        """Whether this cluster is damaged."""

    def find_problem(self, start: int, forward: bool = True) -> int | None:
        """The nearest damaged cluster at or behind ``start`` (backward: at or before)."""

    def run_end(self, cluster: int, forward: bool = True) -> int:
        """The first cluster behind (before) ``cluster`` that is not damaged in the same way."""

    def describe(self, cluster: int) -> str:
        """What one cluster is, in a few words."""


def _blank(theme: MapTheme) -> Ink:
    return class_ink(theme, ClusterClass.FREE)._replace(glyph=" ")


def _fades(fill: NDArray[np.float32]) -> Codes:
    """Four steps of brightness: anything in use is at least the second darkest it can be."""
    return np.minimum(fill * FADES, FADES - 1).astype(np.uint8)


@lru_cache(maxsize=4)
def _class_inks(theme: MapTheme) -> tuple[Ink, ...]:
    faded = [class_ink(theme, member, fade) for member in ClusterClass for fade in range(FADES)]
    return (_blank(theme), *faded, *(dimmed_ink(theme, member) for member in ClusterClass))


class ClassPainter:
    """Cluster classes: hue by class, brightness by how much is in use.

    A filter (:meth:`show_only`) dims the classes left out; a cell then takes the hue of the worst
    class it shows.  Damage is shown whatever the filter says.
    """

    def __init__(self, pyramid: ClassPyramid) -> None:
        self.pyramid = pyramid
        self._shown = ALL_CLASSES
        self._revision = 0

    @property
    def total(self) -> int:
        return self.pyramid.total

    @property
    def generation(self) -> int:
        return self.pyramid.generation + self._revision

    @property
    def shown(self) -> frozenset[ClusterClass]:
        """The classes the filter lets through."""
        return frozenset(member for member in ClusterClass if self._shown >> member & 1)

    def show_only(self, classes: Iterable[ClusterClass] | None) -> None:
        """Dim all other classes; None shows everything."""
        mask = ALL_CLASSES if classes is None else sum(1 << member for member in set(classes))
        if mask != self._shown:
            self._shown = mask
            self._revision += 1

    def inks(self, theme: MapTheme) -> tuple[Ink, ...]:
        return _class_inks(theme)

    def codes(self, first: int, per_cell: int, cells: int) -> Codes:
        mask, hue, fill, _ = self.pyramid.sample(first, per_cell, cells)
        if self._shown == ALL_CLASSES:
            return np.uint8(1) + hue * np.uint8(FADES) + _fades(fill)
        shown = mask & np.uint32(self._shown | PROBLEMS)
        # The hue of the whole cell stays where the filter shows it; else the worst that it shows.
        stays = (shown >> hue & np.uint32(1)) != 0
        seen = np.where(stays, hue, worst_class(shown))
        codes = np.uint8(1) + seen * np.uint8(FADES) + _fades(np.maximum(fill, np.float32(0.5)))
        return np.where(shown != 0, codes, np.uint8(1 + len(ClusterClass) * FADES) + hue)

    def problems(self, first: int, per_cell: int, cells: int) -> NDArray[np.bool_]:
        mask = self.pyramid.sample(first, per_cell, cells).mask
        found: NDArray[np.bool_] = (mask & np.uint32(PROBLEMS)) != 0
        return found

    def is_problem(self, cluster: int) -> bool:
        return self.pyramid.class_of(cluster).is_problem

    def find_problem(self, start: int, forward: bool = True) -> int | None:
        return self.pyramid.find(start, PROBLEMS, forward)

    def run_end(self, cluster: int, forward: bool = True) -> int:
        others = ALL_CLASSES & ~(1 << self.pyramid.class_of(cluster))
        found = self.pyramid.find(cluster, others, forward)
        return found if found is not None else self.total if forward else -1

    def describe(self, cluster: int) -> str:
        return self.pyramid.class_of(cluster).label


#: The smallest refcount of each step of the heat map.
HEAT_STEPS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 64, 256)
#: Where each step lies on the ramp: the first few counts are the ones to tell apart.
_HEAT_POSITIONS: Final = (0, 0.3, 0.42, 0.5, 0.56, 0.61, 0.65, 0.69, 0.73, 0.8, 0.88, 0.94, 1)
_HEAT_GLYPHS: Final = "123456789abcd"
#: Codes come in steps of FADES: not read, no reference, then from this one on HEAT_STEPS.
FIRST_HEAT: Final = 2


class HeatPainter:
    """Refcounts: the largest in each cell, dark to bright; a wrong one is damage."""

    def __init__(self, pyramid: RefcountPyramid) -> None:
        self.pyramid = pyramid

    @property
    def total(self) -> int:
        return self.pyramid.total

    @property
    def generation(self) -> int:
        return self.pyramid.generation

    def inks(self, theme: MapTheme) -> tuple[Ink, ...]:
        unread = class_ink(theme, ClusterClass.UNREAD)
        free = class_ink(theme, ClusterClass.FREE)
        ramp = [
            heat_ink(theme, position, glyph, fade)
            for position, glyph in zip(_HEAT_POSITIONS, _HEAT_GLYPHS, strict=True)
            for fade in range(FADES)
        ]
        wrong = class_ink(theme, ClusterClass.CORRUPT)
        return (_blank(theme), *[unread] * FADES, *[free] * FADES, *ramp, wrong)

    def codes(self, first: int, per_cell: int, cells: int) -> Codes:
        refcount, mismatch, _, fill = self.pyramid.sample(first, per_cell, cells)
        step = np.searchsorted(np.array(HEAT_STEPS), refcount, side="right") + FIRST_HEAT - 1
        step[refcount < 0] = 0
        codes = (1 + step * FADES).astype(np.uint8) + _fades(fill)
        codes[mismatch] = 1 + (len(HEAT_STEPS) + FIRST_HEAT) * FADES
        return codes

    def problems(self, first: int, per_cell: int, cells: int) -> NDArray[np.bool_]:
        return self.pyramid.sample(first, per_cell, cells).mismatch

    def is_problem(self, cluster: int) -> bool:
        held = self.pyramid.refcount_of(cluster)
        return held is not None and held[1]

    def find_problem(self, start: int, forward: bool = True) -> int | None:
        return self.pyramid.find_mismatch(start, forward)

    def run_end(self, cluster: int, forward: bool = True) -> int:
        found = self.pyramid.find_match(cluster, forward)
        return found if found is not None else self.total if forward else -1

    def describe(self, cluster: int) -> str:
        held = self.pyramid.refcount_of(cluster)
        if held is None:
            return ClusterClass.UNREAD.label
        text = f"refcount {units.count(held[0])}"
        return text + " (not the number of references found)" if held[1] else text
