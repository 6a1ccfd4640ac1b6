"""The differences between two states, one row for each range of the guest disk."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from ...views.diff_view import DiffView, diff_view, more_words
from ...views.selection import Selection, select_guest
from ...views.session import Part, Session
from ...views.tones import Tone
from ...views.units import size
from ..widgets.virtual_list import Column, VirtualList
from .toned import Rows, TonedPane, content

_COLUMNS = (
    Column("From", 9, "right"),
    Column("Guest range", 25),
    Column("Size", 9, "right"),
    Column(""),
)


class DifferencesPane(TonedPane):
    """A summary, and the ranges that differ."""

    TITLE = "Differences"
    TAB = "Diff"
    PARTS = frozenset({Part.DIFF})
    HELP = (
        "Where two states of the disk differ: two of the present disk, the snapshots, and the "
        "layers of the backing chain that are open. {diff.compare} picks them, and so does "
        "{pane.open} on a layer of the chain. The map shows the same ranges; {go.next_problem} "
        "and {go.previous_problem} go through them there.\n\n"
        "The tables are compared, not the data: a cluster that both states take from the same "
        "place is equal, anything else counts as different, even if it was rewritten with the "
        "same bytes. {pane.open} shows a range on the map; ◂ marks the one the selected cluster "
        "is in."
    )
    DEFAULT_CSS = """
    DifferencesPane > .summary { height: auto; margin-bottom: 1; }
    """

    def __init__(self, session: Session, number: int | None = None, *, id: str) -> None:
        super().__init__(session, number, id=id)
        self._found = DiffView("", "")
        self._here: int | None = None

    def compose(self) -> ComposeResult:
        yield Static(classes="summary", markup=False)
        yield VirtualList(_COLUMNS, Rows(lambda: len(self._found.rows), self._cells), empty="")

    def on_mount(self) -> None:
        self.repaint()

    def known(self) -> tuple[object, ...]:
        session = self.session
        found = session.difference
        counted = "" if found is None else found.verdict
        return found, counted, session.state_of(Part.DIFF), session.failures.get(Part.DIFF)

    def selection_changed(self, selection: Selection) -> None:
        here = self._found.position(selection.guest_offset)
        if here != self._here:
            self._here = here
            self.listing.data_changed()

    @property
    def listing(self) -> VirtualList:
        return self.query_one(VirtualList)

    def repaint(self) -> None:
        found = self._found = diff_view(self.session, self.key_for("diff.compare"))
        self._here = found.position(self.session.selection.guest_offset)
        lines = [content((found.title, Tone.STRONG))] if found.title else []
        lines.append(content((found.verdict, found.tone)))
        if found.unlisted:
            lines.append(content((more_words(found), Tone.MUTED)))
        self.query_one(".summary", Static).update(Content("\n").join(lines))
        self.listing.data_changed()

    def _cells(self, index: int) -> list[Text]:
        row = self._found.rows[index]
        return [
            self.words((size(row.start), Tone.MUTED)),
            self.words(row.words),
            self.words(size(row.length)),
            self.words("◂" if index == self._here else ""),
        ]

    def on_virtual_list_highlighted(self, event: VirtualList.Highlighted) -> None:
        event.stop()

    def on_virtual_list_activated(self, event: VirtualList.Activated) -> None:
        event.stop()
        row = self._found.rows[event.index]
        self.post_message(self.Jump(select_guest(row.start), show=True))
