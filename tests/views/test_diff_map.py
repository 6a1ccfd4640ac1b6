"""Differences on a map: exact at cluster granularity, never lost at any zoom."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qcow.inspect.classes import ClusterClass
from qcowtui.views.diff_map import DIFFERENT, NOTHING, DiffLegend, DiffMap, DiffPainter
from qcowtui.views.palette import default_theme

_CLUSTERS, _SIZE = 5000, 4096


def _ranges(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Ascending ranges without overlap from (gap, length) pairs."""
    starts, lengths, at = [], [], 0
    for gap, length in pairs:
        at += gap
        if at + length > _CLUSTERS * _SIZE:
            break
        starts.append(at)
        lengths.append(length)
        at += length + 1
    return np.array(starts, dtype=np.int64), np.array(lengths, dtype=np.int64)


@given(st.lists(st.tuples(st.integers(0, 900_000), st.integers(1, 90_000)), max_size=60))
def test_marks_what_brute_force_marks(pairs: list[tuple[int, int]]) -> None:
    start, length = _ranges(pairs)
    found = DiffMap("a", "b", _CLUSTERS, _SIZE)
    found.pyramid.update_runs(0, np.array([_CLUSTERS]), np.array([NOTHING]))
    found.add(start, length)
    wanted = np.zeros(_CLUSTERS, dtype=bool)
    for one, many in zip(start.tolist(), length.tolist(), strict=True):
        wanted[one // _SIZE : -(-(one + many) // _SIZE)] = True
    assert ((found.pyramid.classes(0, _CLUSTERS) == DIFFERENT) == wanted).all()
    assert found.differing == int(length.sum())
    assert found.ranges == len(start)


def test_one_difference_shows_at_the_widest_zoom() -> None:
    found = DiffMap("a", "b", 1 << 30, 65536)
    found.pyramid.update_runs(0, np.array([1 << 30]), np.array([NOTHING]))
    place = 777_777_777
    found.add(np.array([place * 65536]), np.array([512]))
    painter = DiffPainter(found)
    assert painter.problems(0, 1 << 24, 64).tolist().index(True) == place >> 24
    assert painter.find_problem(0) == place
    theme = default_theme(dark=True)
    code = int(painter.codes(place >> 24 << 24, 1 << 24, 1)[0])
    assert painter.inks(theme)[code].glyph == "*"
    assert painter.describe(place) == "different"


def test_far_apart_ranges_touch_only_where_they_are() -> None:
    found = DiffMap("a", "b", 1 << 32, 65536)
    ends = np.array([0, (1 << 32) - 1]) * 65536
    found.add(ends, np.array([1, 1]))
    assert found.pyramid.class_of(0) is DIFFERENT
    assert found.pyramid.class_of((1 << 32) - 1) is DIFFERENT
    assert found.pyramid.class_of(1 << 31) is ClusterClass.UNREAD


def test_the_legend_has_its_own_words() -> None:
    found = DiffMap("a", "b", 10, 65536)
    found.pyramid.update(0, np.full(10, NOTHING, dtype=np.uint8))
    found.add(np.array([0]), np.array([65536]))
    entries = DiffLegend(DiffPainter(found)).entries(default_theme(dark=False))
    assert [(one.label, one.clusters) for one in entries] == [
        ("different", 1),
        ("nothing stored", 9),
    ]
