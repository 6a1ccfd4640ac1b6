"""The findings pane: what is notable or wrong, one row for each cause, worst first."""

from __future__ import annotations

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from ...views.findings_view import FindingsView, check_words
from ...views.selection import Selection
from ...views.session import Part, Session
from ..widgets.virtual_list import Column, VirtualList
from .details import Details
from .toned import Rows, TonedPane, content

_SEVERITY = Column("", 7)
_WHAT = Column("What")
_COUNT = Column("", 13, "right")
_HITS = Column("", 16, "right")
_LAYOUTS: tuple[tuple[int, tuple[Column, ...]], ...] = (
    (80, (_SEVERITY, _WHAT, _COUNT, _HITS)),
    (56, (_SEVERITY, _WHAT, _COUNT)),
    (0, (_SEVERITY, _WHAT)),
)
#: From this height on the details stay, focused or not.
_MIN_HEIGHT_FOR_DETAILS = 22


class FindingsPane(TonedPane):
    """The check's result in a line, the findings, and everything about the current one."""

    TITLE = "Findings"
    TAB = "Findings"
    FILTERABLE = True
    PARTS = frozenset({Part.CHECK, Part.LEAKS, Part.CHAIN})
    HELP = (
        "Everything notable about this image, grouped by root cause and worst first, found when "
        "it was opened, by the check of all metadata, and by following its chain. The words are "
        "those of qemu-img's exit codes: OK, LEAKS (space, or LOST DATA when they look like it), "
        "CORRUPT (fix before anything writes), INCOMPLETE (something could not be read). What the "
        "guest stored is not verified by any check of metadata.\n\n"
        "For each finding: what it is, which guest data it hits, what follows, what is safe to "
        "do next. {pane.open} shows its first place on the map, {move.left} and {move.right} go "
        "through all of its places, {move.page_up} and {move.page_down} scroll the explanation. "
        "◂ marks findings about the selected cluster. Leaked clusters can be lost guest data: "
        "look at them before anything reclaims them."
    )
    DEFAULT_CSS = """
    FindingsPane > .result { height: auto; max-height: 3; margin-bottom: 1; }
    FindingsPane > Details { max-height: 50%; }
    FindingsPane > Details.-pinned { max-height: 60%; }
    """

    def __init__(self, session: Session, number: int | None = None, *, id: str) -> None:
        super().__init__(session, number, id=id)
        self._columns = _LAYOUTS[-1][1]
        self._filter = ""
        self._findings = FindingsView(session)
        self._about: frozenset[int] = frozenset()
        self._place = 0

    def compose(self) -> ComposeResult:
        yield Static(classes="result", markup=False)
        rows = Rows(lambda: len(self._findings), self._cells)
        yield VirtualList(self._columns, rows, header=False, empty="")
        yield Details()

    def on_mount(self) -> None:
        self.repaint()

    def on_resize(self, event: events.Resize) -> None:
        self.query_one(Details).set_class(event.size.height >= _MIN_HEIGHT_FOR_DETAILS, "-pinned")
        columns = next(found for least, found in _LAYOUTS if event.size.width - 1 >= least)
        if columns != self._columns:
            self._columns = columns
            self.listing.set_columns(columns)

    @property
    def listing(self) -> VirtualList:
        return self.query_one(VirtualList)

    def known(self) -> tuple[object, ...]:
        session = self.session
        failure = session.failures.get(Part.CHECK)
        state = session.state_of(Part.CHECK)
        return session.check, session.triage, session.chain, state, failure

    def filter_changed(self, text: str) -> None:
        self._filter = text
        self.repaint()

    def selection_changed(self, selection: Selection) -> None:
        about = self._findings.about(selection)
        if about != self._about:
            self._about = about
            self.listing.data_changed()

    def repaint(self) -> None:
        before = self._current
        kept = None if before is None else self._findings.rows[before].finding
        self._findings = FindingsView(self.session, self._filter)
        self._about = self._findings.about(self.session.selection)
        self.listing.data_changed()
        for position, row in enumerate(self._findings.rows):
            if kept is not None and (row.finding.code, row.finding.what) == (kept.code, kept.what):
                self.listing.highlight(position)
        self.query_one(".result", Static).update(self._result())
        self._show_details()

    def _result(self) -> Content:
        word, sentence, tone = check_words(self.session)
        return content((word, tone), f"  {sentence}" if sentence else "")

    # ---- rows

    @property
    def _current(self) -> int | None:
        at = self.listing.index
        return None if at is None or at >= len(self._findings) else at

    def _cells(self, position: int) -> list[Text]:
        row = self._findings.rows[position]
        cells = {
            _SEVERITY: self.words((row.severity, row.tone)),
            _WHAT: self.words(row.what, " ◂" if position in self._about else ""),
            _COUNT: self.words(row.count),
            _HITS: self.words(row.hits),
        }
        return [cells[column] for column in self._columns]

    # ---- what the user does

    def on_virtual_list_highlighted(self, event: VirtualList.Highlighted) -> None:
        event.stop()
        self._place = 0
        self._show_details()

    def on_virtual_list_activated(self, event: VirtualList.Activated) -> None:
        event.stop()
        self._jump(self._place, show=True)

    def action_move(self, right: int, down: int) -> None:
        if right:
            self._jump(self._place + right)
        else:
            super().action_move(right, down)

    def action_page(self, pages: int) -> None:
        if not self.query_one(Details).page(pages):
            super().action_page(pages)

    def _jump(self, number: int, *, show: bool = False) -> None:
        """To the place with this number of the current finding, counted from 0."""
        at = self._current
        places = [] if at is None else self._findings.places(at)
        if places:
            self._place = min(max(0, number), len(places) - 1)
            self.post_message(self.Jump(places[self._place], show))
            self._retitle()

    def _retitle(self) -> None:
        at = self._current
        if at is None:
            self.retitle()
            return
        note = f"{at + 1} of {len(self._findings)}"
        places = len(self._findings.places(at))
        if places > 1:
            note += f" · place {self._place + 1} of {places}"
        self.retitle(subtitle=note)

    def _show_details(self) -> None:
        at = self._current
        self._retitle()
        self.query_one(Details).show(() if at is None else self._findings.details(at))
