"""The legend: counts, columns that fit, and the filter by key and mouse."""

from __future__ import annotations

import numpy as np

from qcow.inspect.classes import ClusterClass
from qcowtui.tui.widgets.ink_styles import Depth
from qcowtui.tui.widgets.legend import Legend
from qcowtui.views.legend import ClassLegend, HeatLegend
from qcowtui.views.painters import HeatPainter
from qcowtui.views.pyramid import RefcountPyramid

from .apps import OneWidget, painter_of
from .cells import style_at, text_of


async def test_entries_fill_the_columns_that_fit() -> None:
    painter = painter_of("H" + "#" * 300 + "." * 20 + "!" + "2" * 3)
    legend = Legend(ClassLegend(painter), 65536, depth=Depth.NONE)
    async with OneWidget(legend).run_test(size=(60, 10)) as pilot:
        await pilot.pause()
        assert text_of(legend) == [
            " ! corrupt  64 KiB   # data     18.8 MiB   H header  64 KiB",
            " . free    1.3 MiB   2 L2 table  192 KiB",
        ]
        await pilot.resize_terminal(26, 10)
        await pilot.pause()
        assert len(text_of(legend)) == 5


async def test_counts_follow_the_map() -> None:
    painter = painter_of("#" * 10)
    legend = Legend(ClassLegend(painter), depth=Depth.NONE)
    async with OneWidget(legend).run_test(size=(60, 10)) as pilot:
        painter.pyramid.update(0, np.full(4, ClusterClass.LEAKED, np.uint8))
        legend.data_changed()
        await pilot.pause()
        assert [line.split() for line in text_of(legend)] == [
            ["L", "leaked", "4", "#", "data", "6"]
        ]


async def test_keys_and_mouse_filter() -> None:
    painter = painter_of("#" * 10 + "s" * 5 + "2")
    legend = Legend(ClassLegend(painter), depth=Depth.TRUE)
    app = OneWidget(legend)
    async with app.run_test(size=(20, 10)) as pilot:
        legend.action_move(0, 1)
        legend.action_toggle_entry()
        await pilot.pause()
        assert painter.shown == {ClusterClass.SHARED}
        (message,) = app.taken()
        assert isinstance(message, Legend.FilterChanged)
        assert message.key == ClusterClass.SHARED
        assert style_at(legend, 5, 0) != style_at(legend, 5, 1)
        await pilot.click(Legend, offset=(4, 2))
        assert painter.shown == {ClusterClass.SHARED, ClusterClass.L2}
        await pilot.click(Legend, offset=(4, 1))
        await pilot.click(Legend, offset=(4, 2))
        assert painter.shown == set(ClusterClass)
        await pilot.click(Legend, offset=(4, 9))
        assert painter.shown == set(ClusterClass)


async def test_swatches_have_the_colours_of_the_map() -> None:
    legend = Legend(ClassLegend(painter_of("#!?")), depth=Depth.TRUE)
    async with OneWidget(legend).run_test(size=(20, 10)):
        assert [line[:2] for line in text_of(legend)] == ["! ", "╱╱", "  "]
        assert style_at(legend, 0, 0) == "#000000 on #ed4b0e bold"
        assert style_at(legend, 0, 2) == "on #0072b2"


async def test_sixteen_colours_are_the_terminals_own() -> None:
    legend = Legend(ClassLegend(painter_of("#")), depth=Depth.STANDARD)
    async with OneWidget(legend).run_test(size=(20, 10)):
        assert style_at(legend, 0, 0) == "on color(4)"


async def test_a_heat_map_has_no_filter() -> None:
    pyramid = RefcountPyramid(3)
    pyramid.update(0, np.array([1, 1, 2], np.uint16))
    legend = Legend(HeatLegend(HeatPainter(pyramid)), depth=Depth.NONE)
    app = OneWidget(legend)
    async with app.run_test(size=(20, 10)) as pilot:
        assert [line.split() for line in text_of(legend)] == [["1", "1", "2", "2", "2", "1"]]
        legend.action_toggle_entry()
        await pilot.pause()
        assert app.taken() == []
