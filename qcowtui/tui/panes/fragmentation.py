"""The fragmentation pane: runs, where the disk is scattered, and the L2 cache it needs."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from ...views.fragmentation_view import (
    Fact,
    FragmentationView,
    RegionRow,
    fragmentation_view,
    hottest,
    region_words,
)
from ...views.palette import heat_ink
from ...views.selection import Selection, select_guest
from ...views.session import Part, Session
from ...views.tones import Tone
from ...views.units import axis_label, offset
from ..theme import map_theme
from ..widgets.own_colors import OwnColors
from ..widgets.virtual_list import Column, VirtualList
from .toned import Rows, TonedPane, content, content_width

_LABEL, _VALUE = 16, 11
_MIN_WIDTH_FOR_GLOSSES = 56
_EMPTY = "·"


class _Strip(Static, OwnColors):
    """A picture of the whole disk in a line, with an axis below."""


class FragmentationPane(TonedPane):
    """Facts above, a strip of the whole disk, then the options to paste and the regions."""

    TITLE = "Fragmentation"
    TAB = "Fragments"
    PARTS = frozenset({Part.FRAGMENTATION})
    HELP = (
        "How the guest's disk lies in the file. A run is a stretch that lies in the file in the "
        "order the guest reads it; between runs a reader goes elsewhere. On disks that spin "
        "each way costs milliseconds, on flash little.\n\n"
        "The strip is the whole guest disk from left to right: the brighter, the more "
        "scattered; dots hold nothing. The rows below are its parts; {pane.open} shows one on "
        "the map.\n\n"
        "QEMU finds its way with the L2 tables and keeps some of them in memory. When the disk "
        "is larger than that cache covers, random reads get slower; the options give QEMU a "
        "cache for the whole disk. {pane.open} on an option copies it."
    )
    DEFAULT_CSS = """
    FragmentationPane > Static { height: auto; text-wrap: nowrap; text-overflow: ellipsis; }
    FragmentationPane > .strip { margin: 1 0; }
    FragmentationPane > .facts { max-height: 45%; }
    """

    def __init__(self, session: Session, number: int | None = None, *, id: str) -> None:
        super().__init__(session, number, id=id)
        self._measured = FragmentationView()
        self._regions: tuple[RegionRow, ...] = ()
        self._here: RegionRow | None = None

    def compose(self) -> ComposeResult:
        yield Static(classes="facts", markup=False)
        yield _Strip(classes="strip", markup=False)
        rows = Rows(self._row_count, self._cells)
        yield VirtualList([Column("")], rows, header=False, empty="")

    def on_mount(self) -> None:
        self.repaint()

    def on_resize(self) -> None:
        self._show_facts()

    def known(self) -> tuple[object, ...]:
        session = self.session
        failure = session.failures.get(Part.FRAGMENTATION)
        return session.fragmentation, session.state_of(Part.FRAGMENTATION), failure

    def selection_changed(self, selection: Selection) -> None:
        here = self._region_of(selection)
        if here is not self._here:
            self._here = here
            self.listing.data_changed()

    def _region_of(self, selection: Selection) -> RegionRow | None:
        guest = selection.guest_offset
        if guest is None:
            return None
        inside = (row for row in self._regions if row.start <= guest < row.start + row.length)
        return next(inside, None)

    @property
    def listing(self) -> VirtualList:
        return self.query_one(VirtualList)

    def repaint(self) -> None:
        self._measured = fragmentation_view(self.session)
        self._regions = tuple(row for row in self._measured.regions if row.heat is not None)
        self._here = self._region_of(self.session.selection)
        self._show_facts()
        self.listing.data_changed()

    # ---- facts and strip

    def _show_facts(self) -> None:
        view = self._measured
        lines = [content((view.note, view.tone))] if view.note else []
        lines += [self._fact(fact) for fact in (*view.facts, *view.cache)]
        self.query_one(".facts", Static).update(Content("\n").join(lines))
        self.query_one(".strip", Static).update(self._strip())

    def _fact(self, fact: Fact) -> Content:
        label = content((fact.label, Tone.MUTED)).pad_right(max(0, _LABEL - len(fact.label)))
        value = content((fact.value.rjust(_VALUE), fact.tone))
        if self.size.width < _MIN_WIDTH_FOR_GLOSSES:
            return label + value
        return label + value + content((f"  {fact.gloss}", Tone.MUTED))

    def _strip(self) -> Text:
        regions = self._measured.regions
        cells = self.size.width
        if not regions or cells < 1:
            return Text("")
        line = Text(no_wrap=True)
        for heat in hottest(regions, cells):
            line.append(*self._heat(heat))
        disk = regions[-1].start + regions[-1].length
        quarter = max(1, disk // 4)
        axis = "".join(axis_label(quarter * part, quarter).ljust(cells // 4) for part in range(4))
        line.append("\n" + axis[:cells], self.ink(Tone.MUTED))
        return line

    def _heat(self, heat: float | None, cells: int = 1) -> tuple[str, Style]:
        if heat is None:
            return _EMPTY * cells, self.ink(Tone.MUTED)
        digit = str(min(9, int(heat * 10)))
        return self.block(heat_ink(map_theme(self.app), heat, digit), cells)

    # ---- rows: the options to paste, then the regions that hold something

    def _row_count(self) -> int:
        return len(self._measured.options) + len(self._regions)

    def _cells(self, index: int) -> list[Text]:
        options = self._measured.options
        if index < len(options):
            return [self.words(("copy  ", Tone.NOTE), options[index])]
        return [self._region(self._regions[index - len(options)])]

    def _region(self, row: RegionRow) -> Text:
        line = Text(no_wrap=True, end="")
        line.append(*self._heat(row.heat, 2))
        start, stop = (
            axis_label(place, row.length) for place in (row.start, row.start + row.length)
        )
        line.append_text(self.words(f" {start:>8} - {stop:<9}", (region_words(row), Tone.MUTED)))
        if row is self._here:
            line.append(" ◂")
        if content_width(self.listing) >= _MIN_WIDTH_FOR_GLOSSES:
            line.append_text(self.words((f"  from guest {offset(row.start)}", Tone.MUTED)))
        return line

    def on_virtual_list_highlighted(self, event: VirtualList.Highlighted) -> None:
        event.stop()

    def on_virtual_list_activated(self, event: VirtualList.Activated) -> None:
        event.stop()
        options = self._measured.options
        if event.index < len(options):
            self.app.copy_to_clipboard(options[event.index])
            self.notify(
                options[event.index], title="Copied, if your terminal allows it", markup=False
            )
        else:
            row = self._regions[event.index - len(options)]
            self.post_message(self.Jump(select_guest(row.start), show=True))
