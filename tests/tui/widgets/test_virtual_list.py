"""The list: only what is in view is asked for, whatever the length; text is only ever text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from rich.text import Text

from qcowtui.tui.widgets.virtual_list import Column, VirtualList

from .apps import OneWidget
from .cells import style_at, text_of

COLUMNS = [Column("code", 6), Column("what"), Column("bytes", 7, "right")]


class Rows:
    """``count`` rows; remembers which were asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: set[int] = set()

    def __len__(self) -> int:
        return self.count

    def row(self, index: int) -> Sequence[str | Text]:
        self.asked.add(index)
        return f"C-{index}", f"finding number {index}", str(index * 512)


class Fixed:
    def __init__(self, *rows: Sequence[str | Text]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> Sequence[str | Text]:
        return self.rows[index]


async def test_columns() -> None:
    list_ = VirtualList(COLUMNS, Rows(3))
    async with OneWidget(list_).run_test(size=(40, 5)):
        assert text_of(list_) == [
            "code    what                      bytes",
            "C-0     finding number 0              0",
            "C-1     finding number 1            512",
            "C-2     finding number 2           1024",
            "",
        ]


async def test_a_hundred_thousand_rows_cost_a_screenful() -> None:
    rows = Rows(100_000)
    list_ = VirtualList(COLUMNS, rows)
    app = OneWidget(list_)
    async with app.run_test(size=(40, 11)) as pilot:
        assert max(rows.asked) < 12
        list_.action_end()
        await pilot.pause()
        assert text_of(list_)[-1].startswith("C-999…")
        assert text_of(list_)[0].startswith("code")
        list_.action_page(-1)
        list_.action_home()
        await pilot.pause()
        assert list_.index == 0
        assert len(rows.asked) < 60
        indexes = [each.index for each in app.taken() if isinstance(each, VirtualList.Highlighted)]
        assert indexes == [99_999, 99_989, 0]


async def test_markup_and_wide_text_stay_what_they_are() -> None:
    hostile = "[@click=app.bell]x[/] [bold"
    wide = "映像ファイル映像ファイル映像"
    list_ = VirtualList(COLUMNS, Fixed((hostile[:6], hostile, "1"), ("w", wide, "2")))
    async with OneWidget(list_).run_test(size=(40, 4)):
        lines = text_of(list_)
        assert lines[1].startswith("[@clic  [@click=app.bell]x[/]")
        assert lines[2].startswith("w       映像ファイル映像ファ …")
        assert lines[2].endswith("      2")


async def test_styled_cells_and_the_cursor() -> None:
    red = Text("bad", style=Style(color="red"))
    part = Text("one two")
    part.stylize(Style(bold=True), 4, 7)
    list_ = VirtualList(COLUMNS, Fixed(("a", "b", "c"), (red, part, "1")))
    app = OneWidget(list_)
    async with app.run_test(size=(40, 4)) as pilot:
        await pilot.pause()
        assert "bold" not in style_at(list_, 8, 2)
        assert "bold" in style_at(list_, 12, 2)
        coloured = style_at(list_, 0, 2)
        list_.highlight(1)
        await pilot.pause()
        assert style_at(list_, 0, 2) != coloured
        assert style_at(list_, 0, 2) == style_at(list_, 20, 2)  # one look across the cursor
        app.set_focus(None)
        await pilot.pause()
        assert style_at(list_, 0, 2) != style_at(list_, 20, 2)
        assert app.taken() == []


async def test_mouse_and_activation() -> None:
    list_ = VirtualList(COLUMNS, Rows(50))
    app = OneWidget(list_)
    async with app.run_test(size=(40, 6)) as pilot:
        await pilot.click(VirtualList, offset=(3, 3))
        assert list_.index == 2
        await pilot.click(VirtualList, offset=(3, 0))
        assert list_.index == 2
        list_.action_activate()
        await pilot.pause()
        kinds = [(type(each).__name__, getattr(each, "index", None)) for each in app.taken()]
        assert kinds == [("Highlighted", 2), ("Activated", 2)]
        await pilot.click(VirtualList, offset=(3, 4), times=2)
        assert [type(each).__name__ for each in app.taken()] == ["Highlighted", "Activated"]


async def test_rows_that_come_and_go() -> None:
    list_ = VirtualList(COLUMNS, Rows(0), empty="No findings: [/] good.")
    app = OneWidget(list_)
    async with app.run_test(size=(40, 4)) as pilot:
        assert text_of(list_)[1] == "No findings: [/] good."
        indexes = [list_.index]
        list_.action_activate()
        list_.action_move(0, 1)
        rows = Rows(20)
        list_.set_model(rows)
        await pilot.pause()
        list_.action_end()
        indexes.append(list_.index)
        rows.count = 5
        list_.data_changed()
        await pilot.pause()
        assert [*indexes, list_.index] == [None, 19, 4]
        assert [line[:3] for line in text_of(list_)] == ["cod", "C-2", "C-3", "C-4"]
    assert [type(each).__name__ for each in app.messages] == ["Highlighted"]
