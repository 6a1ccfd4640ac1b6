"""The chain pane: the files a guest disk is made of, and who builds on this one."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.message import Message

from qcow.chain import Chain
from qcow.errors import QcowError
from qcow.inspect.classes import ClusterClass

from ...commands.command import Scope
from ...views.bars import stacked
from ...views.chain_view import (
    ChainRow,
    ChainView,
    RowKind,
    chain_view,
    dependents_words,
    row_details,
)
from ...views.selection import ACTIVE, Selection
from ...views.session import Part, Session
from ...views.tones import Tone
from ...views.units import size
from ..widgets.virtual_list import Column, VirtualList
from .details import Details
from .toned import Rows, TonedPane

_FILE = Column("File")
_FORMAT = Column("Format", 8)
_VIRTUAL = Column("Virtual", 9, "right")
_SERVES = Column("Serves", 9, "right")
_BAR = Column("of what is stored", 24)
_SHORT_BAR = Column("", 14)
_LAYOUTS: tuple[tuple[int, tuple[Column, ...]], ...] = (
    (108, (_FILE, _FORMAT, _VIRTUAL, _SERVES, _BAR)),
    (82, (_FILE, _FORMAT, _SERVES, _SHORT_BAR)),
    (64, (_FILE, _SERVES, _SHORT_BAR)),
    (44, (_FILE, _SERVES)),
    (0, (_FILE,)),
)
_MAX_INDENT = 12


class ChainPane(TonedPane):
    """Dependents, this image, what it builds on."""

    TITLE = "Backing chain"
    TAB = "Chain"
    SCOPE = Scope.CHAIN
    PARTS = frozenset({Part.CHAIN})
    HELP = (
        "An overlay stores only what differs from its backing file; what it does not store is "
        "read from the file below, and so on. The rows are the layers of that chain, this image "
        "on top. Serves is how much of the guest's disk comes from a layer, the bars are the "
        "shares of everything stored. What is in no layer reads as zeros.\n\n"
        "The name of a backing file was chosen by whoever made the image, so no file is opened "
        "before you allow it ({chain.follow}). Rows with ↑ are images in this folder that build "
        "on this one: writing to this image changes what they show. {chain.dependents} looks "
        "for them.\n\n"
        "{chain.relink} points the image at its backing file's new place, {chain.rebase} moves it "
        "to another one, {chain.flatten} makes it need none. {chain.commit} writes what it holds "
        "to the layer under the cursor, after looking who else reads that.\n\n"
        "◂ marks the layer that the selected cluster is read from. {pane.open} on a layer below "
        "draws on the map what differs between it and the present disk."
    )

    @dataclass
    class Served(Message):
        """The layers that the selected guest cluster is read from (found out in a worker)."""

        place: Selection
        depths: frozenset[int]

    def __init__(self, session: Session, number: int | None = None, *, id: str) -> None:
        super().__init__(session, number, id=id)
        self._columns = _LAYOUTS[-1][1]
        self._chain = ChainView((), 0, "")
        self._serving: frozenset[int] = frozenset()

    def compose(self) -> ComposeResult:
        yield VirtualList(self._columns, Rows(lambda: len(self._chain.rows), self._cells))
        yield Details()

    def on_mount(self) -> None:
        self.repaint()

    def on_resize(self, event: events.Resize) -> None:
        columns = next(found for least, found in _LAYOUTS if event.size.width - 1 >= least)
        if columns != self._columns:
            self._columns = columns
            self.listing.set_columns(columns)

    @property
    def listing(self) -> VirtualList:
        return self.query_one(VirtualList)

    def known(self) -> tuple[object, ...]:
        session = self.session
        failure = session.failures.get(Part.CHAIN)
        state = session.state_of(Part.CHAIN)
        return session.chain, session.layers, session.dependents, session.gate, state, failure

    def repaint(self) -> None:
        self._chain = chain_view(self.session, self.key_for("chain.follow"))
        self.listing.data_changed()
        self.retitle(subtitle=self._chain.note)
        self._show_details()
        self.selection_changed(self.session.selection)

    # ---- rows

    def _cells(self, position: int) -> list[Text]:
        row = self._chain.rows[position]
        return [self._cell(row, column) for column in self._columns]

    def _cell(self, row: ChainRow, column: Column) -> Text:
        if column is _FILE:
            return self._file(row)
        if column is _FORMAT:
            return self.words((row.format.removeprefix("stated "), Tone.MUTED))
        if column is _VIRTUAL:
            return self._amount(row.virtual_size)
        if column is _SERVES:
            return self._amount(row.served)
        return self._bar(row, column.width)

    def _file(self, row: ChainRow) -> Text:
        if row.kind is RowKind.DEPENDENT:
            return self.words(("↑ ", Tone.NOTE), row.name, (f"  {row.status}", Tone.MUTED))
        if row.kind is RowKind.UNSERVED:
            return self.words((f"  {row.name}", Tone.MUTED))
        indent = "  " * min(row.depth - 1, _MAX_INDENT) + "└─" if row.depth else ""
        top = row.kind is RowKind.LAYER and not row.depth
        name = (row.name, Tone.STRONG if top else Tone.PLAIN)
        serving = row.kind is RowKind.LAYER and row.depth in self._serving
        status = f"  {row.status}" if row.status else ""
        return self.words((indent, Tone.MUTED), name, " ◂" * serving, (status, row.tone))

    def _amount(self, number: int | None) -> Text:
        return self.words("" if number is None else size(number))

    def _bar(self, row: ChainRow, cells: int) -> Text:
        if not row.served:
            return Text("")
        rest = self._chain.served_total - row.served_before - row.served
        (_, before), (_, mine), (_, _after) = stacked(
            (row.served_before, row.served, max(0, rest)), cells
        )
        line = self.words(("·" * before, Tone.MUTED))
        line.append(*self.swatch(ClusterClass.DATA, mine))
        return line.append_text(self.words(("·" * (cells - before - mine), Tone.MUTED)))

    # ---- the selected cluster

    def selection_changed(self, selection: Selection) -> None:
        chain = self.session.chain
        known = selection.guest_offset is not None and selection.state == ACTIVE
        if not known or not selection.complete or chain is None or len(chain.layers) < 2:
            self._mark(frozenset())
        else:
            self._find_layers(chain, selection)

    @work(thread=True, exclusive=True, group="chain-layer", exit_on_error=False)
    def _find_layers(self, chain: Chain, place: Selection) -> None:
        assert place.guest_offset is not None
        depths: set[int] = set()
        length = min(self.session.cluster_size, chain.virtual_size - place.guest_offset)
        try:
            for batch in chain.runs(place.guest_offset, length):
                depths |= {int(depth) for depth in set(batch.depth.tolist())}
        except QcowError:  # the chain was closed meanwhile, or its top cannot be mapped
            depths.clear()
        self.post_message(self.Served(place, frozenset(depths)))

    def on_chain_pane_served(self, event: Served) -> None:
        event.stop()
        if event.place.same_place(self.session.selection):
            self._mark(event.depths)

    def _mark(self, depths: frozenset[int]) -> None:
        if depths != self._serving:
            self._serving = depths
            self.listing.data_changed()

    # ---- what the user does

    @property
    def states_to_compare(self) -> tuple[str, str] | None:
        """What a comparison started from here is of: the layer under the cursor, and now."""
        row = self._row
        if row is None or row.kind is not RowKind.LAYER or not row.depth or row.status:
            return None
        return f"layer:{row.depth}", ACTIVE

    @property
    def _row(self) -> ChainRow | None:
        at = self.listing.index
        return None if at is None else self._chain.rows[at]

    def on_virtual_list_highlighted(self, event: VirtualList.Highlighted) -> None:
        event.stop()
        self._show_details()

    async def on_virtual_list_activated(self, event: VirtualList.Activated) -> None:
        event.stop()
        row, pair = self._row, self.states_to_compare
        if row is not None and row.grantable:
            await self.run_action("screen.follow")
        elif pair is not None:
            self.post_message(self.Compare(*pair))

    def _ask(self, what: str) -> None:
        row = self._row
        deeper = row is not None and row.kind is RowKind.LAYER and row.depth > 1
        self.post_message(self.Ask(what, (row.depth if row is not None and deeper else 1,)))

    def action_commit(self) -> None:
        """Ask for what the image holds to go to the layer under the cursor, or the next."""
        self._ask("chain.commit")

    def action_flatten(self) -> None:
        """Ask for the image to need no backing file."""
        self._ask("chain.flatten")

    def action_relink(self) -> None:
        """Ask for another name of the backing file."""
        self._ask("chain.relink")

    def action_rebase(self) -> None:
        """Ask for another backing file."""
        self._ask("chain.rebase")

    async def action_search_dependents(self) -> None:
        """Look for images in this folder that build on this one."""
        await self.run_action("screen.search_dependents")

    def _show_details(self) -> None:
        row = self._row
        if row is None:
            pairs: tuple[tuple[str, str], ...] = ()
        else:
            pairs = row_details(row, self._chain)
            if row.kind is RowKind.LAYER and not row.depth:
                pairs = (*pairs, ("used by", dependents_words(self.session)))
        self.query_one(Details).show(pairs)
