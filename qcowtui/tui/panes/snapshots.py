"""The snapshot pane: the tree of states, what each holds, what deleting it frees."""

from __future__ import annotations

from rich.text import Text
from textual import events
from textual.app import ComposeResult

from ...commands.command import Scope
from ...views.selection import ACTIVE, Selection, select_host
from ...views.session import Part, PartState, Session
from ...views.snapshot_view import (
    ACTIVE_INDEX,
    SnapshotRow,
    SnapshotView,
    Sort,
    date_words,
)
from ...views.tones import Tone
from ...views.units import plural, size
from ..widgets.virtual_list import Column, VirtualList
from .details import Details
from .toned import Rows, TonedPane

_NAME = Column("Snapshot")
_ID = Column("ID", 6)
_TAKEN = Column("Taken", 16)
_FREES = Column("Frees", 9, "right")
_VM_STATE = Column("VM state", 9, "right")
_DIFFERS = Column("Differs", 9, "right")
#: From which width which columns are shown.
_LAYOUTS: tuple[tuple[int, tuple[Column, ...]], ...] = (
    (92, (_NAME, _ID, _TAKEN, _FREES, _VM_STATE, _DIFFERS)),
    (80, (_NAME, _TAKEN, _FREES, _VM_STATE, _DIFFERS)),
    (66, (_NAME, _TAKEN, _FREES, _DIFFERS)),
    (44, (_NAME, _FREES, _DIFFERS)),
    (0, (_NAME, _FREES)),
)
_NODE, _HERE, _MARKED = "○", "◆", "✓"
_UNKNOWN = "…"


