"""The map widget: what it paints in every kind of terminal, and what keys and mouse do."""

from __future__ import annotations

import numpy as np
import pytest
from textual import events
from textual.widgets import Static

from qcow.inspect.classes import ClusterClass
from qcowtui.tui.theme import map_variables, theme_from
from qcowtui.tui.widgets.cluster_map import ClusterMap
from qcowtui.tui.widgets.ink_styles import Depth
from qcowtui.views.painters import ClassPainter, HeatPainter
from qcowtui.views.palette import class_ink, default_theme
from qcowtui.views.pyramid import ClassPyramid, RefcountPyramid

from .apps import OneWidget, painter_of
from .cells import lines_of, style_at, styles_of, text_of

#: 20 columns wide (one is the scroll bar), so 19 cells a row, 38 a line.
ROWS = (
    "HRr1222############",
    "##################c",
    "cccccccc....ssss...",
    ".......0000........",
    "###L#####!#########",
    "~~~~~~~~~~~~~~~~~~~",
    "???????????????????",
    "???????????????????",
)
DRAWING = "".join(ROWS)


def hex_of(member: ClusterClass, fade: int = 3) -> str:
    red, green, blue = class_ink(default_theme(True), member, fade).rgb
    return f"#{red:02x}{green:02x}{blue:02x}"


async def test_half_blocks_in_true_colour() -> None:
    map_ = ClusterMap(painter_of(DRAWING), depth=Depth.TRUE)
    async with OneWidget(map_).run_test(size=(20, 4)) as pilot:
        map_.action_end()
        await pilot.pause()
        assert map_.scale_text == "1 cell = 64 KiB = 1 cluster"
        text = text_of(map_)
        assert text[0] == "▀" * 7 + " " * 11 + "▀"
        rows, names = styles_of(lines_of(map_))
        data = hex_of(ClusterClass.DATA)
        first = set(rows[0][:7])
        assert len(first) == 5  # header, refcount table, refcount block, L1, L2 over data
        assert all(names[letter].endswith(f"on {data}") for letter in first)
        assert names[rows[0][10]] == f"on {data}"  # data over data is one colour
        assert text[0][10] == " "
        assert (
            names[rows[1][0]] == f"{hex_of(ClusterClass.COMPRESSED)} on {hex_of(ClusterClass.FREE)}"
        )


async def test_damage_is_marked_in_colour() -> None:
    map_ = ClusterMap(painter_of(DRAWING), depth=Depth.TRUE)
    async with OneWidget(map_).run_test(size=(20, 4)):
        text = text_of(map_)
        assert (text[2][3], text[2][9]) == ("L", "!")
        assert style_at(map_, 3, 2) == f"#000000 on {hex_of(ClusterClass.LEAKED)} bold"
        assert style_at(map_, 9, 2) == f"#000000 on {hex_of(ClusterClass.CORRUPT)} bold"


async def test_what_is_not_read_is_hatched_and_free_is_not() -> None:
    map_ = ClusterMap(painter_of(DRAWING), depth=Depth.TRUE)
    async with OneWidget(map_).run_test(size=(20, 4)):
        assert text_of(map_)[3] == "╱" * 19
        free = style_at(map_, 9, 1)
        assert "╱" not in text_of(map_)[1]
        assert style_at(map_, 0, 3) != free


@pytest.mark.parametrize("depth", [Depth.EIGHT_BIT, Depth.STANDARD])
async def test_fewer_colours_keep_the_shapes(depth: Depth) -> None:
    map_ = ClusterMap(painter_of(DRAWING), depth=depth)
    async with OneWidget(map_).run_test(size=(20, 4)):
        text = text_of(map_)
        assert (text[2][3], text[2][9], text[3]) == ("L", "!", "╱" * 19)
        _, names = styles_of(lines_of(map_))
        used = " ".join(names.values())
        assert "#" not in used
        ink = class_ink(default_theme(True), ClusterClass.DATA)
        name = {Depth.EIGHT_BIT: f"color({ink.ansi256})", Depth.STANDARD: f"color({ink.ansi16})"}[
            depth
        ]
        assert name in used


async def test_glyphs_without_colour() -> None:
    """One character a cell, all of them the class's own, no colour in any style."""
    map_ = ClusterMap(painter_of(DRAWING), depth=Depth.NONE)
    async with OneWidget(map_).run_test(size=(20, 8)) as pilot:
        assert text_of(map_) == list(ROWS)
        map_.select(40)
        await pilot.pause()
        rows, names = styles_of(lines_of(map_))
        assert rows == [
            "a" * 19,
            "a" * 19,
            "aab" + "a" * 16,
            "a" * 19,
            "aaaca" + "aaaac" + "a" * 9,
            "a" * 19,
            "a" * 19,
            "a" * 19,
        ]
        assert names == {"a": "", "b": "bold reverse", "c": "bold"}


