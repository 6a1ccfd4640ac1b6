"""The header pane: what the image is, in words."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult

from ...views.bars import shares
from ...views.breakdown import Breakdown, Share, breakdown
from ...views.header_fields import Field, Section
from ...views.header_view import header_sections
from ...views.selection import select_host
from ...views.session import Part, Session
from ...views.tones import Tone
from ...views.units import exact, percent, size
from ..widgets.virtual_list import Column, VirtualList
from .details import Details
from .toned import Rows, TonedPane, content_width

#: Widths from which a third column has the glosses.
_MIN_WIDTH_FOR_GLOSSES = 66
_WIDE_LABEL, _WIDE_VALUE = 20, 20
_NARROW_LABEL = 15
_SPACE = "space"
_BAR = "bar"


@dataclass(frozen=True, slots=True)
class _Row:
    """A title (``field`` and ``share`` None), a field, a share of the space, or the bar."""

    section: str
    title: str
    summary: str = ""
    field: Field | None = None
    share: Share | None = None

    @property
    def key(self) -> tuple[str, str, bool]:
        return self.section, self.title, self.is_title

    @property
    def is_title(self) -> bool:
        return self.field is None and self.share is None and self.title != _BAR


class HeaderPane(TonedPane):
    """Sections of fields; titles fold, fields that lie somewhere lead to the map."""

    TITLE = "Header"
    TAB = "Header"
    FILTERABLE = True
    PARTS = frozenset({Part.HOST_MAP, Part.SHARING, Part.CHECK, Part.CHAIN})
    HELP = (
        "What this image is. Four sizes are easily confused: the virtual size is what the guest "
        "sees, the file length is what ls -l shows, the disk size is what the file takes on "
        "this host (holes take nothing), and the image end is where the last used cluster ends. "
        "'Can grow to' is the length the file reaches when the guest has written everywhere.\n\n"
        "Space shows what the bytes of the file are used for. Reclaimable is what holds "
        "nothing: free clusters between used ones, leaked clusters, and what lies behind the "
        "image end.\n\n"
        "{pane.open} on a title folds the section; on a field that lies somewhere in the file "
        "it shows that place on the map. Names of other files are text here: nothing is opened."
    )

    def __init__(self, session: Session, number: int | None = None, *, id: str) -> None:
        super().__init__(session, number, id=id)
        self._rows: list[_Row] = []
        self._space: Breakdown | None = None
        self._toggled: set[str] = set()
        self._filter = ""

    def compose(self) -> ComposeResult:
        rows = Rows(lambda: len(self._rows), self._cells)
        yield VirtualList([Column("")], rows, header=False, empty="Nothing matches.")
        yield Details()

    def on_mount(self) -> None:
        self.repaint()

    def known(self) -> tuple[object, ...]:
        session = self.session
        return session.owners, session.sharing, session.space, session.check, session.chain

    def filter_changed(self, text: str) -> None:
        self._filter = text.casefold()
        self.repaint()

    # ---- rows

    @property
    def listing(self) -> VirtualList:
        return self.query_one(VirtualList)

    def repaint(self) -> None:
        at = self.listing.index
        kept = self._rows[at].key if at is not None and at < len(self._rows) else None
        self._space = breakdown(self.session)
        self._rows = self._all_rows()
        self.listing.data_changed()
        for index, row in enumerate(self._rows):
            if row.key == kept:
                self.listing.highlight(index)
                break
        self._show_details()

    def _all_rows(self) -> list[_Row]:
        rows: list[_Row] = []
        for number, section in enumerate(
            header_sections(self.session, self.key_for("chain.follow"))
        ):
            rows += self._section_rows(section)
            if number == 0:
                rows += self._space_rows()
        return rows

    def _section_rows(self, section: Section) -> list[_Row]:
        title = _Row(section.key, section.title, section.summary)
        fields = [_Row(section.key, field.label, field=field) for field in section.fields]
        if self._filter:
            hits = [row for row in fields if self._filter in _haystack(section, row)]
            return [title, *hits] if hits else []
        return [title] if self._folded(section.key, section.folded) else [title, *fields]

    def _space_rows(self) -> list[_Row]:
        space = self._space
        if space is None or self._filter:
            return []
        title = _Row(_SPACE, "Space", f"{size(space.reclaimable)} reclaimable")
        if self._folded(_SPACE, False):
            return [title]
        shown = [_Row(_SPACE, share.label, share=share) for share in space.shares]
        return [title, _Row(_SPACE, _BAR), *shown, _Row(_SPACE, "", field=_reclaimable(space))]

    def _folded(self, key: str, at_first: bool) -> bool:
        return at_first != (key in self._toggled)

    # ---- how a row looks

    def _cells(self, index: int) -> list[Text]:
        """The one cell of a row, laid out for the list's width."""
        row = self._rows[index]
        width = content_width(self.listing)
        if row.field is not None:
            return [self._field_line(row.field, width)]
        if row.share is not None:
            return [self._share_line(row.share, width)]
        if row.title == _BAR:
            return [self._bar(width)]
        return [self._title_line(row)]

    def _title_line(self, row: _Row) -> Text:
        following = [other for other in self._rows if other.section == row.section]
        folded = len(following) == 1
        line = self.words((("▸ " if folded else "▾ ") + row.title, Tone.STRONG))
        if folded or row.section == _SPACE:
            line.append_text(self.words((f"  {row.summary}", Tone.MUTED)))
        return line

    def _field_line(self, field: Field, width: int) -> Text:
        wide = width >= _MIN_WIDTH_FOR_GLOSSES
        label = _WIDE_LABEL if wide else _NARROW_LABEL
        line = self._column((f"  {field.label}", Tone.MUTED), label)
        if not wide:
            line.append_text(self.words((field.value, field.tone)))
            return line
        value = self.words((field.value, field.tone))
        if value.cell_len < _WIDE_VALUE:
            value.pad_right(_WIDE_VALUE - value.cell_len)
        line.append_text(value)
        quiet = field.tone in (Tone.PLAIN, Tone.GOOD)
        line.append_text(self.words((f"  {field.gloss}", Tone.MUTED if quiet else field.tone)))
        return line

    def _share_line(self, share: Share, width: int) -> Text:
        line = Text("  ", no_wrap=True, end="")
        line.append(*self.swatch(share.colour))
        amount = f"{size(share.size):>9}"
        if width < _MIN_WIDTH_FOR_GLOSSES:
            label = max(1, width - 3 - len(amount))
            line.append_text(self._column((f" {share.label}", Tone.MUTED), label))
            return line.append_text(self.words((amount, share.tone)))
        line.append_text(self._column((f" {share.label}", Tone.MUTED), _WIDE_LABEL - 3))
        whole = self._space.file_length if self._space else 0
        amount += f" {percent(share.size, whole):>7}"
        line.append_text(self._column((amount, share.tone), _WIDE_VALUE))
        return line.append_text(self.words((f"  {share.gloss}", Tone.MUTED)))

    def _bar(self, width: int) -> Text:
        line = Text("  ", no_wrap=True, end="")
        space = self._space
        if space is not None:
            cells = shares([share.size for share in space.shares], max(0, width - 2))
            for share, count in zip(space.shares, cells, strict=True):
                line.append(*self.swatch(share.colour, count))
        return line

    def _column(self, piece: tuple[str, Tone], width: int) -> Text:
        """A piece cut or padded to ``width`` cells."""
        text = self.words(piece)
        text.truncate(width - 1, overflow="ellipsis")
        text.pad_right(width - text.cell_len)
        return text

    # ---- what the user does

    def on_virtual_list_highlighted(self, event: VirtualList.Highlighted) -> None:
        event.stop()
        self._show_details()

    def on_virtual_list_activated(self, event: VirtualList.Activated) -> None:
        event.stop()
        row = self._rows[event.index]
        if row.is_title:
            self._toggled ^= {row.section}
            self.repaint()
        elif row.field is not None and row.field.host_cluster is not None:
            self.post_message(self.Jump(select_host(row.field.host_cluster), show=True))

    def _show_details(self) -> None:
        at = self.listing.index
        row = None if at is None else self._rows[at]
        self.query_one(Details).show(() if row is None else tuple(_details(row)))


def _details(row: _Row) -> list[tuple[str, str]]:
    if row.share is not None:
        return [(row.share.label, f"{exact(row.share.size)}: {row.share.gloss}")]
    field = row.field
    if field is None:
        return []
    gloss = f"{field.value}  ({field.gloss})" if field.gloss else field.value
    found = [(field.label, gloss)]
    if field.doc:
        found.append(("", field.doc))
    if field.host_cluster is not None:
        found.append(("", "enter shows it on the map"))
    return found


def _reclaimable(space: Breakdown) -> Field:
    parts = [
        f"{size(amount)} {what}"
        for amount, what in (
            (space.free_inside, "free between used clusters"),
            (space.beyond_end, "behind the image end"),
        )
        if amount
    ]
    said = (" + ".join(parts) + ".") if parts else "No cluster of the file is free."
    if space.leaked:
        said += f" {size(space.leaked)} leaked is not counted: it may be lost data."
    return Field(
        "Reclaimable",
        size(space.reclaimable),
        "holds nothing",
        said,
        Tone.PLAIN,
    )


def _haystack(section: Section, row: _Row) -> str:
    field = row.field
    assert field is not None
    return "\n".join((section.title, field.label, field.value, field.gloss, field.doc)).casefold()
