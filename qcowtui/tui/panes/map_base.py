"""What the two maps have in common: the map widget comes once there is something to draw."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Static

from ...commands.command import Scope
from ...views.selection import Selection
from ...views.session import PartState, Session
from ...views.summary import places
from .base import Pane

if TYPE_CHECKING:
    from ...views.painters import Painter
    from ..widgets.cluster_map import ClusterMap


class MapPane(Pane):
    """A pane around a cluster map.

    The map, and numpy with it, is only imported when the first results are there: until then a
    line says what is going on, so that the first paint waits for nothing.
    """

    SCOPE = Scope.MAP
    DEFAULT_CSS = """
    MapPane { padding: 0; }
    MapPane > .waiting { padding: 1 2; color: $text-muted; width: 1fr; height: 1fr; }
    """
    WAITING: ClassVar[str] = "Reading the map …"

    def __init__(self, session: Session, number: int | None = None, *, id: str) -> None:
        super().__init__(session, number, id=id)
        self._map: ClusterMap | None = None
        self._told = -1  # where the screen knows the cursor is
        #: Takes the place of Select messages, which would make two paints of one key press.
        self.tell: Callable[[Selection], None] | None = None

    def compose(self) -> ComposeResult:
        yield Static(self.WAITING, classes="waiting", markup=False)

    # ---- what the two kinds say

    @abstractmethod
    def painter(self) -> Painter | None:
        """What is to be drawn now; None while nothing is known."""

    @abstractmethod
    def place_of_selection(self) -> int | None:
        """The cluster of the shared selection in the order of this map."""

    def extras(self, map_: ClusterMap) -> list[Widget]:
        """What is mounted below the map."""
        return []

    # ---- the map

    @property
    def map(self) -> ClusterMap | None:
        """The map widget, once it is there."""
        return self._map

    @property
    def glyphs(self) -> bool | None:
        """True where the user asked for characters instead of colours, else None."""
        return True if self.app.has_class("-ascii") else None

    def redraw(self) -> None:
        """Show what is known now: mount the map, or tell it that there is more."""
        painter = self.painter()
        if painter is None:
            return
        if self._map is None:
            from ..widgets.cluster_map import ClusterMap

            self._map = ClusterMap(
                painter,
                self.session.cluster_size,
                tooltip_of=self.tooltip_for,
                glyphs=self.glyphs,
                id=f"{self.id}-map",
            )
            self.query(".waiting").remove()
            self.mount(self._map, *self.extras(self._map))
            if self.has_focus:
                self._map.focus()
            place = self.place_of_selection()
            if place is not None:
                self._map.select(place)
        elif painter is not self._map.painter:
            self._map.set_painter(painter, self.session.cluster_size)
        else:
            self._map.data_changed()

    def say(self, text: str) -> None:
        """Say why there is no map (safe to show)."""
        if self._map is None:
            self.query_one(".waiting", Static).update(text)

    @abstractmethod
    def selection_of(self, cluster: int) -> Selection:
        """The shared selection that a cluster of this map means."""

    def tooltip_for(self, cluster: int) -> str:
        """What a cell under the mouse is: the words of the status line."""
        place = self.session.glance(self.selection_of(cluster))
        return " · ".join(f"{p.label} {p.value}".strip() for p in places(self.session, place))

    def follow_selection(self) -> None:
        """Put the cursor where the shared selection is."""
        place = self.place_of_selection()
        if self._map is not None and place is not None and place != self._map.cursor:
            self._map.select(place)
            self._told = place

    def failed(self, state: PartState, reason: str) -> None:
        """Explain a map that could not be read."""
        if state is PartState.FAILED:
            self.say(f"There is no map.\n\n{reason}")

    # ---- what the user does in it

    def on_cluster_map_selected(self, event: ClusterMap.Selected) -> None:
        event.stop()
        self._tell_cursor()

    def _tell_cursor(self) -> None:
        """Tell where the cursor went."""
        if self._map is not None and self._map.cursor != self._told:
            self._told = self._map.cursor
            place = self.selection_of(self._told)
            if self.tell is not None:
                self.tell(place)
            else:
                self.post_message(self.Select(place))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell where the cursor went at once, not when the map's message arrives: one paint."""
        if self._map is None:
            yield
            return
        with self._map.prevent(type(self._map).Selected):
            yield
        self._tell_cursor()

    def action_move(self, right: int, down: int) -> None:
        with self._telling():
            super().action_move(right, down)

    def on_cluster_map_activated(self, event: ClusterMap.Activated) -> None:
        event.stop()
        self.post_message(self.Inspect(self.selection_of(event.cluster)))

    def on_cluster_map_scale_changed(self, event: ClusterMap.ScaleChanged) -> None:
        event.stop()
        self.scale_changed()

    def scale_changed(self) -> None:
        """The map shows another part, or at another scale."""

    def action_discard(self) -> None:
        """Ask for a range of the guest disk to be given up."""
        self.post_message(self.Ask("map.discard"))

    def _move(self, action: str, *arguments: int) -> None:
        if self._map is not None:
            with self._telling():
                getattr(self._map, action)(*arguments)
                self.scale_changed()

    def action_zoom_in(self) -> None:
        """Twice the detail."""
        self._move("action_zoom_in")

    def action_zoom_out(self) -> None:
        """Twice as much of the image."""
        self._move("action_zoom_out")

    def action_zoom_fit(self) -> None:
        """The whole image."""
        self._move("action_zoom_fit")

    def action_zoom_one_to_one(self) -> None:
        """One cluster in each cell."""
        self._move("action_zoom_one_to_one")

    def action_toggle_curve(self) -> None:
        """Rows or Hilbert squares."""
        self._move("action_toggle_curve")

    def seek(self, forward: bool) -> bool:
        """To the next problem; False where there is no other one."""
        if self._map is None:
            return False
        before = self._map.cursor
        self._move("action_next_problem" if forward else "action_previous_problem")
        return self._map.cursor != before