async def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    map_ = ClusterMap(painter_of(DRAWING))
    async with OneWidget(map_).run_test(size=(20, 8)):
        assert text_of(map_) == list(ROWS)
        for strip in lines_of(map_):
            for _, style, _ in strip:
                assert style is None or (style.color is None and style.bgcolor is None)


async def test_ascii_glyphs_with_colour() -> None:
    map_ = ClusterMap(painter_of(DRAWING), depth=Depth.TRUE, glyphs=True)
    async with OneWidget(map_).run_test(size=(20, 8)):
        assert text_of(map_) == list(ROWS)
        assert all(line.isascii() for line in text_of(map_))
        assert style_at(map_, 9, 4) == f"#000000 on {hex_of(ClusterClass.CORRUPT)} bold"
        assert style_at(map_, 8, 4).startswith(hex_of(ClusterClass.DATA))


async def test_labels_are_offsets() -> None:
    map_ = ClusterMap(painter_of("#" * 800), 65536, depth=Depth.NONE)
    async with OneWidget(map_).run_test(size=(52, 24)):
        # 52 columns, less the scroll bar and the labels: 40 cells of one character a row.
        lines = text_of(map_)
        assert map_.scale_text == "1 cell = 64 KiB = 1 cluster"
        assert lines[0] == "         0 " + "#" * 40
        assert lines[1] == "    2.5 Mi " + "#" * 40
        assert lines[19] == "   47.5 Mi " + "#" * 40
        assert lines[20] == ""


async def test_hilbert_squares() -> None:
    """The corners of the first square are where a Hilbert curve has them."""
    drawing = "H" + "#" * 14 + "X" + "." * 16
    map_ = ClusterMap(painter_of(drawing), depth=Depth.NONE)
    async with OneWidget(map_).run_test(size=(10, 4)) as pilot:
        map_.action_toggle_curve()
        await pilot.pause()
        assert text_of(map_) == ["H##X....", "####....", "####....", "####...."]
        assert map_.cluster_at(3, 0) == 15
        assert map_.cluster_at(4, 0) is not None
        assert map_.cluster_at(8, 0) is None


async def test_cursor_moves_repaint_two_lines_and_tell() -> None:
    map_ = ClusterMap(painter_of(DRAWING), depth=Depth.NONE)
    app = OneWidget(map_)
    async with app.run_test(size=(20, 8)) as pilot:
        await pilot.pause()
        app.taken()
        before = lines_of(map_)
        map_.action_move(1, 1)
        after = lines_of(map_)
        await pilot.pause()
        changed = [index for index, strip in enumerate(after) if strip is not before[index]]
        assert changed == [0, 1]
        assert [strip is again for strip, again in zip(after, lines_of(map_), strict=True)] == [
            True, False, True, True, True, True, True, True,
        ]  # fmt: skip
        (message,) = app.taken()
        assert isinstance(message, ClusterMap.Selected)
        assert message.cluster == 20 == map_.cursor
        map_.select(3)
        await pilot.pause()
        assert app.taken() == []
        map_.action_activate()
        await pilot.pause()
        (message,) = app.taken()
        assert isinstance(message, ClusterMap.Activated)
        assert message.cluster == 3


@pytest.mark.parametrize("glyphs", [False, True])
@pytest.mark.parametrize("depth", list(Depth))
async def test_the_cursor_is_visible_everywhere(depth: Depth, glyphs: bool) -> None:
    map_ = ClusterMap(painter_of(DRAWING), depth=depth, glyphs=glyphs or depth is Depth.NONE)
    async with OneWidget(map_).run_test(size=(20, 8)) as pilot:
        map_.action_zoom_one_to_one()
        await pilot.pause()
        map_.select(len(DRAWING) - 1)
        plain = [strip.crop(0, 19) for strip in lines_of(map_)]
        for cluster in range(0, len(DRAWING) - 1, 3):
            map_.select(cluster)
            await pilot.pause(0)
            shown = [strip.crop(0, 19) for strip in lines_of(map_)]
            x, dot, _, _ = map_.viewport.cell_box(cluster)
            line = dot // map_.viewport.dots_per_line
            was, now = plain[line].crop(x, x + 1), shown[line].crop(x, x + 1)
            assert list(was) != list(now), f"cursor on {cluster}"


