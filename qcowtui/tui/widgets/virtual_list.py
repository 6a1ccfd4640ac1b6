"""A list of any length: only the rows in view are ever asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, Protocol

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from .own_colors import OwnColors

_KEPT_LINES = 1024
_WHEEL_LINES = 3
_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """``width`` in characters; 0 takes what is left (shared by ``share`` among several such)."""

    title: str
    width: int = 0
    align: Literal["left", "right"] = "left"
    share: int = 1


class ListModel(Protocol):
    """Rows by number.  Cells are plain text or styled Text, already safe to show."""

    def __len__(self) -> int: ...

    def row(self, index: int) -> Sequence[str | Text]:
        """The cells of one row, one for each column."""


class VirtualList(ScrollView, OwnColors, can_focus=True, inherit_bindings=False):
    """Rows of a model under a line of titles, with one of them highlighted.

    Binds no keys; the app's commands call the ``action_`` methods.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "virtuallist--header",
        "virtuallist--cursor",
        "virtuallist--empty",
    }
    DEFAULT_CSS = """
    VirtualList {
        width: 1fr;
        height: 1fr;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        scrollbar-background: $background;
        scrollbar-background-hover: $background;
        scrollbar-background-active: $background;
        .virtuallist--header { color: $text-muted; text-style: bold; }
        .virtuallist--cursor { background: $block-cursor-blurred-background; }
        .virtuallist--empty { color: $text-muted; text-style: italic; }
        &:focus .virtuallist--cursor {
            background: $block-cursor-background;
            color: $block-cursor-foreground;
        }
    }
    """

    class Highlighted(Message):
        """The user moved to another row."""

        def __init__(self, list_: VirtualList, index: int) -> None:
            super().__init__()
            self.list = list_
            self.index = index

        @property
        def control(self) -> VirtualList:
            return self.list

    class Activated(Highlighted):
        """The user asked for more about a row."""

    def __init__(
        self,
        columns: Sequence[Column],
        model: ListModel,
        *,
        header: bool = True,
        empty: str = "Nothing here.",
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._columns = tuple(columns)
        self._model = model
        self._header = 1 if header else 0
        self._empty = empty
        self._index = 0
        self._strips: dict[int, Strip] = {}
        self._painted: dict[int, list[str | Text]] = {}  # the cells of rows as last painted
        self._widths: tuple[int, ...] = ()

    # ---- what the app does with it

    @property
    def index(self) -> int | None:
        """The highlighted row, None in an empty list."""
        return self._index if len(self._model) else None

    @property
    def model(self) -> ListModel:
        return self._model

    def set_model(self, model: ListModel) -> None:
        """Show other rows, the first highlighted."""
        self._model = model
        self._index = 0
        self.data_changed()
        if self.is_mounted:
            self.scroll_to(y=0, animate=False, force=True)

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Show other columns: what the model gives fits these from now on."""
        self._columns = tuple(columns)
        if self.is_mounted:
            self._lay_out()

    def data_changed(self) -> None:
        """The model has other or more rows: repaint those in view that really look different."""
        kept = self._index < max(1, len(self._model))
        self._index = min(self._index, max(0, len(self._model) - 1))
        self._strips.clear()
        if not self.is_mounted:
            return
        if not kept or self.virtual_size.height != len(self._model) + self._header:
            self._lay_out()
            return
        top = self.scroll_offset.y
        for index in range(top, min(top + self._rows_in_view, len(self._model))):
            if self._painted.get(index) != list(self._model.row(index)):
                self.refresh_line(index + self._header)

    def set_empty(self, text: str) -> None:
        """What to say where there are no rows."""
        self._empty = text
        self.refresh()

    def highlight(self, index: int) -> None:
        """Highlight a row without telling anybody."""
        self._move_to(index, tell=False)

    def action_move(self, _right: int, down: int) -> None:
        """Move by rows."""
        self._move_to(self._index + down)

    def action_page(self, pages: int) -> None:
        """Move by whole views."""
        self._move_to(self._index + pages * max(1, self._rows_in_view))

    def action_home(self) -> None:
        """To the first row."""
        self._move_to(0)

    def action_end(self) -> None:
        """To the last row."""
        self._move_to(len(self._model) - 1)

    def action_activate(self) -> None:
        """More about the highlighted row."""
        if len(self._model):
            self.post_message(self.Activated(self, self._index))

    def _move_to(self, index: int, tell: bool = True) -> None:
        old = self._index
        self._index = min(max(0, index), max(0, len(self._model) - 1))
        if not self.is_mounted or old == self._index:
            return
        for row in (old, self._index):
            self.refresh_line(row + self._header)
        self._reveal()
        if tell:
            self.post_message(self.Highlighted(self, self._index))

    def _reveal(self) -> None:
        top = self.scroll_offset.y
        if self._index < top:
            self.scroll_to(y=self._index, animate=False, force=True)
        elif self._index >= top + self._rows_in_view:
            self.scroll_to(y=self._index - self._rows_in_view + 1, animate=False, force=True)

    @property
    def _rows_in_view(self) -> int:
        return max(1, self.size.height - self._header)

    # ---- layout and mouse

    @property
    def _width(self) -> int:
        """Columns beside the scroll bar."""
        return self.size.width - self.scrollbar_gutter.width

    def on_mount(self) -> None:
        self._lay_out()

    def on_resize(self) -> None:
        self._lay_out()
        self._reveal()

    def _lay_out(self) -> None:
        width = self._width
        fixed = sum(column.width for column in self._columns) + _GAP * (len(self._columns) - 1)
        shares = sum(column.share for column in self._columns if not column.width)
        left = max(0, width - fixed)
        widths = []
        for column in self._columns:
            if column.width:
                widths.append(column.width)
            else:
                part = left * column.share // shares
                widths.append(part)
                left, shares = left - part, shares - column.share
        self._widths = tuple(widths)
        self._strips.clear()
        self.virtual_size = Size(width, len(self._model) + self._header)
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    def on_focus(self) -> None:
        self.refresh_line(self._index + self._header)

    def on_blur(self) -> None:
        self.refresh_line(self._index + self._header)

    def on_click(self, event: events.Click) -> None:
        index = event.y - self._header + self.scroll_offset.y
        if event.y >= self._header and index < len(self._model):
            self._move_to(index)
            if event.chain == 2:
                self.action_activate()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, _WHEEL_LINES)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, -_WHEEL_LINES)

    def _wheel(self, event: events.MouseEvent, lines: int) -> None:
        event.stop()
        event.prevent_default()
        self.scroll_to(y=self.scroll_offset.y + lines, animate=False, force=True)

    # ---- painting

    def render_line(self, y: int) -> Strip:
        width = self._width
        if y < self._header:
            titles = [column.title for column in self._columns]
            return self._line(titles, self.get_component_rich_style("virtuallist--header"))
        if not len(self._model):
            style = self.get_component_rich_style("virtuallist--empty")
            text = self._empty if y == self._header else ""
            return Strip([Segment(set_cell_size(text, width), style)], width)
        index = y - self._header + self.scroll_offset.y
        if index >= len(self._model):
            return Strip.blank(width, self.rich_style)
        if index == self._index:
            style = self.get_component_rich_style("virtuallist--cursor")
            return self._line(self._cells(index), style, plain=self.has_focus)
        strip = self._strips.get(index)
        if strip is None:
            if len(self._strips) >= _KEPT_LINES:
                self._strips.clear()
            strip = self._strips[index] = self._line(self._cells(index), self.rich_style)
        return strip

    def _cells(self, index: int) -> list[str | Text]:
        """The cells of a row that is about to be painted."""
        if len(self._painted) >= _KEPT_LINES:
            self._painted.clear()
        cells = self._painted[index] = list(self._model.row(index))
        return cells

    def _line(self, cells: Sequence[str | Text], style: Style, plain: bool = False) -> Strip:
        """Cells side by side, cut or padded to their columns; ``plain`` drops their styles."""
        segments: list[Segment] = []
        for column, width, cell in zip(self._columns, self._widths, cells, strict=True):
            if segments:
                segments.append(Segment(" " * _GAP, style))
            segments += _fitted(cell, width, column.align, style, plain)
        return Strip(segments).adjust_cell_length(self._width, style)


def _fitted(
    cell: str | Text, width: int, align: Literal["left", "right"], style: Style, plain: bool
) -> list[Segment]:
    text = cell.copy() if isinstance(cell, Text) else Text(cell)
    if plain:
        text = Text(text.plain)
    if cell_len(text.plain) > width:
        text.truncate(width, overflow="ellipsis")
    missing = width - cell_len(text.plain)
    segments = [Segment(part, style + look) for part, look in _spans(text)]
    padding = [Segment(" " * missing, style)] if missing > 0 else []
    return [*padding, *segments] if align == "right" else [*segments, *padding]


def _spans(text: Text) -> list[tuple[str, Style]]:
    """Pieces of a Text with the style each has; style names are not looked up."""
    edges = {0, len(text.plain)}
    for span in text.spans:
        edges |= {span.start, span.end}
    places = sorted(edge for edge in edges if 0 <= edge <= len(text.plain))
    base = text.style if isinstance(text.style, Style) else Style.parse(text.style or "none")
    pieces = []
    for start, end in pairwise(places):
        style = base
        for span in text.spans:
            if span.start <= start and end <= span.end:
                style += span.style if isinstance(span.style, Style) else Style.parse(span.style)
        pieces.append((text.plain[start:end], style))
    return pieces
