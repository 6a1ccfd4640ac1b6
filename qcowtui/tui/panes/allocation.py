"""The allocation map: what each cluster is used for, in the order of the file or of the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widget import Widget

from ...views.selection import ACTIVE, Selection, select_guest, select_host
from ...views.session import Order, Part, Session
from .map_base import MapPane

if TYPE_CHECKING:
    from ...views.changes.plan_map import PlanMap
    from ...views.diff_map import DiffMap
    from ...views.legend import ClassLegend
    from ...views.painters import ClassPainter, Painter
    from ...views.pyramid import ClassPyramid
    from ..widgets.cluster_map import ClusterMap
    from ..widgets.legend import Legend
    from ..widgets.overview_strip import OverviewStrip


class AllocationPane(MapPane):
    """The map with its overview strip and legend."""

    TITLE = "Allocation"
    TAB = "Map"
    FILTERABLE = True
    PARTS = frozenset({Part.HOST_MAP, Part.GUEST_MAP, Part.DIFF})
    HELP = (
        "Each cell stands for one or more clusters, the pieces an image is divided into. The "
        "colour says what they are used for, the brightness how much of the cell is in use; a "
        "cell with damage shows the damage, however small.\n\n"
        "In the order of the host file you see where things lie in the file. In guest order "
        "({view.order}) you see the disk as the guest does: dark cells hold nothing in this "
        "file.\n\n"
        "The strip below is always the whole image: the bright part is what the map shows, ▲ "
        "marks damage. The legend counts every class; pick one there to see it alone.\n\n"
        "With planned changes ({edit.menu} lists what can be changed) the map shows what they free "
        "and write; {edit.show_plan} shows the image as it would be instead."
    )
    DEFAULT_CSS = """
    AllocationPane > OverviewStrip { margin: 0 1; }
    AllocationPane > Legend { margin: 0 1; max-height: 5; }
    """

    def __init__(self, session: Session, number: int | None = None, *, id: str) -> None:
        super().__init__(session, number, id=id)
        self._painters: dict[str, ClassPainter] = {}
        self._legends: dict[str, ClassLegend] = {}
        # The widgets below the map, which come with it.
        self._strip: OverviewStrip | None = None
        self._legend: Legend | None = None
        #: What is drawn instead of the classes: a thread may change the session's at any time.
        self._drawn: DiffMap | PlanMap | None = None

    # ---- what is drawn

    @property
    def order(self) -> Order:
        """The order of what is drawn: a difference is one of guest disks, a plan of the file."""
        drawn = self._drawn
        return self.session.order if drawn is None else drawn.order

    @property
    def _kind(self) -> str:
        drawn = self._drawn
        return self.order.name if drawn is None else drawn.kind

    def _pyramid(self) -> ClassPyramid | None:
        if (drawn := self._drawn) is not None:
            return drawn.pyramid
        return self.session.guest_map if self.order is Order.GUEST else self.session.host_map

    def painter(self) -> Painter | None:
        pyramid = self._pyramid()
        if pyramid is None:
            return None
        kept = self._painters.get(self._kind)
        if kept is None or kept.pyramid is not pyramid:
            self._make_painter(pyramid)
        return self._painters[self._kind]

    def _make_painter(self, pyramid: ClassPyramid) -> None:
        """A painter and a legend for what is drawn now, with the filter of the one before."""
        from ...views.legend import ClassLegend
        from ...views.painters import ClassPainter

        kind = self._kind
        before = self._legends.get(kind)
        if (drawn := self._drawn) is not None:
            painter = drawn.painter()
            self._painters[kind], self._legends[kind] = painter, drawn.legend(painter)
            return
        painter = ClassPainter(pyramid)
        legend = ClassLegend(painter, guest_order=self.order is Order.GUEST)
        self._painters[kind], self._legends[kind] = painter, legend
        for member in before.picked if before is not None else ():
            legend.toggle(member)

    def extras(self, map_: ClusterMap) -> list[Widget]:
        from ..widgets.legend import Legend
        from ..widgets.overview_strip import OverviewStrip

        self._strip = OverviewStrip(map_.painter, glyphs=self.glyphs)
        source = self._legends[self._kind]
        self._legend = Legend(source, self.session.cluster_size, glyphs=self.glyphs)
        return [self._strip, self._legend]

    def part_changed(self, part: Part) -> None:
        if part not in self.PARTS and part is not Part.IMAGE:
            return
        self.redraw()
        order_part = Part.GUEST_MAP if self.order is Order.GUEST else Part.HOST_MAP
        state = self.session.state_of(order_part)
        self.failed(state, self.session.failures.get(order_part, ""))

    def redraw(self) -> None:
        self._drawn = self.session.drawn
        super().redraw()
        map_ = self.map
        if map_ is None:
            return
        strip, legend = self._strip, self._legend
        if strip is not None and strip.is_mounted:
            if strip.painter is not map_.painter:
                strip.set_painter(map_.painter)
            else:
                strip.data_changed()
        if legend is not None and legend.is_mounted:
            source = self._legends[self._kind]
            if legend.source is not source:
                legend.set_source(source, self.session.cluster_size)
            else:
                legend.data_changed()
        self._tell_view()

    def _tell_view(self) -> None:
        """Tell the strip what the map shows, and the title at which scale."""
        map_ = self.map
        if map_ is None:
            return
        first, last = map_.viewport.visible_ranges()
        if self._strip is not None:
            self._strip.set_view(first, last, map_.cursor)
        curve = " · Hilbert curve" if map_.viewport.hilbert else ""
        drawn = self._drawn
        if drawn is None:
            self.retitle(f"{self.order.value} order{curve}", map_.scale_text)
        else:
            self.retitle(f"{drawn.title}: {drawn.verdict}{curve}", map_.scale_text)

    def scale_changed(self) -> None:
        self._tell_view()

    def on_overview_strip_picked(self, event: OverviewStrip.Picked) -> None:
        event.stop()
        self.post_message(self.Jump(self.selection_of(event.cluster)))

    def on_legend_filter_changed(self, event: Legend.FilterChanged) -> None:
        event.stop()
        self.redraw()

    # ---- selection

    def place_of_selection(self) -> int | None:
        selection = self.session.selection
        if self.order is Order.HOST:
            return selection.host_cluster
        if selection.guest_offset is None or selection.state != ACTIVE:
            return None
        return selection.guest_offset // self.session.cluster_size

    def selection_of(self, cluster: int) -> Selection:
        if self.order is Order.HOST:
            return select_host(cluster)
        return select_guest(cluster * self.session.cluster_size)

    def selection_changed(self, selection: Selection) -> None:
        self.follow_selection()
        self._tell_view()

    def order_changed(self) -> None:
        """The session's order is another one: draw that map, keep the place."""
        self._told = -1
        self.redraw()
        self.follow_selection()
        self._tell_view()

    # ---- keys

    def action_legend(self) -> None:
        """Focus the legend, or return from it to the map."""
        if self._legend is None:
            return
        if self._legend.has_focus:
            self.focus_target.focus()
        else:
            self._legend.focus()

    def action_filter(self) -> None:
        self.action_legend()

    def action_activate(self) -> None:
        if self._legend is not None and self._legend.has_focus:
            self._legend.action_toggle_entry()
        else:
            super().action_activate()

    def escape(self) -> bool:
        legend = self._legends.get(self._kind)
        if legend is not None and legend.picked:
            legend.clear()
            self.redraw()
            return True
        if self._legend is not None and self._legend.has_focus:
            self.focus_target.focus()
            return True
        return super().escape()