async def test_large_cells_have_a_frame() -> None:
    map_ = ClusterMap(painter_of("#c"), depth=Depth.TRUE)
    async with OneWidget(map_).run_test(size=(30, 8)) as pilot:
        await pilot.pause()
        assert map_.viewport.zoom == -6
        assert text_of(map_)[:4] == ["┌──────┐", "│      │", "│      │", "└──────┘"]
        assert style_at(map_, 9, 1) == f"on {hex_of(ClusterClass.COMPRESSED)}"
        assert map_.cluster_at(9, 3) == 1
        assert map_.cluster_at(9, 4) is None
        map_.action_zoom_out()
        map_.action_zoom_out()
        map_.action_zoom_out()
        await pilot.pause()
        assert text_of(map_)[0] == "┌┐"
        map_.action_zoom_out()
        assert text_of(map_)[0] == "[]"
        map_.action_zoom_out()
        assert text_of(map_)[0] == "◆"


async def test_zoom_tells_and_keeps_the_cursor() -> None:
    map_ = ClusterMap(painter_of("#" * 5000), depth=Depth.NONE)
    app = OneWidget(map_)
    async with app.run_test(size=(20, 8)) as pilot:
        await pilot.pause()
        assert map_.viewport.lines <= 8
        map_.select(3210)
        app.taken()
        map_.action_zoom_in()
        await pilot.pause()
        (message,) = [each for each in app.taken() if isinstance(each, ClusterMap.ScaleChanged)]
        assert message.text == map_.scale_text
        assert map_.cursor == 3210
        map_.action_zoom_one_to_one()
        await pilot.pause()
        assert map_.viewport.zoom == 0
        assert map_.max_scroll_y == map_.viewport.lines - 8
        assert map_.scroll_offset.y == map_.viewport.top
        map_.action_zoom_fit()
        await pilot.pause()
        assert map_.scroll_offset.y == 0


async def test_next_problem_wherever_it_is() -> None:
    classes = [ClusterClass.DATA] * 100_000
    for place in (70_000, 70_001, 99_999):
        classes[place] = ClusterClass.LEAKED
    map_ = ClusterMap(painter_of(classes), depth=Depth.NONE)
    app = OneWidget(map_)
    async with app.run_test(size=(20, 8)) as pilot:
        for _ in range(3):
            map_.action_next_problem()
        await pilot.pause()
        selected = [each for each in app.taken() if isinstance(each, ClusterMap.Selected)]
        assert [message.cluster for message in selected] == [70_000, 99_999, 70_000]
        map_.action_zoom_one_to_one()
        map_.action_previous_problem()
        await pilot.pause()
        assert map_.cursor == 99_999
        assert "L" in text_of(map_)[-1]


async def test_mouse_selects_scrolls_and_zooms() -> None:
    map_ = ClusterMap(painter_of("#" * 5000), depth=Depth.NONE)
    app = OneWidget(map_)
    async with app.run_test(size=(20, 8)) as pilot:
        map_.action_zoom_one_to_one()
        await pilot.pause()
        await pilot.click(ClusterMap, offset=(5, 2))
        assert map_.cursor == 2 * 19 + 5
        app.taken()
        map_.post_message(scroll(map_))
        await pilot.pause()
        assert (map_.scroll_offset.y, map_.viewport.top, map_.cursor) == (3, 3, 43)
        assert [type(message) for message in app.taken()] == [ClusterMap.Scrolled]
        assert map_.viewport.visible_ranges() == (3 * 19, 11 * 19)
        await pilot.click(ClusterMap, offset=(0, 0), times=2)
        messages = app.taken()
        assert map_.cursor == 3 * 19
        assert sum(isinstance(message, ClusterMap.Activated) for message in messages) == 1
        zoom = map_.viewport.zoom
        map_.post_message(scroll(map_, ctrl=True))
        await pilot.pause()
        assert map_.viewport.zoom == zoom + 1


def scroll(map_: ClusterMap, ctrl: bool = False) -> events.MouseScrollDown:
    return events.MouseScrollDown(map_, 3, 3, 0, 1, 0, False, False, ctrl)


async def test_tooltip_text_is_never_markup() -> None:
    seen: list[int] = []

    def tell(cluster: int) -> str:
        seen.append(cluster)
        return "[@click=app.bell]x[/] [bold"

    map_ = ClusterMap(painter_of(DRAWING), depth=Depth.NONE, tooltip_of=tell)
    app = OneWidget(map_)
    async with app.run_test(size=(20, 8), tooltips=True) as pilot:
        await pilot.hover(ClusterMap, offset=(4, 2))
        await pilot.hover(ClusterMap, offset=(5, 2))
        assert seen == [42, 43]
        assert str(map_.tooltip) == "[@click=app.bell]x[/] [bold"


