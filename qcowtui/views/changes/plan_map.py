"""Where planned changes free and write, as a map in the order of the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from qcow.findings import Range
from qcow.inspect.classes import ClusterClass

from ..legend import ClassLegend, LegendEntry
from ..marking import marked
from ..painters import ClassPainter
from ..palette import FADES, Ink, MapTheme, class_ink
from ..pyramid import ClassPyramid
from ..session import Order
from ..units import count, plural

if TYPE_CHECKING:
    from qcow.edit.plan import Plan

#: What the classes of the pyramid stand for here.  What changes takes classes that count as damage:
#: then no zoom hides it, and looking for the next problem finds it.
NOTHING: Final = ClusterClass.FREE
SAME: Final = ClusterClass.DATA
FREED: Final = ClusterClass.LEAKED
WRITTEN: Final = ClusterClass.CORRUPT
_LABELS: Final = {
    ClusterClass.UNREAD: "not read yet",
    NOTHING: "free",
    SAME: "stays as it is",
    FREED: "freed by the plan",
    WRITTEN: "written by the plan",
}
_WINDOW: Final = 1 << 20


class PlanMap:
    """What of the planned image is written anew and what is no longer used; made whole at once."""

    kind = "plan"

    def __init__(
        self, plans: Sequence[Plan], planned: ClassPyramid, cluster_size: int, length: int
    ) -> None:
        """``planned`` is the map of the image as planned, ``length`` that of the longer file."""
        self.cluster_size = cluster_size
        total = max(planned.total, -(-length // cluster_size))
        self.pyramid = ClassPyramid(total)
        self._draw_used(planned)
        self._changes = len(plans)
        freed = [one for plan in plans for one in plan.freed_ranges]
        wrote = [one for plan in plans for one in plan.written_ranges]
        # What one plan writes another one may free: the image at the end tells.
        self.freed = self._mark(freed, NOTHING, FREED)
        self.written = self._mark(wrote, SAME, WRITTEN)

    @property
    def order(self) -> Order:
        return Order.HOST

    @property
    def title(self) -> str:
        """``1 planned change``."""
        return plural(self._changes, "planned change")

    @property
    def verdict(self) -> str:
        """``482 clusters freed, 3 written``."""
        return f"{count(self.freed)} clusters freed, {count(self.written)} written"

    @property
    def ranges(self) -> int:
        """How much there is to go through: 0 for nothing."""
        return self.freed + self.written

    def painter(self) -> ClassPainter:
        return PlanPainter(self.pyramid)

    def legend(self, painter: ClassPainter) -> ClassLegend:
        return PlanLegend(painter)

    def _draw_used(self, planned: ClassPyramid) -> None:
        kinds = np.full(256, SAME, np.uint8)
        kinds[[ClusterClass.FREE, ClusterClass.BEYOND_END]] = NOTHING
        kinds[ClusterClass.UNREAD] = ClusterClass.UNREAD
        edges = [*range(0, planned.total, _WINDOW), planned.total]
        for low, high in pairwise(edges):
            self.pyramid.update(low, kinds[planned.classes(low, high)])
        if planned.total < self.pyramid.total:
            rest = np.array([self.pyramid.total - planned.total])
            self.pyramid.update_runs(planned.total, rest, np.array([NOTHING], np.uint8))

    def _mark(self, ranges: Iterable[Range], where: ClusterClass, kind: ClusterClass) -> int:
        """Give clusters of class ``where`` in the ranges another class; how many there are."""
        found = 0
        first, stop = _clusters(ranges, self.cluster_size, self.pyramid.total)
        for low, inside in marked(first, stop):
            values = self.pyramid.classes(low, low + len(inside))
            inside &= values == where
            values[inside] = kind
            found += int(inside.sum())
            self.pyramid.update(low, values)
        return found


def _clusters(
    ranges: Iterable[Range], cluster_size: int, total: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The clusters ``[first, stop)`` that ranges touch, ascending and apart from each other."""
    pairs = sorted((one.start // cluster_size, -(-one.end // cluster_size)) for one in ranges)
    joined: list[list[int]] = []
    for first, stop in pairs:
        stop = min(stop, total)
        if joined and first <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], stop)
        elif first < stop:
            joined.append([first, stop])
    edges = np.array(joined, dtype=np.int64).reshape(-1, 2)
    return edges[:, 0], edges[:, 1]


class PlanPainter(ClassPainter):
    """What changes stands out; what stays keeps the look of data."""

    def inks(self, theme: MapTheme) -> tuple[Ink, ...]:
        inks = list(super().inks(theme))
        for kind, ink in _inks(theme).items():
            first = 1 + kind * FADES
            inks[first : first + FADES] = [ink] * FADES
        return tuple(inks)

    def problems(self, first: int, per_cell: int, cells: int) -> NDArray[np.bool_]:
        """None: what changes is no damage."""
        return np.zeros(len(self.codes(first, per_cell, cells)), np.bool_)

    def describe(self, cluster: int) -> str:
        return _LABELS.get(self.pyramid.class_of(cluster), "")


def _inks(theme: MapTheme) -> dict[ClusterClass, Ink]:
    freed = class_ink(theme, ClusterClass.LEAKED)._replace(glyph="-", mark="")
    wrote = class_ink(theme, ClusterClass.SHARED)._replace(glyph="+", mark="")
    return {FREED: freed, WRITTEN: wrote}


class PlanLegend(ClassLegend):
    """The kinds there are."""

    def entries(self, theme: MapTheme) -> list[LegendEntry]:
        inks = _inks(theme)
        return [
            entry._replace(
                label=_LABELS[ClusterClass(entry.key)],
                ink=inks.get(ClusterClass(entry.key), entry.ink),
            )
            for entry in super().entries(theme)
            if ClusterClass(entry.key) in _LABELS
        ]
