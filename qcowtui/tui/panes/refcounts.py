"""The refcount heat map: how often each host cluster is said to be in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widget import Widget

from ...views.selection import Selection, select_host
from ...views.session import Part, PartState, Session
from ...views.units import count, plural
from .map_base import MapPane

if TYPE_CHECKING:
    from ...views.painters import HeatPainter, Painter
    from ..widgets.cluster_map import ClusterMap


class RefcountPane(MapPane):
    """Counts on disk, dark to bright; those that differ from the references found stand out."""

    TITLE = "Refcounts"
    TAB = "Refcounts"
    PARTS = frozenset({Part.HOST_MAP})
    WAITING = "Reading the refcounts …"
    DEFAULT_CSS = """
    RefcountPane > Legend { margin: 0 1; max-height: 2; }
    """
    HELP = (
        "A refcount says how many tables refer to a cluster: 1 for what only the active disk "
        "uses, more for what snapshots share with it, 0 for free space. The image keeps these "
        "counts beside its tables.\n\n"
        "The brighter a cell, the higher the largest count in it. Where a count differs from the "
        "references really found, the cell is marked: counted too often is a leak (space wasted, "
        "no damage), too seldom is a corruption."
    )

    def __init__(self, session: Session, number: int | None = None, *, id: str) -> None:
        super().__init__(session, number, id=id)
        self._painter: HeatPainter | None = None
        self._explained: HeatPainter | None = None  # what the legend is about

    def painter(self) -> Painter | None:
        pyramid = self.session.refcounts
        if pyramid is None:
            return None
        if self._painter is None or self._painter.pyramid is not pyramid:
            from ...views.painters import HeatPainter

            self._painter = HeatPainter(pyramid)
        return self._painter

    def extras(self, map_: ClusterMap) -> list[Widget]:
        from ...views.legend import HeatLegend
        from ..widgets.legend import Legend

        assert self._painter is not None
        return [Legend(HeatLegend(self._painter), glyphs=self.glyphs)]

    def redraw(self) -> None:
        super().redraw()
        if self._painter is None:
            return
        from ...views.legend import HeatLegend
        from ..widgets.legend import Legend

        for legend in self.query(Legend):
            if self._explained is not self._painter:
                legend.set_source(HeatLegend(self._painter))
            legend.data_changed()
        self._explained = self._painter

    def on_mount(self) -> None:
        if self.session.qcow2 is None:
            self.say("A raw image has no refcounts: every byte of it belongs to the disk.")

    def part_changed(self, part: Part) -> None:
        if part is not Part.HOST_MAP or self.session.qcow2 is None:
            return
        self.redraw()
        self.failed(self.session.state_of(part), self.session.failures.get(part, ""))
        self.scale_changed()

    def scale_changed(self) -> None:
        self.retitle(self._verdict(), "" if self.map is None else self.map.scale_text)

    def _verdict(self) -> str:
        refcounts = self.session.refcounts
        if refcounts is None:
            return ""
        wrong = refcounts.mismatched_clusters
        if wrong:
            image = self.session.qcow2
            why = " (postponed)" if image is not None and image.header.dirty else ""
            return f"{count(wrong)} differ from the references found{why}"
        if self.session.state_of(Part.HOST_MAP) is PartState.COMPLETE:
            return "on disk and found agree"
        read = refcounts.total - refcounts.unread_clusters
        return f"{plural(read, 'cluster')} compared"

    def place_of_selection(self) -> int | None:
        return self.session.selection.host_cluster

    def selection_of(self, cluster: int) -> Selection:
        return select_host(cluster)

    def selection_changed(self, selection: Selection) -> None:
        self.follow_selection()
