"""The one selection: moving it, jumping, going back, seeking problems."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from textual import on

from ...views.selection import Selection
from ...views.session import Order, Part
from ...views.summary import cell_of, places
from ..job_runner import JobRunner
from ..messages import LookedUp
from ..panes.allocation import AllocationPane
from ..panes.base import Pane
from ..panes.catalogue import PaneEntry
from ..panes.map_base import MapPane
from ..widgets.status_line import StatusLine
from .arranging import ArrangedScreen
from .goto import GotoScreen

#: Seconds the cursor rests before owners are looked up: holding a key down starts no work.
_REST = 0.08


class NavigatedScreen(ArrangedScreen):
    """Turns what panes post into the selection of the session, and tells all panes."""

    runner: JobRunner
    #: What looks up the owners soon.  Not a timer of Textual's, which is a task of its own.
    _resting: asyncio.TimerHandle | None = None

    def _make(self, one: PaneEntry) -> Pane:
        pane = super()._make(one)
        if isinstance(pane, MapPane):
            pane.tell = self.select
        return pane

    # ---- the selection

    def select(self, place: Selection) -> None:
        """Make ``place`` the selection; its owners follow when the cursor rests."""
        place = self.session.glance(place)
        known = self.session.selection
        if known.complete and known.same_place(place) and place.references is None:
            place = known
        had_none = self.session.selection.empty
        self._settle(place)
        if had_none:
            self.refresh_bindings()
        if not place.complete:
            self._rest_no_more()
            self._resting = asyncio.get_running_loop().call_later(_REST, self._look_up)

    def select_again(self) -> None:
        """The maps or the file changed: find out anew what the selected place is."""
        place = self.session.selection
        if place.empty:
            return
        fresh = Selection(host_cluster=place.host_cluster)
        if self.session.order is Order.GUEST or place.host_cluster is None:
            fresh = Selection(guest_offset=place.guest_offset, state=place.state)
        self._settle(replace(self.session.glance(fresh), owner=place.owner))
        self._look_up()

    def jump(self, place: Selection) -> None:
        """Select a place that is not beside the last one; ``[`` leads back."""
        self.session.jumps.visit(self.session.selection, place)
        self.select(place)
        self.refresh_bindings()

    def _rest_no_more(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None

    def on_unmount(self) -> None:
        self._rest_no_more()

    def _look_up(self) -> None:
        self.runner.look_up(self.session.selection)

    def _settle(self, place: Selection) -> None:
        self.session.selection = place
        self.tell_selection(place)
        self.query_one(StatusLine).show(places(self.session, place), cell_of(self.session, place))

    @on(LookedUp)
    def _looked_up(self, event: LookedUp) -> None:
        if event.selection.same_place(self.session.selection) or (
            event.selection.guest_offset == self.session.selection.guest_offset
            and self.session.selection.host_cluster is None
        ):
            self._settle(event.selection)

    # ---- what panes ask for

    @on(Pane.Select)
    def _pane_selects(self, event: Pane.Select) -> None:
        event.stop()
        self.select(event.selection)

    @on(Pane.Jump)
    async def _pane_jumps(self, event: Pane.Jump) -> None:
        event.stop()
        self.jump(event.selection)
        if event.show:
            await self.show_pane("map")

    @on(Pane.Inspect)
    async def _pane_inspects(self, event: Pane.Inspect) -> None:
        event.stop()
        self.select(event.selection)
        await self.show_pane("inspector")

    @on(Pane.Show)
    async def _pane_shows(self, event: Pane.Show) -> None:
        event.stop()
        await self.show_pane(event.pane)

    # ---- commands

    def action_go_to(self) -> None:
        """Ask for an address."""

        def go(place: Selection | None) -> None:
            if place is not None:
                self.jump(place)

        self.app.push_screen(GotoScreen(self.session), go)

    def action_jump_back(self) -> None:
        place = self.session.jumps.back()
        if place is not None:
            self.select(place)
            self.refresh_bindings()

    def action_jump_forward(self) -> None:
        place = self.session.jumps.forward()
        if place is not None:
            self.select(place)
            self.refresh_bindings()

    def action_next_problem(self) -> None:
        self._seek(forward=True)

    def action_previous_problem(self) -> None:
        self._seek(forward=False)

    def _seek(self, forward: bool) -> None:
        before = self.session.selection
        pane = self.pane("map")
        pane.selection_changed(before)  # it may not be on the screen
        if not isinstance(pane, AllocationPane) or not pane.seek(forward):
            self.say_why_not("There is no other one.")
            return
        assert pane.map is not None
        place = pane.selection_of(pane.map.cursor)
        self.session.jumps.visit(before, place)
        self.refresh_bindings()

    def action_toggle_order(self) -> None:
        """Draw the map in the other order; the selection stays."""
        self.end_difference()
        guest = self.session.order is Order.HOST
        self.session.order = Order.GUEST if guest else Order.HOST
        pane = self.pane("map")
        if isinstance(pane, AllocationPane):
            pane.order_changed()
        self._settle(self.session.selection)
        self.refresh_bindings()

    def end_difference(self) -> bool:
        """Draw the allocation again; whether a difference, or what is planned, was drawn."""
        if self.session.drawn is None:
            return False
        if self.session.difference is not None:
            self.session.difference = None
        else:
            self.session.shows_plan = False
        self.tell_part(Part.DIFF)
        return True

    async def action_legend(self) -> None:
        pane = self.pane("map")
        if self.focused_pane is not pane:
            await self.show_pane("map")
        if isinstance(pane, AllocationPane):
            pane.action_legend()
