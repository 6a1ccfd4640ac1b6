"""Where two states of a disk differ, as a map in guest order."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from qcow.inspect.classes import ClusterClass

from . import units
from .legend import ClassLegend, LegendEntry
from .marking import marked
from .painters import ClassPainter
from .palette import FADES, Ink, MapTheme
from .pyramid import ClassPyramid
from .session import Order

#: What the classes of the pyramid stand for here.  Differences take a class that counts as damage,
#: so that no zoom hides one and the search for problems finds them.
NOTHING: Final = ClusterClass.FREE
SAME: Final = ClusterClass.DATA
DIFFERENT: Final = ClusterClass.CORRUPT
_LABELS: Final = {
    ClusterClass.UNREAD: "not compared yet",
    NOTHING: "nothing stored",
    SAME: "the same",
    DIFFERENT: "different",
}
#: Ranges that are kept one by one; the map has them all.
MAX_LISTED: Final = 10_000


class DiffMap:
    """``one`` and ``other`` name the states for people, safe to show.

    ``differing`` (bytes) and ``ranges`` grow while they are compared.
    """

    kind = "difference"

    def __init__(self, one: str, other: str, clusters: int, cluster_size: int) -> None:
        self.one = one
        self.other = other
        self.cluster_size = cluster_size
        self.pyramid = ClassPyramid(clusters)
        self.differing = 0
        self.ranges = 0
        #: The first ranges, (start, length) in bytes.
        self.listed: list[tuple[int, int]] = []

    @property
    def title(self) -> str:
        """``active ↔ before-update``."""
        return f"{self.one} ↔ {self.other}"

    @property
    def verdict(self) -> str:
        """``30.1 MiB differ in 12 ranges``."""
        if not self.ranges:
            return "no difference"
        return f"{units.size(self.differing)} differ in {units.plural(self.ranges, 'range')}"

    def add(self, start: NDArray[np.int64], length: NDArray[np.int64]) -> None:
        """Mark ranges of guest bytes, ascending."""
        self.differing += int(length.sum())
        self.ranges += len(start)
        room = MAX_LISTED - len(self.listed)
        self.listed += zip(start[:room].tolist(), length[:room].tolist(), strict=True)
        first = start // self.cluster_size
        stop = np.minimum(-(-(start + length) // self.cluster_size), self.pyramid.total)
        for low, inside in marked(first, stop):
            values = self.pyramid.classes(low, low + len(inside))
            values[inside] = DIFFERENT
            self.pyramid.update(low, values)

    @property
    def order(self) -> Order:
        """Disks are compared as the guest sees them."""
        return Order.GUEST

    def painter(self) -> ClassPainter:
        return DiffPainter(self)

    def legend(self, painter: ClassPainter) -> ClassLegend:
        assert isinstance(painter, DiffPainter)
        return DiffLegend(painter)


class DiffPainter(ClassPainter):
    """Differences stand out; what is the same keeps the look of data."""

    def __init__(self, difference: DiffMap) -> None:
        super().__init__(difference.pyramid)
        self.difference = difference

    def inks(self, theme: MapTheme) -> tuple[Ink, ...]:
        inks = list(super().inks(theme))
        first = 1 + DIFFERENT * FADES
        inks[first : first + FADES] = [_different(inks)] * FADES
        return tuple(inks)

    def describe(self, cluster: int) -> str:
        return _LABELS.get(self.pyramid.class_of(cluster), "")


def _different(inks: list[Ink]) -> Ink:
    """The look of a leak, which is warm and never fades, without its letter."""
    leaked = inks[1 + ClusterClass.LEAKED * FADES]
    return leaked._replace(glyph="*", mark="")


class DiffLegend(ClassLegend):
    """The three kinds there are."""

    def __init__(self, painter: DiffPainter) -> None:
        super().__init__(painter)
        self._inks_of = painter.inks

    def entries(self, theme: MapTheme) -> list[LegendEntry]:
        ink = self._inks_of(theme)[1 + DIFFERENT * FADES]
        return [
            entry._replace(
                label=_LABELS[ClusterClass(entry.key)],
                ink=ink if entry.key == DIFFERENT else entry.ink,
            )
            for entry in super().entries(theme)
            if ClusterClass(entry.key) in _LABELS
        ]
