"""For widgets that show colours of the map: in the terminal's own colours, as the map does."""

from __future__ import annotations

from collections.abc import Sequence

from textual.filter import ANSIToTruecolor, LineFilter
from textual.widget import Widget


class OwnColors(Widget):
    """Leaves palette colours as they are, where Textual would turn them into true colour."""

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [
            each for each in super().get_line_filters() if not isinstance(each, ANSIToTruecolor)
        ]
