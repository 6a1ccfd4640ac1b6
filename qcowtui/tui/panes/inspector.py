"""The inspector: who owns the selected cluster, and its bytes with the structures in them named."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events, work
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from qcow.errors import QcowError

from ...commands.command import Scope
from ...views.cluster_view import ClusterView, cluster_view
from ...views.decode import Note, Reading, notes_near, readings_of
from ...views.selection import Selection, select_guest, select_host
from ...views.session import Part, Session
from ...views.tones import Tone
from ...views.units import offset
from ..widgets.hex_view import HexRegion, HexView
from .toned import TonedPane, content

#: Bytes that are read at a time around what the hex view shows, and how many such pieces are kept.
_PIECE = 1 << 16
_KEPT_PIECES = 64
_MAX_OWNERS = 5


class InspectorPane(TonedPane):
    """Facts and owners above, the whole file in hex below, the field under the cursor between."""

    TITLE = "Inspector"
    TAB = "Inspector"
    SCOPE = Scope.INSPECTOR
    HELP = (
        "The selected cluster from close by. The lines with ← are everything that points at it, "
        "read from right to left as QEMU does: the L1 table of a state, an entry in it, an "
        "entry of the L2 table, this cluster. The refcount on disk should be the number of "
        "these references.\n\n"
        "Below are the bytes of the file, the structures in the selected cluster tinted and "
        "named. The line above them says what the field under the cursor means. {pane.open} "
        "follows the pointer under the cursor, {inspector.pointer} goes to what points here, "
        "{go.back} goes back. {inspector.next} and {inspector.previous} move from field to "
        "field. Moving out of the cluster selects the next one everywhere.\n\n"
        "Bytes of encrypted guest data are shown as they are stored: as ciphertext."
    )
    DEFAULT_CSS = """
    InspectorPane > .facts { height: auto; max-height: 60%; }
    InspectorPane > .field {
        height: 2;
        border-top: solid $foreground 20%;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    """

    @dataclass
    class Fetched(Message):
        """Bytes of the file that a worker read; None where they cannot be had."""

        start: int
        data: bytes | None
        revision: int

    def __init__(self, session: Session, number: int | None = None, *, id: str) -> None:
        super().__init__(session, number, id=id)
        self._pieces: dict[int, bytes | None] = {}
        self._asked: set[int] = set()
        self._revision = session.revision
        self._known = ClusterView("", "")
        self._readings: tuple[Reading, ...] = ()
        self._reading = 0
        self._notes: list[Note] = []
        self._window = range(0)
        self._shown = Selection()
        self._seen = False

    def compose(self) -> ComposeResult:
        yield Static(classes="facts", markup=False)
        yield Static(classes="field", markup=False)
        yield HexView(self._bytes, self.session.storage.size())

    def on_show(self) -> None:
        self._seen = True
        self.selection_changed(self.session.selection)

    def on_hide(self) -> None:
        self._seen = False

    @property
    def hex(self) -> HexView:
        return self.query_one(HexView)

    def part_changed(self, part: Part) -> None:
        if part is Part.IMAGE:
            self._forget()
            self.selection_changed(self.session.selection)

    def _forget(self) -> None:
        """The file was read anew: its bytes may be others."""
        self._revision = self.session.revision
        self._pieces.clear()
        self._asked.clear()
        at = self.hex.cursor
        self.hex.set_source(self._bytes, self.session.storage.size())
        self.hex.go_to(at)

    # ---- the selected cluster

    def selection_changed(self, selection: Selection) -> None:
        if not self._seen:  # nobody looks: read no bytes for every move on the map
            return
        moved = not selection.same_place(self._shown)
        self._shown = selection
        self._known = cluster_view(self.session, selection)
        self._readings = readings_of(self.session, selection)
        if moved:
            self._reading = 0
            self._go_to_cluster(selection)
        self._decode(force=True)
        self._show_facts()

    def _go_to_cluster(self, selection: Selection) -> None:
        host, size = selection.host_cluster, self.session.cluster_size
        if host is not None and self.hex.cursor // size != host:
            self.hex.go_to(host * size)

    def repaint(self) -> None:
        self._show_facts()

    def _show_facts(self) -> None:
        view = self._known
        lines = [content((view.title, Tone.STRONG))] if view.title else []
        lines.append(content((view.note, view.tone)))
        owners = view.owners if self.size.height > 24 else view.owners[:_MAX_OWNERS]
        lines += [content(one.text) for one in owners]
        more = view.unlisted + len(view.owners) - len(owners)
        if more > 0:
            lines.append(content((f"and {more:,} more references", Tone.MUTED)))
        if view.counts:
            lines.append(content((view.counts, view.counts_tone)))
        self.query_one(".facts", Static).update(Content("\n").join(lines))

    def on_resize(self, event: events.Resize) -> None:
        self._show_facts()

    # ---- decoding around the cursor

    def _decode(self, *, force: bool = False) -> None:
        """Name the fields around the cursor, when it has left those that are named."""
        reading = self._current_reading
        at = self.hex.cursor
        if reading is None:
            self._notes, self._window = [], range(0)
        elif force or at not in self._window:
            start, stop = reading.start, reading.stop
            data = self._whole(start, stop)
            self._notes, self._window = notes_near(reading, data, at)
        else:
            self._show_field()
            return
        self.hex.set_regions(
            [HexRegion(one.start, one.length, f"{one.label}: {one.value}") for one in self._notes]
        )
        self._show_field()

    @property
    def _current_reading(self) -> Reading | None:
        return self._readings[self._reading % len(self._readings)] if self._readings else None

    def _note_at(self, at: int) -> Note | None:
        for note in reversed(self._notes):
            if note.start <= at < note.start + note.length:
                return note
        return None

    def _show_field(self) -> None:
        at = self.hex.cursor
        note, reading = self._note_at(at), self._current_reading
        pieces: list[tuple[str, Tone]] = [(f"{offset(at)}  ", Tone.MUTED)]
        if note is not None:
            pieces += [(note.label, Tone.STRONG), (f"  {note.value}", Tone.PLAIN)]
            if note.guest is not None and f"guest {offset(note.guest)}" != note.label:
                pieces.append((f"  guest {offset(note.guest)}", Tone.MUTED))
            if note.target is not None:
                pieces.append(("  enter follows", Tone.NOTE))
        if len(self._readings) > 1 and reading is not None:
            pieces.append((f"  read as {reading.structure.value}; t for another", Tone.WARNING))
        self.query_one(".field", Static).update(content(*pieces))

    # ---- bytes, read by a worker

    def _bytes(self, start: int, length: int) -> bytes | None:
        """What the hex view shows; None until a worker has read it."""
        piece = start // _PIECE * _PIECE
        held = self._pieces.get(piece)
        if held is not None:
            return held[start - piece : start - piece + length]
        if piece not in self._asked:
            self._asked.add(piece)
            self.call_later(self._fetch, piece, self._revision)
        return None

    def _whole(self, start: int, stop: int) -> bytes | None:
        """Bytes of the file, None while some of them are not there yet."""
        parts = []
        for piece in range(start // _PIECE * _PIECE, stop, _PIECE):
            held = self._bytes(piece, _PIECE)
            if held is None:
                return None
            parts.append(held)
        data = b"".join(parts)
        inside = start % _PIECE
        return data[inside : inside + stop - start]

    @work(thread=True, group="hex", exit_on_error=False)
    def _fetch(self, start: int, revision: int) -> None:
        try:
            data: bytes | None = self.session.storage.read(start, _PIECE)
        except QcowError:
            data = None
        self.post_message(self.Fetched(start, data, revision))

    def on_inspector_pane_fetched(self, event: Fetched) -> None:
        event.stop()
        if event.revision != self._revision:
            return
        self._pieces[event.start] = event.data
        if event.data is not None:
            self._asked.discard(event.start)
        while len(self._pieces) > _KEPT_PIECES:
            self._pieces.pop(next(iter(self._pieces)))
        self.hex.data_changed()
        self._decode(force=True)

    # ---- what the user does

    def on_hex_view_moved(self, event: HexView.Moved) -> None:
        event.stop()
        cluster = event.offset // self.session.cluster_size
        if cluster != self._shown.host_cluster:
            self.post_message(self.Select(select_host(cluster)))
        self._decode()

    def action_activate(self) -> None:
        """Follow the pointer under the cursor."""
        note = self._note_at(self.hex.cursor)
        if note is not None and note.target is not None:
            self._jump(note.target)
        elif note is not None and note.guest is not None:
            self.post_message(self.Jump(select_guest(note.guest)))

    def action_pointer(self) -> None:
        """To what points at this cluster; again, to what points at that."""
        pointers = [one.pointer for one in self._known.owners if one.pointer is not None]
        if pointers:
            self._jump(pointers[0])

    def _jump(self, target: int) -> None:
        """To a byte of the file."""
        if target < self.session.storage.size():
            self.hex.go_to(target)
            self.post_message(self.Jump(select_host(target // self.session.cluster_size)))

    def action_next_field(self) -> None:
        """To the next field that is named."""
        self.hex.action_next_region()

    def action_previous_field(self) -> None:
        """To the beginning of this field, or to the one before."""
        self.hex.action_previous_region()

    def action_other_reading(self) -> None:
        """Take a cluster with owners of several kinds for the next kind."""
        self._reading += 1
        self._decode(force=True)
