"""A tiny app around one widget, and models to fill it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from textual.app import App, ComposeResult
from textual.message import Message
from textual.widget import Widget

from qcow.inspect.classes import ClusterClass
from qcowtui.tui.theme import map_variables
from qcowtui.tui.widgets.cluster_map import ClusterMap
from qcowtui.tui.widgets.hex_view import HexView
from qcowtui.tui.widgets.legend import Legend
from qcowtui.tui.widgets.overview_strip import OverviewStrip
from qcowtui.tui.widgets.virtual_list import VirtualList
from qcowtui.views.painters import ClassPainter
from qcowtui.views.pyramid import ClassPyramid


class OneWidget(App[None]):
    """Shows one widget and keeps its messages; counts how often it paints."""

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget
        self.messages: list[Message] = []
        self.paints = 0

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return map_variables(self.current_theme.dark)

    def compose(self) -> ComposeResult:
        yield self.widget

    def on_mount(self) -> None:
        if self.widget.can_focus:
            self.widget.focus()

    def post_display_hook(self) -> None:
        self.paints += 1

    def on_cluster_map_selected(self, message: ClusterMap.Selected) -> None:
        self.messages.append(message)

    def on_cluster_map_activated(self, message: ClusterMap.Activated) -> None:
        self.messages.append(message)

    def on_cluster_map_scrolled(self, message: ClusterMap.Scrolled) -> None:
        self.messages.append(message)

    def on_cluster_map_scale_changed(self, message: ClusterMap.ScaleChanged) -> None:
        self.messages.append(message)

    def on_overview_strip_picked(self, message: OverviewStrip.Picked) -> None:
        self.messages.append(message)

    def on_legend_filter_changed(self, message: Legend.FilterChanged) -> None:
        self.messages.append(message)

    def on_hex_view_moved(self, message: HexView.Moved) -> None:
        self.messages.append(message)

    def on_virtual_list_highlighted(self, message: VirtualList.Highlighted) -> None:
        self.messages.append(message)

    def on_virtual_list_activated(self, message: VirtualList.Activated) -> None:
        self.messages.append(message)

    def taken(self) -> list[Message]:
        """The messages since the last call."""
        messages, self.messages = self.messages, []
        return messages


LETTERS = dict(zip("?.~0#csvbtTKrR21HL!X", ClusterClass, strict=True))


def classes_of(drawing: str) -> list[ClusterClass]:
    """Classes written as their glyphs."""
    return [LETTERS[letter] for letter in drawing]


def painter_of(classes: Sequence[ClusterClass] | str) -> ClassPainter:
    """A painter of these classes, all read."""
    chosen = classes_of(classes) if isinstance(classes, str) else classes
    pyramid = ClassPyramid(len(chosen))
    pyramid.update(0, np.array(chosen, np.uint8))
    return ClassPainter(pyramid)
