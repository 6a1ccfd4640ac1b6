"""The part below a list that says everything about the row under the cursor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ...views.tones import Tone
from .toned import content

_WIDEST_LABEL = 20
#: Narrower than this, labels stand in front of their text instead of in a column.
_MIN_WIDTH_FOR_COLUMNS = 44


class Details(VerticalScroll, can_focus=False):
    """Label and text pairs.  Shown while its pane has the focus, or always (``-pinned``)."""

    DEFAULT_CSS = """
    Details {
        display: none;
        height: auto;
        max-height: 45%;
        border-top: solid $foreground 20%;
        scrollbar-size-vertical: 1;
        scrollbar-background: $background;
        scrollbar-background-hover: $background;
        scrollbar-background-active: $background;
    }
    Details > Static { height: auto; width: 1fr; }
    Pane:focus-within > Details.-any, Details.-pinned.-any { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._pairs: tuple[tuple[str, str], ...] = ()
        self._laid_out = 0

    def compose(self) -> ComposeResult:
        yield Static(markup=False)

    def show(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Other pairs; an empty label is for a text that stands alone.  All are safe to show."""
        pairs = tuple(pairs)
        if pairs == self._pairs:
            return
        self._pairs = pairs
        self.set_class(bool(self._pairs), "-any")
        self._fill()
        self.scroll_home(animate=False)

    def on_resize(self) -> None:
        if self.scrollable_content_region.width != self._laid_out:
            self._fill()

    def page(self, pages: int) -> bool:
        """Scroll by whole views; whether there is more than fits."""
        if not self.display or not self.max_scroll_y:
            return False
        self.scroll_relative(y=pages * max(1, self.size.height - 1), animate=False)
        return True

    def _fill(self) -> None:
        if self.is_mounted:
            self._laid_out = self.scrollable_content_region.width
            lines = laid_out(self._pairs, self._laid_out)
            self.query_one(Static).update(Content("\n").join(lines))


def laid_out(pairs: tuple[tuple[str, str], ...], width: int) -> Iterator[Content]:
    """Lines of at most ``width`` cells: labels in a column of their own where there is room."""
    if width < _MIN_WIDTH_FOR_COLUMNS:
        for label, text in pairs:
            yield content((f"{label}: " if label else "", Tone.MUTED), text)
        return
    column = min(_WIDEST_LABEL, max((cell_len(label) for label, _ in pairs), default=0)) + 1
    for label, text in pairs:
        indent = column if label else 0
        head = content((label, Tone.MUTED)).truncate(column - 1, ellipsis=True)
        for number, line in enumerate(content(text).wrap(max(1, width - indent))):
            first = head.pad_right(indent - head.cell_length) if number == 0 else None
            yield (Content(" " * indent) if first is None else first) + line.rstrip()
