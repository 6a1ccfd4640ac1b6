"""The overview: the whole image, where the view is, and every bit of damage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.geometry import Size

from qcow.inspect.classes import ClusterClass
from qcowtui.tui.widgets.ink_styles import Depth
from qcowtui.tui.widgets.overview_strip import OverviewStrip
from qcowtui.views.painters import ClassPainter
from qcowtui.views.pyramid import ClassPyramid

from .apps import OneWidget, painter_of
from .cells import style_at, text_of


async def test_hues_and_marks_without_colour() -> None:
    strip = OverviewStrip(painter_of("HH##ccss..!!####LL.."), depth=Depth.NONE)
    async with OneWidget(strip).run_test(size=(40, 4)) as pilot:
        strip.set_view(4, 8, 6)
        await pilot.pause()
        assert text_of(strip) == [
            "HHHH####ccccssss....!!!!########LLLL....",
            "--------====+===----^^^^--------^^^^----",
        ]


async def test_marks_in_colour() -> None:
    strip = OverviewStrip(painter_of("HH##ccss..!!####LL.."), depth=Depth.TRUE)
    async with OneWidget(strip).run_test(size=(20, 4)) as pilot:
        strip.set_view(4, 8, 6)
        await pilot.pause()
        hues, marks = text_of(strip)
        assert hues == " " * 10 + "!!" + " " * 4 + "LL"
        assert marks == "────━━┿━──▲▲────▲▲──"
        assert style_at(strip, 10, 1).startswith("#ed4b0e")
        assert style_at(strip, 2, 0) == "on #0072b2"


async def test_one_line_has_brackets() -> None:
    strip = OverviewStrip(painter_of("#" * 20), depth=Depth.NONE)
    strip.styles.height = 1
    async with OneWidget(strip).run_test(size=(20, 4)) as pilot:
        strip.set_view(4, 9, 6)
        await pilot.pause()
        assert text_of(strip) == ["####[#+#]###########"]


async def test_one_bad_cluster_in_a_huge_image_has_its_mark() -> None:
    total, place = 1 << 28, 200_000_003
    pyramid = ClassPyramid(total)
    pyramid.update_runs(0, np.array([total]), np.array([ClusterClass.DATA]))
    pyramid.update(place, np.array([ClusterClass.CORRUPT], np.uint8))
    strip = OverviewStrip(ClassPainter(pyramid), depth=Depth.NONE)
    async with OneWidget(strip).run_test(size=(97, 4)):
        marks = text_of(strip)[1]
        assert marks[strip.column_of(place)] == "^"
        assert 1 <= marks.count("^") <= 2


async def test_click_tells_the_cluster() -> None:
    strip = OverviewStrip(painter_of("#" * 1000), depth=Depth.NONE)
    app = OneWidget(strip)
    async with app.run_test(size=(20, 4)) as pilot:
        await pilot.click(OverviewStrip, offset=(10, 0))
        (message,) = app.taken()
        assert isinstance(message, OverviewStrip.Picked)
        assert message.cluster == 500


async def test_only_what_looks_different_is_painted() -> None:
    pyramid = ClassPyramid(1000)
    strip = OverviewStrip(ClassPainter(pyramid), depth=Depth.NONE)
    app = OneWidget(strip)
    async with app.run_test(size=(20, 4)) as pilot:
        strip.set_view(0, 100, 0)
        await pilot.pause()
        paints = app.paints
        strip.set_view(0, 100, 1)  # the same column
        strip.data_changed()
        await pilot.pause()
        assert app.paints == paints
        pyramid.update(500, np.full(500, ClusterClass.DATA, np.uint8))
        strip.data_changed()
        await pilot.pause()
        assert app.paints > paints
        assert text_of(strip)[0] == "?" * 10 + "#" * 10


@given(st.integers(1, 1 << 40), st.integers(1, 300), st.data())
def test_columns_and_clusters_agree(total: int, width: int, data: st.DataObject) -> None:
    strip = OverviewStrip(ClassPainter(ClassPyramid(total)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OverviewStrip, "size", Size(width, 2))
        cluster = data.draw(st.integers(0, total - 1))
        column = strip.column_of(cluster)
        assert 0 <= column < width
        assert strip.cluster_at(column) <= cluster
        if total < width:
            assert strip.cluster_at(column) == cluster
            assert column == 0 or strip.cluster_at(column - 1) < cluster
        elif column + 1 < width:
            assert cluster < strip.cluster_at(column + 1)


async def test_an_empty_image() -> None:
    strip = OverviewStrip(painter_of(""), depth=Depth.NONE)
    app = OneWidget(strip)
    async with app.run_test(size=(20, 4)) as pilot:
        await pilot.click(OverviewStrip, offset=(3, 0))
        assert text_of(strip) == ["", ""]
        assert app.messages == []
