"""Codes and inks: what is painted for what is there."""

from __future__ import annotations

import numpy as np

from qcow.inspect.classes import ClusterClass
from qcowtui.views.legend import ClassLegend, HeatLegend
from qcowtui.views.painters import HEAT_STEPS, OUTSIDE, ClassPainter, HeatPainter, Painter
from qcowtui.views.palette import class_ink, default_theme
from qcowtui.views.pyramid import ClassPyramid, RefcountPyramid

THEME = default_theme(dark=True)


def class_painter(classes: list[ClusterClass]) -> ClassPainter:
    pyramid = ClassPyramid(len(classes))
    pyramid.update(0, np.array(classes, np.uint8))
    return ClassPainter(pyramid)


def glyphs(painter: Painter, first: int, per_cell: int, cells: int) -> str:
    inks = painter.inks(THEME)
    return "".join(inks[code].glyph for code in painter.codes(first, per_cell, cells).tolist())


def test_each_class_is_painted_as_itself() -> None:
    painter = class_painter(list(ClusterClass))
    assert glyphs(painter, 0, 1, 99) == "?.~0#csvbtTKrR21HL!X"
    inks = painter.inks(THEME)
    codes = painter.codes(0, 1, 99)
    assert OUTSIDE not in codes
    for member in ClusterClass:
        if member > ClusterClass.BEYOND_END:
            assert inks[int(codes[member])] == class_ink(THEME, member)


def test_brightness_is_fill() -> None:
    used = ClusterClass.DATA, ClusterClass.FREE
    painter = class_painter([used[0]] * 4 + [*used * 2] + [used[0], *[used[1]] * 7])
    inks = painter.inks(THEME)
    shown = [inks[code].rgb for code in painter.codes(0, 4, 3).tolist()]
    assert shown == [class_ink(THEME, ClusterClass.DATA, fade).rgb for fade in (3, 2, 1)]


def test_a_filter_dims_the_rest_but_not_damage() -> None:
    members = [ClusterClass.DATA, ClusterClass.L2, ClusterClass.FREE, ClusterClass.LEAKED]
    painter = class_painter(members)
    before = painter.generation
    painter.show_only([ClusterClass.L2])
    assert painter.generation != before
    inks = painter.inks(THEME)
    data, table, free, leaked = (inks[code] for code in painter.codes(0, 1, 4).tolist())
    assert table == class_ink(THEME, ClusterClass.L2)
    assert leaked == class_ink(THEME, ClusterClass.LEAKED)
    assert data != class_ink(THEME, ClusterClass.DATA)
    assert data.glyph == " "
    assert free.rgb == class_ink(THEME, ClusterClass.FREE).rgb
    painter.show_only(None)
    assert glyphs(painter, 0, 1, 4) == "#2.L"


def test_a_filter_shows_a_class_hidden_by_a_more_frequent_one() -> None:
    painter = class_painter([ClusterClass.DATA] * 31 + [ClusterClass.L2])
    assert glyphs(painter, 0, 32, 1) == "#"
    painter.show_only([ClusterClass.L2, ClusterClass.HEADER])
    assert glyphs(painter, 0, 32, 1) == "2"
    painter.show_only([ClusterClass.DATA])
    assert glyphs(painter, 0, 32, 1) == "#"


def test_heat_steps_and_mismatch() -> None:
    counts = [0, *HEAT_STEPS, 15, 40000]
    pyramid = RefcountPyramid(len(counts) + 2)
    mismatch = np.zeros(len(counts), bool)
    pyramid.update(0, np.array(counts, np.uint64), mismatch)
    painter = HeatPainter(pyramid)
    assert glyphs(painter, 0, 1, 99) == ".123456789abcdad??"
    pyramid.update(3, np.array([3], np.uint16), np.array([True]))
    assert glyphs(painter, 2, 1, 3) == "2!4"
    assert painter.find_problem(0) == 3
    assert painter.run_end(3) == 4
    assert painter.problems(0, 2, 3).tolist() == [False, True, False]
    assert painter.describe(3) == "refcount 3 (not the number of references found)"
    assert painter.describe(len(counts)) == "not read yet"


def test_every_code_has_an_ink() -> None:
    rng = np.random.default_rng(3)
    pyramid = ClassPyramid(50_000)
    pyramid.update(0, rng.integers(0, len(ClusterClass), 50_000).astype(np.uint8))
    painter = ClassPainter(pyramid)
    for chosen in (None, [ClusterClass.DATA]):
        painter.show_only(chosen)
        for per_cell in (1, 2, 5, 64):
            codes = painter.codes(0, per_cell, 50_000)
            assert codes.max() < len(painter.inks(THEME)) < 256
    heat = HeatPainter(RefcountPyramid(100))
    heat.pyramid.update(0, rng.integers(0, 3000, 90).astype(np.uint16), rng.random(90) < 0.1)
    assert heat.codes(0, 1, 100).max() < len(heat.inks(THEME)) < 256


def test_class_legend_counts_and_filters() -> None:
    painter = class_painter(
        [ClusterClass.FREE] * 2 + [ClusterClass.DATA] * 3 + [ClusterClass.CORRUPT]
    )
    legend = ClassLegend(painter)
    entries = legend.entries(THEME)
    assert [(entry.label, entry.clusters) for entry in entries] == [
        ("corrupt", 1),
        ("free", 2),
        ("data", 3),
    ]
    assert all(entry.shown for entry in entries)
    before = legend.generation
    legend.toggle(ClusterClass.DATA)
    assert legend.generation != before
    assert [entry.shown for entry in legend.entries(THEME)] == [True, False, True]
    assert painter.shown == {ClusterClass.DATA}
    legend.toggle(ClusterClass.FREE)
    assert painter.shown == {ClusterClass.DATA, ClusterClass.FREE}
    legend.clear()
    assert painter.shown == set(ClusterClass)


def test_heat_legend_counts() -> None:
    pyramid = RefcountPyramid(12)
    counts = np.array([0, 1, 1, 2, 12, 15, 16, 900, 70_000, 3], np.uint64)
    wrong = np.zeros(10, bool)
    wrong[9] = True
    pyramid.update(0, counts, wrong)
    entries = HeatLegend(HeatPainter(pyramid)).entries(THEME)
    assert [(entry.label, entry.clusters) for entry in entries] == [
        ("wrong count", 1),
        ("not read yet", 2),
        ("no reference", 1),
        ("1", 2),
        ("2", 1),
        ("10 to 15", 2),
        ("16 or more", 3),
    ]
    inks = HeatPainter(pyramid).inks(THEME)
    codes = HeatPainter(pyramid).codes(0, 1, 12).tolist()
    assert entries[3].ink == inks[codes[1]]
    assert entries[5].ink == inks[codes[4]]
    assert entries[6].ink == inks[codes[6]]
