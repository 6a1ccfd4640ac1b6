"""The legend of a map: what its colours mean, how much of each there is, and a filter."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from ...views import units
from ...views.legend import LegendEntry, LegendSource
from ..theme import map_theme
from .ink_styles import Depth
from .own_colors import OwnColors

_GAP = 2
_SWATCH = 2


class _Grid(NamedTuple):
    """Entries run down the columns; ``widths`` are those of the columns."""

    rows: int
    widths: tuple[int, ...]


class Legend(OwnColors, can_focus=True, inherit_bindings=False):
    """Entries in as many columns as fit.

    Binds no keys: ``action_move`` and ``action_toggle_entry`` are for the app's commands.  With
    ``cluster_size`` the amounts are bytes, else clusters.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "legend--label",
        "legend--amount",
        "legend--dimmed",
        "legend--cursor",
    }
    DEFAULT_CSS = """
    Legend {
        width: 1fr;
        height: auto;
        .legend--label { color: $text; }
        .legend--amount { color: $text-muted; }
        .legend--dimmed { color: $text-disabled; }
        .legend--cursor { background: $block-cursor-blurred-background; }
        &:focus .legend--cursor {
            background: $block-cursor-background;
            color: $block-cursor-foreground;
        }
    }
    """

    class FilterChanged(Message):
        """The user picked or dropped a kind; the source's painter already shows it."""

        def __init__(self, legend: Legend, key: int) -> None:
            super().__init__()
            self.legend = legend
            self.key = key

        @property
        def control(self) -> Legend:
            return self.legend

    def __init__(
        self,
        source: LegendSource,
        cluster_size: int | None = None,
        *,
        depth: Depth | None = None,
        glyphs: bool | None = None,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.source = source
        self._cluster_size = cluster_size
        self._depth = depth
        self._glyphs = glyphs
        self._entries: list[LegendEntry] = []
        self._generation = -1
        self._cursor = 0
        self._room = (0, 0)  # columns and lines

    def set_source(self, source: LegendSource, cluster_size: int | None = None) -> None:
        """Explain another map."""
        self.source = source
        self._cluster_size = cluster_size or self._cluster_size
        self._generation = -1
        self.data_changed()

    def data_changed(self) -> None:
        """The source may have news: lay out again if it needs more lines than before."""
        if self._generation == self.source.generation:
            return
        self._read()
        width, rows = self._room
        self.refresh(layout=self._grid(width).rows > rows)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._generation = -1

    def _read(self) -> list[LegendEntry]:
        if self._generation != self.source.generation:
            self._generation = self.source.generation
            self._entries = self.source.entries(map_theme(self.app))
            self._cursor = min(self._cursor, max(0, len(self._entries) - 1))
        return self._entries

    # ---- layout

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return container.width

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        self._read()
        rows = self._grid(width).rows
        if self._room[0] == width:  # whatever there is to explain, the map keeps its size
            rows = max(rows, self._room[1])
        self._room = (width, rows)
        return rows

    def _grid(self, width: int) -> _Grid:
        """The most columns that fit, each as wide as its widest entry."""
        count = len(self._entries)
        sizes = [
            _SWATCH + 1 + cell_len(entry.label) + 2 + cell_len(self._amount(entry))
            for entry in self._entries
        ]
        for rows in range(1, count):
            widths = [max(sizes[start : start + rows]) for start in range(0, count, rows)]
            if sum(widths) + _GAP * (len(widths) - 1) <= width:
                return _Grid(rows, tuple(widths))
        return _Grid(max(1, count), (max(sizes, default=0),))

    def _amount(self, entry: LegendEntry) -> str:
        if self._cluster_size is None:
            return units.count(entry.clusters)
        return units.size(entry.clusters * self._cluster_size)

    # ---- what the user does

    def action_move(self, right: int, down: int) -> None:
        """Move among the entries."""
        target = self._cursor + down + right * self._grid(self.size.width).rows
        if 0 <= target < len(self._entries):
            self._cursor = target
            self.refresh()

    def action_toggle_entry(self) -> None:
        """Pick or drop the entry under the cursor."""
        if self.source.filters and self._entries:
            key = self._entries[self._cursor].key
            self.source.toggle(key)
            self.data_changed()
            self.post_message(self.FilterChanged(self, key))

    def on_click(self, event: events.Click) -> None:
        index = self._index_at(event.x, event.y)
        if index is not None:
            self._cursor = index
            self.action_toggle_entry()
            self.refresh()

    def _index_at(self, x: int, y: int) -> int | None:
        rows, widths = self._grid(self.size.width)
        for column, width in enumerate(widths):
            index = column * rows + y
            if 0 <= x < width and y < rows and index < len(self._entries):
                return index
            x -= width + _GAP
        return None

    # ---- painting

    def render_line(self, y: int) -> Strip:
        entries = self._read()
        rows, widths = self._grid(self.size.width)
        segments: list[Segment] = []
        for column, width in enumerate(widths):
            index = column * rows + y
            if index >= len(entries) or y >= rows:
                break
            if column:
                segments.append(Segment(" " * _GAP, self.rich_style))
            segments += self._item(entries[index], width, index == self._cursor and self.has_focus)
        strip = Strip(segments).crop(0, self.size.width)
        return strip.extend_cell_length(self.size.width, self.rich_style)

    def _item(self, entry: LegendEntry, width: int, focused: bool) -> list[Segment]:
        names = ("legend--label", "legend--amount") if entry.shown else ("legend--dimmed",) * 2
        label, amount = (self.get_component_rich_style(name) for name in names)
        if focused:
            label = amount = self.get_component_rich_style("legend--cursor")
        text = self._amount(entry)
        room = width - _SWATCH - 2 - cell_len(text)
        return [
            *self._swatch(entry),
            Segment(" ", label),
            Segment(set_cell_size(entry.label, room), label),
            Segment(" " + text, amount),
        ]

    def _swatch(self, entry: LegendEntry) -> list[Segment]:
        depth = Depth.of(self.app) if self._depth is None else self._depth
        if depth is Depth.NONE or self._glyphs:
            return [Segment(f" {entry.ink.glyph}", self.rich_style)]
        return [Segment(*depth.swatch(entry.ink, _SWATCH))]