async def test_news_repaint_only_the_lines_that_differ() -> None:
    pyramid = ClassPyramid(8 * 19)
    map_ = ClusterMap(ClassPainter(pyramid), depth=Depth.NONE)
    app = OneWidget(map_)
    async with app.run_test(size=(20, 8)) as pilot:
        await pilot.pause()
        before = lines_of(map_)
        assert text_of(map_)[2] == "?" * 19
        pyramid.update(2 * 19, np.full(19, ClusterClass.DATA, np.uint8))
        map_.data_changed()
        await pilot.pause()
        after = lines_of(map_)
        assert text_of(map_)[2] == "#" * 19
        same = [old is new for old, new in zip(before[1:], after[1:], strict=True)]
        assert same == [True, False, True, True, True, True, True]
        paints = app.paints
        pyramid.update(2 * 19, np.full(19, ClusterClass.DATA, np.uint8))
        map_.data_changed()
        await pilot.pause()
        assert app.paints == paints  # news that look the same are not painted


async def test_an_image_that_grows() -> None:
    pyramid = ClassPyramid(19)
    map_ = ClusterMap(ClassPainter(pyramid), depth=Depth.NONE)
    async with OneWidget(map_).run_test(size=(20, 8)) as pilot:
        map_.set_painter(painter_of("#" * 500))
        await pilot.pause()
        assert map_.viewport.total == 500
        assert "?" not in "".join(text_of(map_))


async def test_nothing_is_painted_while_idle() -> None:
    app = OneWidget(ClusterMap(painter_of(DRAWING)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause(0.2)
        paints = app.paints
        await pilot.pause(1.0)
        assert app.paints == paints


async def test_an_empty_map_and_a_tiny_view() -> None:
    map_ = ClusterMap(ClassPainter(ClassPyramid(0)))
    app = OneWidget(map_)
    async with app.run_test(size=(20, 8)) as pilot:
        for action in (map_.action_next_problem, map_.action_end, map_.action_zoom_in):
            action()
        await pilot.click(ClusterMap, offset=(3, 3))
        assert text_of(map_) == [""] * 8
        await pilot.resize_terminal(1, 1)
        await pilot.pause()
    assert not any(isinstance(message, ClusterMap.Selected) for message in app.messages)


async def test_refcounts_use_the_same_widget() -> None:
    pyramid = RefcountPyramid(6)
    pyramid.update(0, np.array([0, 1, 2, 300, 1], np.uint16), np.arange(5) == 4)
    map_ = ClusterMap(HeatPainter(pyramid), depth=Depth.NONE)
    async with OneWidget(map_).run_test(size=(20, 1)) as pilot:
        map_.action_zoom_one_to_one()
        await pilot.pause()
        assert text_of(map_) == [".12d!?"]


async def test_themes_change_the_colours() -> None:
    map_ = ClusterMap(painter_of("#" * 64), depth=Depth.TRUE)
    app = OneWidget(map_)
    async with app.run_test(size=(20, 4)) as pilot:
        dark = style_at(map_, 5, 0)
        app.theme = "textual-light"
        await pilot.pause()
        light = default_theme(False)
        red, green, blue = class_ink(light, ClusterClass.DATA).rgb
        assert style_at(map_, 5, 0) == f"on #{red:02x}{green:02x}{blue:02x}"
        assert dark == f"on {hex_of(ClusterClass.DATA)}"


def test_theme_variables_override_single_colours() -> None:
    variables = map_variables(True)
    assert variables["map-data"].lower() == hex_of(ClusterClass.DATA)
    assert len(variables) == len(ClusterClass) + 1
    assert theme_from(True, variables) == default_theme(True)
    changed = theme_from(True, {**variables, "map-data": "#123456", "map-l2": "nonsense"})
    assert changed.colours[ClusterClass.DATA] == (0x12, 0x34, 0x56)
    assert changed.colours[ClusterClass.L2] == default_theme(True).colours[ClusterClass.L2]


async def test_focus_shows_in_the_cursor() -> None:
    map_ = ClusterMap(painter_of(DRAWING), depth=Depth.TRUE)

    class Two(OneWidget):
        def compose(self):  # type: ignore[no-untyped-def]
            yield self.widget
            yield Static("x")

    app = Two(map_)
    async with app.run_test(size=(20, 8)) as pilot:
        await pilot.pause()
        focused = style_at(map_, 0, 0)
        app.set_focus(None)
        await pilot.pause()
        assert style_at(map_, 0, 0) != focused
