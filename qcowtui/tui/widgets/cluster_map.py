"""The map of clusters: a picture of a whole image, from all of it down to single clusters.

What is painted comes from a :class:`~qcowtui.views.painters.Painter`; where, from a
:class:`~qcowtui.views.viewport.Viewport`.  The widget overrides ``render_lines`` and hands out the
same strips until something changes: a full screen of noise is painted in a few milliseconds.  In
exchange it has no border or padding of its own: put it into a container that has.

It binds no keys; the app's commands call its ``action_`` methods.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.style import Style
from textual import events
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ...views import units
from ...views.painters import Painter
from ...views.palette import mix
from ...views.viewport import Viewport
from .._compat import Keyless
from ..theme import map_theme
from .ink_styles import Depth, ink_styles
from .map_lines import LABEL_WIDTH, MapLines, MapLook

#: Narrower maps have no labels.
_MIN_WIDTH_FOR_LABELS = 48
_WHEEL_LINES = 3

Tooltip = Callable[[int], str]


class ClusterMap(Keyless, ScrollView, can_focus=True, inherit_bindings=False):
    """A map of clusters over any painter.

    ``cluster_size`` (bytes) turns clusters into the offsets of the labels.  ``tooltip_of`` gives
    the text for a cluster under the mouse.  ``depth`` and ``glyphs`` are found out from the
    terminal where they are None; ``glyphs`` True draws one ASCII character a cell.
    """

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    ClusterMap {
        width: 1fr;
        height: 1fr;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        scrollbar-background: $background;
        scrollbar-background-hover: $background;
        scrollbar-background-active: $background;
    }
    """

    class Selected(Message):
        """The user put the cursor on another cluster."""

        def __init__(self, map_: ClusterMap, cluster: int) -> None:
            super().__init__()
            self.map = map_
            #: The cluster under the cursor: the first of its cell, or the damaged one.
            self.cluster = cluster

        @property
        def control(self) -> ClusterMap:
            return self.map

    class Activated(Selected):
        """The user asked for more about the cluster under the cursor."""

    class Scrolled(Message):
        """Other lines came into view (``map.viewport.visible_ranges()`` says which clusters)."""

        def __init__(self, map_: ClusterMap) -> None:
            super().__init__()
            self.map = map_

        @property
        def control(self) -> ClusterMap:
            return self.map

    class ScaleChanged(Message):
        """Another scale, order or size of the view."""

        def __init__(self, map_: ClusterMap) -> None:
            super().__init__()
            self.map = map_
            #: For people: ``1 cell = 4 MiB = 64 clusters``.
            self.text = map_.scale_text

        @property
        def control(self) -> ClusterMap:
            return self.map

    def __init__(
        self,
        painter: Painter,
        cluster_size: int = 65536,
        *,
        tooltip_of: Tooltip | None = None,
        depth: Depth | None = None,
        glyphs: bool | None = None,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.painter = painter
        self.viewport = Viewport(painter.total)
        self._tooltip_of = tooltip_of
        self._depth = depth
        self._glyphs = glyphs
        self._lines = MapLines(self.viewport, cluster_size)
        self._look: MapLook | None = None
        self._hovered: int | None = None
        self._shown_lines = 0

    # ---- what the app does with it

    @property
    def cluster_size(self) -> int:
        """Bytes of one cluster."""
        return self._lines.cluster_size

    @property
    def cursor(self) -> int:
        """The cluster under the cursor."""
        return self.viewport.cursor

    @property
    def scale_text(self) -> str:
        """``1 cell = 4 MiB = 64 clusters``."""
        view = self.viewport
        if view.zoom < 0:
            lines = view.cell_height // view.dots_per_line
            drawn = units.plural(view.cell_width * lines, "character")
            return f"1 cluster = {units.size(self.cluster_size)} = {drawn}"
        count = view.clusters_per_cell
        size = units.size(count * self.cluster_size)
        return f"1 cell = {size} = {units.plural(count, 'cluster')}"

    def select(self, cluster: int) -> None:
        """Put the cursor on a cluster without telling anybody: another pane chose it."""
        self._change(lambda: self.viewport.go_to(cluster, jump=True), tell=False)

    def set_painter(self, painter: Painter, cluster_size: int | None = None) -> None:
        """Show something else; scale and cursor stay as far as they can."""
        self.painter = painter
        self._lines.cluster_size = cluster_size or self.cluster_size
        self._look = None
        self._lines.forget()
        self._change(lambda: self.viewport.set_total(painter.total), tell=False)
        self.refresh()

    def data_changed(self) -> None:
        """The painter may have news: repaint the lines in view that really look different."""
        if self.painter.total != self.viewport.total:
            self.set_painter(self.painter)
        elif self.is_mounted and self.size:
            top = self.viewport.top
            bottom = top + self.size.height
            for line in self._lines.news(top, bottom, self.painter, self._look_now()):
                self.refresh_line(line)

    # ---- actions

    def action_move(self, right: int, down: int) -> None:
        """Move the cursor by cells."""
        self._change(lambda: self.viewport.move(right, down))

    def action_page(self, pages: int) -> None:
        """Move by whole views."""
        self._change(lambda: self.viewport.page(pages))

    def action_home(self) -> None:
        """To the first cluster."""
        self._change(self.viewport.home)

    def action_end(self) -> None:
        """To the last cluster."""
        self._change(self.viewport.end)

    def action_zoom(self, steps: int) -> None:
        """Positive: more of the image; negative: more detail."""
        self._change(lambda: self.viewport.zoom_by(steps))

    def action_zoom_in(self) -> None:
        """Twice the detail."""
        self.action_zoom(-1)

    def action_zoom_out(self) -> None:
        """Twice as much of the image."""
        self.action_zoom(1)

    def action_zoom_fit(self) -> None:
        """The whole image."""
        self._change(self.viewport.fit)

    def action_zoom_one_to_one(self) -> None:
        """One cluster in each cell."""
        self._change(lambda: self.viewport.zoom_to(0))

    def action_toggle_curve(self) -> None:
        """Rows or Hilbert squares."""
        self._change(self.viewport.toggle_curve)

    def action_next_problem(self) -> None:
        """To the next damaged cluster."""
        self._seek(forward=True)

    def action_previous_problem(self) -> None:
        """To the damaged cluster before this one."""
        self._seek(forward=False)

    def action_activate(self) -> None:
        """More about the cluster under the cursor."""
        if self.viewport.total:
            self.post_message(self.Activated(self, self.cursor))

    def _seek(self, forward: bool) -> None:
        found = False

        def seek() -> None:
            nonlocal found
            found = self.viewport.next_problem(self.painter, forward)

        self._change(seek)
        if not found:
            self.app.bell()

    # ---- changes

    def _change(self, change: Callable[[], None], tell: bool = True) -> None:
        """Change the viewport, and repaint and tell exactly what that calls for."""
        view = self.viewport
        old = view.cursor, view.top, view.lines, self._shape
        lines = view.cursor_lines
        change()
        if not self.is_mounted or not self.size:
            return
        if old[3] != self._shape:
            self._lines.forget()
            self._show()
            self.refresh()
            self.post_message(self.ScaleChanged(self))
        elif old[1] != view.top:
            self._show()
        if old[0] != view.cursor or old[3] != self._shape:
            for first, last in {lines, view.cursor_lines}:
                self.refresh_lines(first, last - first + 1)
        if tell and old[0] != view.cursor:
            self.post_message(self.Selected(self, view.cursor))

    @property
    def _shape(self) -> tuple[int, ...]:
        view = self.viewport
        return (
            view.zoom,
            view.clusters_per_cell,
            view.hilbert,
            view.width,
            view.height,
            view.dots_per_line,
            view.total,
        )

    def _show(self) -> None:
        """Bring the scroll bar to where the viewport is."""
        view = self.viewport
        if view.lines != self._shown_lines:
            self._shown_lines = view.lines
            # Set like any other value it would lay out the whole screen anew, and paint it twice.
            self.set_reactive(ClusterMap.virtual_size, Size(self.size.width, view.lines))
            self.vertical_scrollbar.window_virtual_size = view.lines
            self.vertical_scrollbar.refresh()
        self.scroll_to(y=view.top, animate=False, force=True)

    def _fit(self) -> None:
        """Room for labels where there is room, and the rest for the viewport."""
        self._look_now()  # knows how many dots a character shows
        width = self.size.width - self.scrollbar_gutter.width
        wide = width >= _MIN_WIDTH_FOR_LABELS
        self._lines.label_width = LABEL_WIDTH if wide else 0
        self.viewport.resize(width - self._lines.label_width, self.size.height)

    def on_resize(self) -> None:
        self._change(self._fit, tell=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.viewport.scroll_to(round(new_value))
        if round(old_value) != round(new_value):
            self.post_message(self.Scrolled(self))

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._look = None
        self._lines.forget()

    def on_focus(self) -> None:
        self._refresh_cursor()

    def on_blur(self) -> None:
        self._refresh_cursor()

    def _refresh_cursor(self) -> None:
        first, last = self.viewport.cursor_lines
        self.refresh_lines(first, last - first + 1)

    # ---- the mouse

    def cluster_at(self, x: int, y: int) -> int | None:
        """The first cluster of the cell at a place in the widget, or None."""
        view = self.viewport
        column = x - self._lines.label_width
        if column < 0:
            return None
        return view.cluster_at(column, (y + view.top) * view.dots_per_line)

    def on_click(self, event: events.Click) -> None:
        cluster = self.cluster_at(event.x, event.y)
        if cluster is None:
            return
        self._change(lambda: self.viewport.go_to(cluster))
        if event.chain == 2:
            self.action_activate()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._tooltip_of is None:
            return
        cluster = self.cluster_at(event.x, event.y)
        if cluster != self._hovered:
            self._hovered = cluster
            # Content, not str: what the text says must never be read as markup.
            self.tooltip = None if cluster is None else Content(self._tooltip_of(cluster))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, -1)

    def _wheel(self, event: events.MouseEvent, direction: int) -> None:
        event.stop()
        event.prevent_default()
        if event.ctrl:
            self.action_zoom(direction)
        else:
            top = self.viewport.top + direction * _WHEEL_LINES
            self._change(lambda: self.viewport.scroll_to(top))

    # ---- painting

    def _look_now(self) -> MapLook:
        """Colours of the theme, made when they are first needed."""
        if self._look is None:
            theme = map_theme(self.app)
            depth = Depth.of(self.app) if self._depth is None else self._depth
            glyphs = depth is Depth.NONE if self._glyphs is None else self._glyphs
            background = self.background_colors[1]
            base, text = background.rgb, background.get_contrast_text(1.0).rgb
            inks = ink_styles(self.painter.inks(theme), theme, depth, glyphs, base, text)
            view, dots = self.viewport, 1 if glyphs else 2
            if view.dots_per_line != dots:
                view.resize(view.width, view.height, dots)
                self._lines.forget()
            if depth is Depth.NONE:
                self._look = MapLook(inks, Style(dim=True), Style(bold=True))
            else:
                faint, strong = mix(base, text, 0.45), mix(base, text, 0.95)
                self._look = MapLook(
                    inks, inks.text(faint, 8), inks.text(strong, None) + Style(bold=True)
                )
        return self._look

    def render_lines(self, crop: Region) -> list[Strip]:
        top = self.scroll_offset.y
        strips = self._lines.strips(
            top + crop.y, top + crop.bottom, self.painter, self._look_now(), self.has_focus
        )
        left, right = crop.column_span
        if left == 0 and right == self._lines.width:
            return strips
        return [strip.crop(left, right) for strip in strips]

    def render_line(self, y: int) -> Strip:
        return self.render_lines(Region(0, y, self.size.width, 1))[0]
