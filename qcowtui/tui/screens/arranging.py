"""Where the panes are: all at once on a wide screen, one at a time on a narrow one or zoomed."""

from __future__ import annotations

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.dom import DOMNode
from textual.widgets import Static

from ...commands.command import Command, Scope
from ...commands.registry import commands_in
from ...views.selection import Selection
from ...views.session import Part, Session
from ..bindings import bindings_for, with_keys
from ..panes.base import Pane
from ..panes.catalogue import PANES, PaneEntry, entry
from ..widgets.key_bar import KeyBar
from ..widgets.progress_line import ProgressLine
from ..widgets.status_line import StatusLine
from ..widgets.tab_line import Tab, TabLine
from ..widgets.title_bar import TitleBar
from .base import CommandScreen

#: Columns and rows below which nothing useful fits, and from which all panes do.
MIN_WIDTH, MIN_HEIGHT = 60, 18
WIDE = 120
TALL = 34
_BY_WIDTH = [(0, "-too-narrow"), (MIN_WIDTH, "-narrow"), (WIDE, "-wide")]
_BY_HEIGHT = [(0, "-too-low"), (MIN_HEIGHT, "-low"), (TALL, "-tall")]


class ArrangedScreen(CommandScreen):
    """The panes of one session, their focus, and the lines above and below them."""

    SCOPE = Scope.DASHBOARD
    BINDINGS = bindings_for(Scope.DASHBOARD)
    HORIZONTAL_BREAKPOINTS = _BY_WIDTH
    VERTICAL_BREAKPOINTS = _BY_HEIGHT

    session: Session

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._zoomed = False
        self._front = "map"
        self._panes: dict[str, Pane] = {}
        self._behind: set[Pane] = set()  # panes that do not know the selection
        self._before = "map"  # where esc leads back to from a view

    def compose(self) -> ComposeResult:
        # With the right classes from the start, nothing is styled twice before the first paint.
        self.set_class(self.single, "-single")
        self.set_class(not self.single, "-all")
        front = entry(self._front).column
        yield TitleBar(id="title")
        yield TabLine(id="tabs")
        with Horizontal(id="body"):
            for column in ("left", "right"):
                classes = "column -front" if column == front else "column"
                with Vertical(id=column, classes=classes):
                    for one in PANES:
                        if one.column == column:
                            pane = self._make(one)
                            pane.set_class(one.id == self._front, "-front")
                            yield pane
            yield Vertical(id="view", classes="column")
        yield Static(id="too-small", markup=False)
        yield StatusLine(id="status")
        yield ProgressLine(id="progress")
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        self._arrange()
        self.pane("map").focus()

    # ---- panes

    @property
    def panes(self) -> list[Pane]:
        """The panes that are mounted."""
        return list(self._panes.values())

    def pane(self, id: str) -> Pane:
        """A mounted pane."""
        return self._panes[id]

    def _make(self, one: PaneEntry) -> Pane:
        pane = self._panes[one.id] = one.make(self.session)
        return pane

    @property
    def focused_pane(self) -> Pane | None:
        """The pane that has the focus, or holds the widget that has it."""
        widget = self.focused
        if widget is None:
            return None
        return next((node for node in widget.ancestors_with_self if isinstance(node, Pane)), None)

    @property
    def scopes(self) -> tuple[Scope, ...]:
        pane = self.focused_pane
        own = () if pane is None or pane.SCOPE is None else (pane.SCOPE,)
        return (*own, Scope.PANE, Scope.DASHBOARD, Scope.APP)

    def palette_commands(self) -> list[Command]:
        own = self.commands()
        scopes = {pane.SCOPE for pane in self.panes if pane.SCOPE is not None}
        return [*own, *(one for one in commands_in(*scopes) if one not in own)]

    def target_of(self, found: Command) -> DOMNode:
        pane = self.focused_pane
        if found.scope is Scope.PANE and pane is not None:
            return pane
        if found.scope in (Scope.DASHBOARD, Scope.APP):
            return super().target_of(found)
        if pane is not None and pane.SCOPE is found.scope:
            return pane
        return next((one for one in self.panes if one.SCOPE is found.scope), self)

    def reason_against(self, found: Command) -> str | None:
        pane = self.focused_pane
        if found.id == "pane.filter" and (pane is None or not pane.FILTERABLE):
            return "There is nothing to filter in this pane."
        return super().reason_against(found)

    def help_texts(self) -> list[tuple[str, str]]:
        pane = self.focused_pane
        return [] if pane is None else [(pane.TITLE, with_keys(pane.HELP, self.qcow_app.keymap))]

    def tell_part(self, part: Part) -> None:
        """Tell every pane that a part of the session changed."""
        for pane in self.panes:
            pane.part_changed(part)

    def tell_selection(self, selection: Selection) -> None:
        """Tell every pane that can be seen where the user is, the others when they can be."""
        for pane in self.panes:
            if self._can_be_seen(pane):
                self._behind.discard(pane)
                pane.selection_changed(selection)
            else:
                self._behind.add(pane)

    def _can_be_seen(self, pane: Pane) -> bool:
        if self.single:
            return pane.id == self._front
        return pane.display and entry(pane.id or "map").column != "view"

    def catch_up(self) -> None:
        """Tell panes that have come into view where the user is by now."""
        for pane in [pane for pane in self._behind if self._can_be_seen(pane)]:
            self._behind.discard(pane)
            pane.selection_changed(self.session.selection)

    # ---- focus and zoom

    @property
    def single(self) -> bool:
        """Whether only one pane is on the screen."""
        return self._zoomed or self.app.size.width < WIDE

    async def action_show(self, id: str) -> None:
        """Focus a pane; one that has no room beside the others gets the whole screen."""
        await self.show_pane(id)

    async def show_pane(self, id: str) -> None:
        """See :meth:`action_show`."""
        current = self.focused_pane
        if entry(id).column == "view":
            await self._mount_view(id)
            if current is not None and entry(current.id or "map").column != "view":
                self._before = current.id or "map"
        pane = self.pane(id)
        if not self.single and (entry(id).column == "view" or not pane.display):
            self._zoomed = True
        self._front = id
        self._arrange()
        pane.focus_target.focus()

    async def _mount_view(self, id: str) -> None:
        if id not in self._panes:
            pane = self._make(entry(id))
            await self.query_one("#view").mount(pane)
            for part in Part:
                pane.part_changed(part)
            pane.selection_changed(self.session.selection)

    def action_zoom_pane(self) -> None:
        """The focused pane alone, or all of them again."""
        if self._zoomed:
            self.unzoom()
            return
        pane = self.focused_pane
        self._front = self._front if pane is None or pane.id is None else pane.id
        self._zoomed = True
        self._arrange()

    def unzoom(self) -> bool:
        """Leave a zoomed pane or a view; whether there was anything to leave."""
        in_view = entry(self._front).column == "view"
        if not self._zoomed and not in_view:
            return False
        self._zoomed = False
        if in_view:
            self._front = self._before
        self._arrange()
        self.pane(self._front).focus_target.focus()
        return True

    async def action_next_pane(self) -> None:
        await self._step(1)

    async def action_previous_pane(self) -> None:
        await self._step(-1)

    async def _step(self, by: int) -> None:
        """The next pane in the order of the numbers, among those that can be seen."""
        self.say_why_not("")  # these keys come before any other's, and so before on_key
        pane = self.focused_pane
        if self.single:
            ids = [one.id for one in PANES if one.id in self._panes]
        else:
            ids = [one.id for one in PANES if one.column != "view" and self.pane(one.id).display]
        here = ids.index(pane.id) if pane is not None and pane.id in ids else 0
        await self.show_pane(ids[(here + by) % len(ids)])

    def _arrange(self) -> None:
        """Bring the style classes in line with what should be seen."""
        single = self.single
        self.set_class(single, "-single")
        self.set_class(not single, "-all")
        for column in self.query(".column"):
            column.set_class(column.id == entry(self._front).column, "-front")
        for pane in self.panes:
            pane.set_class(pane.id == self._front, "-front")
        tabs = tuple(Tab(one.id, str(one.number), one.tab) for one in PANES)
        self.query_one(TabLine).show(tabs, self._front)
        # Styles apply after this; only then it is known which panes are on the screen.
        self.call_after_refresh(self.catch_up)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        pane = self.focused_pane
        if pane is not None and pane.id is not None and not self.single:
            self._front = pane.id

    def on_resize(self, event: events.Resize) -> None:
        size = event.size
        self.query_one("#too-small", Static).update(
            f"qcowtui needs {MIN_WIDTH} × {MIN_HEIGHT} characters;\n"
            f"this window has {size.width} × {size.height}.\n\nRunning work goes on."
        )
        pane = self.focused_pane
        if pane is not None and pane.id is not None:
            self._front = pane.id
        self._arrange()

    @on(TabLine.Picked)
    async def _tab_picked(self, event: TabLine.Picked) -> None:
        await self.show_pane(event.pane)
