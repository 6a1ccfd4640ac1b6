"""What a legend lists: the kinds of cells there are, how many clusters each has, how each looks."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from qcow.inspect.classes import ClusterClass

from .painters import FIRST_HEAT, HEAT_STEPS, ClassPainter, HeatPainter
from .palette import FADES, Ink, MapTheme, class_ink

#: Labels that would make the legend wide, shortened.
_SHORT: Final = {
    ClusterClass.BEYOND_END: "beyond end",
    ClusterClass.ZERO_ALLOCATED: "zero",
    ClusterClass.SNAPSHOT_L1: "snapshot L1",
}
#: What the same class is called when guest clusters are counted.
_GUEST_ORDER: Final = {ClusterClass.FREE: "unallocated"}


class LegendEntry(NamedTuple):
    """``key`` identifies the kind (a class number); ``clusters`` is exact."""

    key: int
    label: str
    clusters: int
    ink: Ink
    shown: bool


class LegendSource(Protocol):
    """What a legend widget asks; one for each kind of painter."""

    @property
    def filters(self) -> bool:
        """Whether :meth:`toggle` does anything."""

    @property
    def generation(self) -> int:
        """Another number when entries may have changed."""

    def entries(self, theme: MapTheme) -> list[LegendEntry]:
        """The kinds that are present, damage first."""

    def toggle(self, key: int) -> None:
        """Pick or drop a kind; the map dims what is not picked, if anything is."""


class ClassLegend:
    """The classes present in a :class:`ClassPainter`, and its filter."""

    filters = True

    def __init__(self, painter: ClassPainter, *, guest_order: bool = False) -> None:
        """In guest order a cluster without a place in this file is unallocated, not free."""
        self._painter = painter
        self._labels = {**_SHORT, **(_GUEST_ORDER if guest_order else {})}
        self._picked: frozenset[ClusterClass] = frozenset()

    @property
    def generation(self) -> int:
        return self._painter.generation

    @property
    def picked(self) -> frozenset[ClusterClass]:
        """The classes the map is filtered by; none means everything is shown."""
        return self._picked

    def entries(self, theme: MapTheme) -> list[LegendEntry]:
        counts = self._painter.pyramid.counts.tolist()
        shown = self._painter.shown
        present = [member for member in ClusterClass if counts[member] or member in self._picked]
        present.sort(key=lambda member: not member.is_problem)  # stable: damage first
        return [
            LegendEntry(
                member,
                self._labels.get(member, member.label),
                counts[member],
                class_ink(theme, member),
                member in shown or member.is_problem,
            )
            for member in present
        ]

    def toggle(self, key: int) -> None:
        self._picked = self._picked ^ {ClusterClass(key)}
        self._painter.show_only(self._picked or None)

    def clear(self) -> None:
        """Show everything."""
        self._picked = frozenset()
        self._painter.show_only(None)


class HeatLegend:
    """The steps of a :class:`HeatPainter`."""

    filters = False

    def __init__(self, painter: HeatPainter) -> None:
        self._painter = painter

    @property
    def generation(self) -> int:
        return self._painter.generation

    def entries(self, theme: MapTheme) -> list[LegendEntry]:
        pyramid = self._painter.pyramid
        inks = self._painter.inks(theme)
        counts = pyramid.histogram.tolist()
        entries = [
            LegendEntry(-2, "wrong count", pyramid.mismatched_clusters, inks[-1], True),
            LegendEntry(-1, ClusterClass.UNREAD.label, pyramid.unread_clusters, inks[1], True),
            LegendEntry(0, "no reference", counts[0], inks[1 + FADES], True),
        ]
        most = len(counts) - 1  # the last count is of everything from here on
        for step, (low, high) in enumerate(pairwise((*HEAT_STEPS, most + 1))):
            if low >= most:
                entries.append(_heat(inks, step, low, f"{low} or more", sum(counts[low:])))
                break
            label = f"{low}" if high == low + 1 else f"{low} to {high - 1}"
            entries.append(_heat(inks, step, low, label, sum(counts[low:high])))
        return [entry for entry in entries if entry.clusters]

    def toggle(self, key: int) -> None:
        """A heat map has no filter."""


def _heat(
    inks: tuple[Ink, ...], step: int, refcount: int, label: str, clusters: int
) -> LegendEntry:
    """A step of the ramp, in its full brightness."""
    return LegendEntry(refcount, label, clusters, inks[(step + FIRST_HEAT + 1) * FADES], True)
