"""Panes whose text has tones: a view model says what a text means, the theme says how it looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.content import Content
from textual.scroll_view import ScrollView
from textual.theme import Theme

from qcow.inspect.classes import ClusterClass

from ...commands.keymap import Keymap
from ...commands.keys import shown_keys
from ...commands.registry import command
from ...views.palette import Ink, class_ink
from ...views.session import Part
from ...views.tones import Tone
from ..bindings import key_of
from ..theme import map_theme
from .base import Pane

#: A text and its tone.
Piece = tuple[str, Tone]


class TonedPane(Pane):
    """Gives its subclasses :meth:`words` and the colours of the map's classes."""

    #: The parts of the session it shows; the image itself always counts.
    PARTS: ClassVar[frozenset[Part]] = frozenset()
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"pane--{tone.value}" for tone in Tone}
    DEFAULT_CSS = """
    TonedPane {
        .pane--plain { color: $foreground; }
        .pane--muted { color: $text-muted; }
        .pane--strong { color: $foreground; text-style: bold; }
        .pane--good { color: $text-success; }
        .pane--note { color: $text-primary; }
        .pane--warning { color: $text-warning; }
        .pane--bad { color: $text-error; text-style: bold; }
    }
    """

    _painted: tuple[object, ...] = ()

    def ink(self, tone: Tone) -> Style:
        """The look of a tone, without a background: rows bring their own."""
        found = self.get_component_rich_style(f"pane--{tone.value}")
        return Style(color=found.color, bold=found.bold, italic=found.italic)

    def words(self, *pieces: str | Piece) -> Text:
        """A line of pieces; nothing in them is read as markup."""
        line = Text(no_wrap=True, end="")
        for piece in pieces:
            text, tone = (piece, Tone.PLAIN) if isinstance(piece, str) else piece
            line.append(text, self.ink(tone))
        return line

    def swatch(self, member: ClusterClass, cells: int = 1) -> tuple[str, Style]:
        """``cells`` cells in the colour of a class, its glyph where there are no colours."""
        return self.block(class_ink(map_theme(self.app), member), cells)

    def block(self, ink: Ink, cells: int = 1) -> tuple[str, Style]:
        """``cells`` cells of an ink as far as the terminal has colours, else its glyph."""
        from ..widgets.ink_styles import Depth  # which loads numpy: never on the first paint

        depth = Depth.of(self.app)
        if depth is Depth.NONE:
            return ink.glyph * cells, Style()
        return "█" * cells, Style(color=depth.color(ink))

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)

    def _theme_changed(self, _theme: Theme) -> None:
        self.repaint()

    def key_for(self, id: str) -> str:
        """The key of a command as the user has it, for hints; empty where it has none."""
        keymap = getattr(self.app, "keymap", None)
        if isinstance(keymap, Keymap):
            return key_of(keymap, command(id))
        return shown_keys(command(id).keys[:1])

    def repaint(self) -> None:
        """Show everything anew, from what the session holds."""

    def known(self) -> tuple[object, ...]:
        """The parts of the session that are shown: while they are the same objects, so is the pane.

        Jobs tell of their progress many times a second, and finished values never change.
        """
        return ()

    def part_changed(self, part: Part) -> None:
        if part is not Part.IMAGE and part not in self.PARTS:
            return
        known = self.known()
        same = len(known) == len(self._painted) and all(
            one is other or (isinstance(one, str) and one == other)
            for one, other in zip(known, self._painted, strict=True)
        )
        if part is Part.IMAGE or not same:
            self._painted = known
            self.repaint()


#: Tones as styles of Content, which looks colours up when it is painted.
_STYLES = {
    Tone.PLAIN: "",
    Tone.MUTED: "$foreground 60%",
    Tone.STRONG: "bold",
    Tone.GOOD: "$text-success",
    Tone.NOTE: "$text-primary",
    Tone.WARNING: "$text-warning",
    Tone.BAD: "bold $text-error",
}


def content(*pieces: str | Piece) -> Content:
    """Pieces for a widget of Textual's own; nothing in them is read as markup."""
    return Content.assemble(
        *(piece if isinstance(piece, str) else (piece[0], _STYLES[piece[1]]) for piece in pieces)
    )


class Rows:
    """A pane's rows as the model of a list.

    Not the pane itself: a widget that had a length would be false whenever its list is empty.
    """

    def __init__(
        self, count: Callable[[], int], row: Callable[[int], Sequence[str | Text]]
    ) -> None:
        self._count = count
        self._row = row

    def __len__(self) -> int:
        return self._count()

    def row(self, index: int) -> Sequence[str | Text]:
        """The cells of one row."""
        return self._row(index)


def content_width(widget: ScrollView) -> int:
    """Cells of a line of a scrolling widget, beside its scroll bar."""
    return widget.size.width - widget.scrollbar_gutter.width