class SnapshotsPane(TonedPane):
    """A list of states; several can be marked to see what they free together."""

    TITLE = "Snapshots"
    TAB = "Snapshots"
    SCOPE = Scope.SNAPSHOTS
    FILTERABLE = True
    PARTS = frozenset({Part.SHARING})
    HELP = (
        "Internal snapshots: former states of the disk, kept inside this file. qcow2 does not "
        "record which snapshot another was made from, so the tree is inferred: each state hangs "
        "below the earlier one it shares most with. A snapshot below another in the same column "
        "follows it; where several follow the same one, they branch to the right. 'You are "
        "here' is the disk as the guest sees it now.\n\n"
        "Frees is the space that becomes free inside the file when that snapshot alone is "
        "deleted: what only it refers to, tables included. Mark several ({snapshots.mark}) to "
        "see what they free together, which is more than their sum when they share clusters. VM "
        "state is the memory of a machine that was running. Differs is how much is not shared "
        "with the parent.\n\n"
        "{snapshots.delete} plans to delete the marked snapshots, or the one under the cursor; "
        "{snapshots.revert} plans to go back to it, and {snapshots.rename} to rename it. "
        "{snapshot.take} takes a new one. Nothing is written before you saw the plan.\n\n"
        "A state written in another colour with ◂ refers to the selected cluster. {pane.open} "
        "inspects the L1 table of a state, where its map of the disk begins."
    )

    def __init__(self, session: Session, number: int | None = None, *, id: str) -> None:
        super().__init__(session, number, id=id)
        self._sort = Sort.TREE
        self._filter = ""
        self._marked: set[int] = set()
        self._holding: frozenset[str] = frozenset()
        self._columns = _LAYOUTS[-1][1]
        self._view = SnapshotView(session)

    def compose(self) -> ComposeResult:
        yield VirtualList(self._columns, Rows(self._count, self._cells), empty=self._empty)
        yield Details()

    def on_mount(self) -> None:
        self.repaint()

    def on_resize(self, event: events.Resize) -> None:
        inside = event.size.width - 1
        columns = next(found for least, found in _LAYOUTS if inside >= least)
        if columns != self._columns:
            self._columns = columns
            self.listing.set_columns(columns)

    # ---- what is known

    @property
    def listing(self) -> VirtualList:
        return self.query_one(VirtualList)

    @property
    def _empty(self) -> str:
        if self.session.qcow2 is None:
            return "A raw image has no snapshots."
        return "Nothing matches." if self._filter else "No snapshots."

    def part_changed(self, part: Part) -> None:
        if part is Part.IMAGE:
            self._marked.clear()
        super().part_changed(part)

    def known(self) -> tuple[object, ...]:
        session = self.session
        state = session.state_of(Part.SHARING)
        return session.sharing, session.ancestry, session.space, state

    def filter_changed(self, text: str) -> None:
        self._filter = text
        self.repaint()

    def selection_changed(self, selection: Selection) -> None:
        found = selection.references
        labels = {label for ref in found.references for label in ref.states} if found else set()
        if selection.host_cluster is None and selection.state != ACTIVE:
            labels.add(selection.state)
        if labels != self._holding:
            self._holding = frozenset(labels)
            self.listing.data_changed()

    def repaint(self) -> None:
        kept = self.current
        self._view = SnapshotView(self.session, self._sort, self._filter)
        self.listing.data_changed()
        position = None if kept is None else self._view.position(kept)
        if position is not None:
            self.listing.highlight(position)
        self._retitle()
        self._show_details()

    def _retitle(self) -> None:
        note = ""
        if self._marked:
            note = self._view.marked_words(self._marked)
        elif self.session.state_of(Part.SHARING) is PartState.FAILED:
            note = "could not be compared"
        elif self._sort is not Sort.TREE:
            note = self._sort.value
        elif self._view.snapshots:
            known = self.session.sharing is not None
            note = plural(len(self._view.snapshots), "snapshot")
            note += "" if known else ", not compared yet"
        self.retitle(subtitle=note)

    # ---- rows

    def _count(self) -> int:
        return len(self._view) if self._view.snapshots or self._filter else 0

    @property
    def current(self) -> int | None:
        """State index of the row under the cursor."""
        at = self.listing.index
        return None if at is None or at >= len(self._view) else self._view.row(at).index

    @property
    def states_to_compare(self) -> tuple[str, str] | None:
        """What a comparison started from here is of: two marked states, or this one and now."""
        if len(self._marked) == 2:
            one, other = sorted(self._marked)
            return self._view.label(one), self._view.label(other)
        at = self.current
        return None if not at else (self._view.label(at), ACTIVE)

    def _cells(self, position: int) -> list[Text]:
        row = self._view.row(position)
        return [self._cell(row, column) for column in self._columns]

    def _cell(self, row: SnapshotRow, column: Column) -> Text:
        snapshot = self._view.snapshot(row.index)
        if column is _NAME:
            return self._name_cell(row)
        if column is _FREES:
            tone = Tone.MUTED if row.is_active else Tone.PLAIN
            return self._amount(self._view.frees(row.index), tone)
        if column is _DIFFERS:
            differs = self._view.differs(row.index)
            known = self.session.sharing is not None
            return self.words("-") if known and differs is None else self._amount(differs)
        if snapshot is None:
            return Text("")
        if column is _ID:
            return self.words((row.id, Tone.MUTED))
        if column is _TAKEN:
            return self.words((date_words(snapshot), Tone.MUTED))
        return self._amount(snapshot.vm_state_size) if snapshot.vm_state_size else Text("")

    def _name_cell(self, row: SnapshotRow) -> Text:
        marked = row.index in self._marked
        node = _MARKED if marked else _HERE if row.is_active else _NODE
        tone = row.tone
        holds = self._view.label(row.index) in self._holding
        if tone is Tone.PLAIN and (holds or marked):
            tone = Tone.NOTE if holds else Tone.STRONG
        return self.words(
            (row.guides, Tone.MUTED), (f"{node} ", tone), (row.name, tone), " ◂" if holds else ""
        )

    def _amount(self, number: int | None, tone: Tone = Tone.PLAIN) -> Text:
        return self.words((_UNKNOWN, Tone.MUTED) if number is None else (size(number), tone))

    # ---- what the user does

    def on_virtual_list_highlighted(self, event: VirtualList.Highlighted) -> None:
        event.stop()
        self._show_details()

    def on_virtual_list_activated(self, event: VirtualList.Activated) -> None:
        event.stop()
        cluster = self._view.l1_cluster(self._view.row(event.index).index)
        if cluster is not None:
            self.post_message(self.Inspect(select_host(cluster)))

    def action_mark(self) -> None:
        """Mark the snapshot under the cursor, or take the mark off, and go to the next row."""
        at = self.current
        if at is not None and at != ACTIVE_INDEX:
            self._marked ^= {at}
            self.listing.data_changed()
            self._retitle()
        self.listing.action_move(0, 1)

    @property
    def _chosen(self) -> tuple[int, ...]:
        """The marked snapshots, or the one under the cursor."""
        if self._marked:
            return tuple(sorted(self._marked))
        return self._under_cursor

    def action_delete(self) -> None:
        """Ask for the marked snapshots, or this one, to be deleted."""
        self.post_message(self.Ask("snapshots.delete", self._chosen))

    def action_revert(self) -> None:
        """Ask for the disk to go back to this one."""
        self.post_message(self.Ask("snapshots.revert", self._under_cursor))

    def action_rename(self) -> None:
        """Ask for another name."""
        self.post_message(self.Ask("snapshots.rename", self._under_cursor))

    @property
    def _under_cursor(self) -> tuple[int, ...]:
        at = self.current
        return () if at is None or at == ACTIVE_INDEX else (at,)

    def action_sort(self) -> None:
        """The next order of the rows."""
        orders = list(Sort)
        self._sort = orders[(orders.index(self._sort) + 1) % len(orders)]
        self.repaint()

    def escape(self) -> bool:
        if super().escape():
            return True
        marked = bool(self._marked)
        self._marked.clear()
        if marked:
            self.listing.data_changed()
            self._retitle()
        return marked

    def _show_details(self) -> None:
        at = self.current
        pairs = () if at is None or not self._count() else self._view.details(at)
        self.query_one(Details).show(pairs)
