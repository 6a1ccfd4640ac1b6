"""The part below a list that says everything about the row under the cursor."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from ...views.tones import Tone
from .toned import TonedPane

_WIDEST_LABEL = 14
#: Narrower than this, labels stand in front of their text instead of in a column.
_MIN_WIDTH_FOR_COLUMNS = 44


class Details(VerticalScroll, can_focus=False):
    """Label and text pairs.  Shown while its pane has the focus, or always (``pinned``)."""

    DEFAULT_CSS = """
    Details {
        display: none;
        height: auto;
        max-height: 45%;
        border-top: solid $foreground 20%;
        scrollbar-size-vertical: 1;
    }
    Details > Static { height: auto; width: 1fr; }
    Pane:focus-within > Details.-any, Details.-pinned.-any { display: block; }
    """

    def __init__(self, pane: TonedPane, *, pinned: bool = False) -> None:
        super().__init__(classes="-pinned" if pinned else "")
        self._pane = pane
        self._pairs: tuple[tuple[str, str], ...] = ()

    def compose(self) -> ComposeResult:
        yield Static(markup=False)

    def show(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Other pairs; an empty label is for a text that stands alone.  All are safe to show."""
        self._pairs = tuple(pairs)
        self.set_class(bool(self._pairs), "-any")
        self._fill()
        self.scroll_home(animate=False)

    def on_resize(self) -> None:
        self._fill()

    def _fill(self) -> None:
        if not self.is_mounted:
            return
        ink = self._pane.ink
        if self.size.width < _MIN_WIDTH_FOR_COLUMNS:
            lines = Text()
            for number, (label, text) in enumerate(self._pairs):
                lines.append("\n" if number else "")
                lines.append(f"{label}: " if label else "", ink(Tone.MUTED))
                lines.append(text, ink(Tone.PLAIN))
            self.query_one(Static).update(lines)
            return
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(max_width=_WIDEST_LABEL, no_wrap=True)
        table.add_column(ratio=1)
        for label, text in self._pairs:
            table.add_row(Text(label, ink(Tone.MUTED)), Text(text, ink(Tone.PLAIN)))
        self.query_one(Static).update(table)
