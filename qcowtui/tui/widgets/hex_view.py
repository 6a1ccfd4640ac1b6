"""Bytes in hex: a window on a file or disk of any size, with the structures in it named."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import ClassVar, NamedTuple

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

_PAGE = 4096
_KEPT_PAGES = 64
_KEPT_LINES = 512
_WHEEL_LINES = 3

#: ``read(offset, length)`` gives at most ``length`` bytes, fewer where there are no more; None
#: where they cannot be had (yet).
Reader = Callable[[int, int], bytes | None]


class HexRegion(NamedTuple):
    """``length`` bytes from ``start`` that belong together, and what they are."""

    start: int
    length: int
    label: str


class _Kind(IntEnum):
    """What a byte looks like to a person."""

    NULL = 0
    TEXT = 1
    SPACE = 2
    CONTROL = 3
    HIGH = 4
    UNKNOWN = 5


_STYLE_NAMES = tuple(f"hexview--{kind.name.lower()}" for kind in _Kind)
_NO_TINT = Style()


def _kind(byte: int) -> _Kind:
    if byte == 0:
        return _Kind.NULL
    if byte in b" \t\r\n\v\f":
        return _Kind.SPACE
    if 0x21 <= byte <= 0x7E:
        return _Kind.TEXT
    return _Kind.HIGH if byte >= 0x80 else _Kind.CONTROL


_KINDS = tuple(_kind(byte) for byte in range(256))
_CHARACTERS = tuple(
    chr(byte) if 0x20 <= byte <= 0x7E else "." if byte else " " for byte in range(256)
)


class HexView(ScrollView, can_focus=True, inherit_bindings=False):
    """A hex dump of ``size`` bytes behind a ``read`` callback; a page is read once and kept.

    Binds no keys; the app's commands call the ``action_`` methods.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "hexview--offset", "hexview--null", "hexview--text", "hexview--space",
        "hexview--control", "hexview--high", "hexview--unknown", "hexview--region",
        "hexview--other-region", "hexview--label", "hexview--cursor",
    }  # fmt: skip
    DEFAULT_CSS = """
    HexView {
        width: 1fr;
        height: 1fr;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        scrollbar-background: $background;
        scrollbar-background-hover: $background;
        scrollbar-background-active: $background;
        .hexview--offset { color: $text-muted; }
        .hexview--null { color: $text-disabled; }
        .hexview--text { color: $text-primary; }
        .hexview--space { color: $text-success; }
        .hexview--control { color: $text-warning; }
        .hexview--high { color: $text-accent; }
        .hexview--unknown { color: $text-error; }
        .hexview--region { background: $primary 18%; }
        .hexview--other-region { background: $secondary 18%; }
        .hexview--label { color: $text-secondary; text-style: italic; }
        .hexview--cursor { background: $block-cursor-blurred-background; text-style: bold; }
        &:focus .hexview--cursor {
            background: $block-cursor-background;
            color: $block-cursor-foreground;
        }
    }
    """

    class Moved(Message):
        """The user put the cursor on another byte."""

        def __init__(self, view: HexView, offset: int) -> None:
            super().__init__()
            self.view = view
            #: Byte position, with ``base`` added.
            self.offset = offset

        @property
        def control(self) -> HexView:
            return self.view

    def __init__(
        self,
        read: Reader,
        length: int,
        *,
        regions: Sequence[HexRegion] = (),
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._read = read
        self._length = length
        self._regions: list[HexRegion] = []
        self._starts: list[int] = []
        self._pages: OrderedDict[int, bytes | None] = OrderedDict()
        self._strips: dict[tuple[int, int], Strip] = {}
        self._tints: dict[int, Style] = {}
        self._cursor = 0
        self._per_row = 16
        self._digits = 8
        self.set_regions(regions)

    # ---- what the app does with it

    @property
    def cursor(self) -> int:
        """The byte under the cursor."""
        return self._cursor

    def set_source(self, read: Reader, length: int, regions: Sequence[HexRegion] = ()) -> None:
        """Show other bytes, from their beginning."""
        self._read, self._length, self._cursor = read, length, 0
        self._pages.clear()
        self.set_regions(regions)
        if self.is_mounted:
            self._lay_out()
            self.scroll_to(y=0, animate=False, force=True)

    def set_regions(self, regions: Sequence[HexRegion]) -> None:
        """Name parts of the bytes; where two overlap the one that begins later is shown."""
        self._regions = sorted(region for region in regions if region.length > 0)
        self._starts = [region.start for region in self._regions]
        self._tints.clear()
        self._strips.clear()
        self.refresh()

    def data_changed(self) -> None:
        """The bytes changed, or can be had now: read them again."""
        self._pages.clear()
        self._strips.clear()
        self.refresh()

    def go_to(self, offset: int) -> None:
        """Put the cursor on a byte, without telling anybody, and show it in the upper third."""
        row = min(max(0, offset), max(0, self._length - 1)) // self._per_row
        if self.is_mounted and not self._in_view(row):
            self.scroll_to(y=max(0, row - self.size.height // 3), animate=False, force=True)
        self._move_to(offset, tell=False)

    def action_move(self, right: int, down: int) -> None:
        """Move by bytes and rows."""
        target = self._cursor + right + down * self._per_row
        if 0 <= target < self._length:
            self._move_to(target)

    def action_page(self, pages: int) -> None:
        """Move by whole views."""
        rows = pages * max(1, self.size.height)
        target = self._cursor + rows * self._per_row
        self.scroll_to(y=self.scroll_offset.y + rows, animate=False, force=True)
        self._move_to(target)

    def action_home(self) -> None:
        """To the first byte."""
        self._move_to(0)

    def action_end(self) -> None:
        """To the last byte."""
        self._move_to(self._length - 1)

    def action_next_region(self) -> None:
        """To the next named part."""
        index = bisect_right(self._starts, self._cursor)
        if index < len(self._starts):
            self._move_to(self._starts[index])

    def action_previous_region(self) -> None:
        """To the beginning of this named part, or of the one before it."""
        index = bisect_right(self._starts, self._cursor - 1) - 1
        if index >= 0:
            self._move_to(self._starts[index])

    def region_at(self, offset: int) -> HexRegion | None:
        """The named part that a byte is in."""
        index = bisect_right(self._starts, offset) - 1
        if index < 0:
            return None
        region = self._regions[index]
        return region if offset < region.start + region.length else None

    def _move_to(self, offset: int, tell: bool = True) -> None:
        old = self._cursor
        self._cursor = min(max(0, offset), max(0, self._length - 1))
        if not self.is_mounted or old == self._cursor:
            return
        row = self._cursor // self._per_row
        for changed in {old // self._per_row, row}:
            self.refresh_line(changed)
        if not self._in_view(row):
            top = self.scroll_offset.y
            target = row if row < top else row - self.size.height + 1
            self.scroll_to(y=target, animate=False, force=True)
        if tell:
            self.post_message(self.Moved(self, self._cursor))

    def _in_view(self, row: int) -> bool:
        return 0 <= row - self.scroll_offset.y < self.size.height

    # ---- layout and mouse

    @property
    def _width(self) -> int:
        """Columns beside the scroll bar."""
        return self.size.width - self.scrollbar_gutter.width

    def on_mount(self) -> None:
        self._lay_out()

    def on_resize(self) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        self._digits = max(8, len(f"{max(0, self._length - 1):x}"))
        fits = self._width >= self._row_width(16)
        self._per_row = 16 if fits else 8
        self._strips.clear()
        self.virtual_size = Size(self._width, -(-self._length // self._per_row))
        self.refresh()

    def _row_width(self, per_row: int) -> int:
        """Columns of a row without its label."""
        return self._digits + 2 + per_row * 3 + per_row // 8 + per_row + 1

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._tints.clear()
        self._strips.clear()

    def on_focus(self) -> None:
        self.refresh_line(self._cursor // self._per_row)

    def on_blur(self) -> None:
        self.refresh_line(self._cursor // self._per_row)

    def on_click(self, event: events.Click) -> None:
        index = self._byte_at(event.x)
        offset = (event.y + self.scroll_offset.y) * self._per_row + (index or 0)
        if index is not None and offset < self._length:
            self._move_to(offset)

    def _byte_at(self, x: int) -> int | None:
        """Which byte of a row a column belongs to, in the hex or the text part."""
        hexes = self._digits + 2
        for index in range(self._per_row):
            place = hexes + index * 3 + index // 8
            if place <= x < place + 3:
                return index
        text = hexes + self._per_row * 3 + self._per_row // 8
        return x - text if 0 <= x - text < self._per_row else None

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, _WHEEL_LINES)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, -_WHEEL_LINES)

    def _wheel(self, event: events.MouseEvent, lines: int) -> None:
        event.stop()
        event.prevent_default()
        self.scroll_to(y=self.scroll_offset.y + lines, animate=False, force=True)

    # ---- painting

    def _bytes(self, offset: int, length: int) -> bytes | None:
        """The bytes of one row; None where any of its pages cannot be had."""
        row = b""
        while length > 0:
            page, within = divmod(offset, _PAGE)
            if page not in self._pages:
                wanted = min(_PAGE, self._length - page * _PAGE)
                self._pages[page] = self._read(page * _PAGE, wanted)
                if len(self._pages) > _KEPT_PAGES:
                    self._pages.popitem(last=False)
            self._pages.move_to_end(page)
            held = self._pages[page]
            if held is None:
                return None
            piece = held[within : within + length]
            row += piece
            if len(piece) < min(length, _PAGE - within):
                break
            offset += len(piece)
            length -= len(piece)
        return row

    def render_line(self, y: int) -> Strip:
        row = y + self.scroll_offset.y
        width = self._width
        if row * self._per_row >= self._length:
            return Strip.blank(width, self.rich_style)
        cursor = self._cursor % self._per_row if self._cursor // self._per_row == row else -1
        if cursor >= 0:
            return self._row(row, cursor, width)
        key = (row, width)
        strip = self._strips.get(key)
        if strip is None:
            if len(self._strips) >= _KEPT_LINES:
                self._strips.clear()
            strip = self._strips[key] = self._row(row, -1, width)
        return strip

    def _row(self, row: int, cursor: int, width: int) -> Strip:
        """One line; ``cursor`` is the index of its byte under the cursor, or -1."""
        style, plain = self.get_component_rich_style, self.rich_style
        offset = row * self._per_row
        count = min(self._per_row, self._length - offset)
        held = self._bytes(offset, count)
        known = 0 if held is None else len(held)
        looks = [style(name) for name in _STYLE_NAMES]
        tints = [self._tint(offset + index) for index in range(count)]
        segments = [Segment(f"{offset:0{self._digits}x}  ", style("hexview--offset"))]
        text: list[Segment] = []
        for index, tint in enumerate(tints):
            byte = held[index] if held is not None and index < known else None
            kind = _Kind.UNKNOWN if byte is None else _KINDS[byte]
            look = style("hexview--cursor") if index == cursor else looks[kind] + tint
            segments.append(Segment("??" if byte is None else f"{byte:02x}", look))
            text.append(Segment("?" if byte is None else _CHARACTERS[byte], look))
            inside = index + 1 < count and tint is tints[index + 1]
            gap = "  " if index % 8 == 7 else " "
            segments.append(Segment(gap, plain + tint if inside else plain))
        hexes = self._digits + 2 + self._per_row * 3 + self._per_row // 8
        used = self._digits + 2 + count * 3 + count // 8
        segments.append(Segment(" " * (hexes - used), plain))
        segments += text
        segments.append(Segment(" " * (self._per_row - count), plain))
        room = width - self._row_width(self._per_row) - 1
        label = "  ".join(region.label for region in self._regions_from(offset, offset + count))
        if label and room > 3:
            segments.append(Segment("  ", plain))
            segments.append(Segment(set_cell_size(label, room), style("hexview--label")))
        return Strip(Segment.simplify(segments)).adjust_cell_length(width, plain)

    def _regions_from(self, start: int, stop: int) -> list[HexRegion]:
        """The regions that begin in a row."""
        first = bisect_right(self._starts, start - 1)
        last = bisect_right(self._starts, stop - 1)
        return self._regions[first:last]

    def _tint(self, offset: int) -> Style:
        """The background of a byte: one object for all bytes of a region."""
        index = bisect_right(self._starts, offset) - 1
        if self.region_at(offset) is None:
            return _NO_TINT
        if index not in self._tints:
            name = "hexview--other-region" if index % 2 else "hexview--region"
            self._tints[index] = Style(bgcolor=self.get_component_rich_style(name).bgcolor)
        return self._tints[index]
