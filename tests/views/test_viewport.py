"""A map view keeps its promises: stable zoom, cursor in view, problems found at every scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcow.inspect.classes import ClusterClass
from qcowtui.views.painters import ClassPainter
from qcowtui.views.pyramid import ClassPyramid
from qcowtui.views.viewport import MIN_ZOOM, Viewport


@st.composite
def viewports(draw: st.DrawFn) -> Viewport:
    view = Viewport(
        total=draw(st.sampled_from([1, 7, 393, 16384, 1 << 20, (1 << 28) + 3, 1 << 40])),
        dots_per_line=draw(st.sampled_from([1, 2])),
        hilbert=draw(st.booleans()),
    )
    view.resize(draw(st.integers(1, 200)), draw(st.integers(1, 60)))
    return view


def in_view(view: Viewport) -> bool:
    first, last = view.cursor_lines
    height = last - first + 1
    return view.top <= first and (last < view.top + view.height or height > view.height)


@given(viewports(), st.data())
def test_zoom_keeps_the_address_and_the_line(view: Viewport, data: st.DataObject) -> None:
    view.go_to(data.draw(st.integers(0, view.total - 1)))
    for _ in range(data.draw(st.integers(1, 12))):
        cursor, line = view.cursor, view.cursor_line - view.top
        view.zoom_by(data.draw(st.sampled_from([-1, 1])))
        assert view.cursor == cursor
        assert in_view(view)
        limit = max(0, view.lines - view.height)
        tall = view.cell_height > view.dots_per_line
        if not tall and 0 < view.top < limit:
            assert view.cursor_line - view.top == line


@given(viewports())
def test_fit_shows_everything(view: Viewport) -> None:
    view.zoom_by(-5)
    view.fit()
    assert view.lines <= view.height or view.cells == 1
    assert view.top == 0
    first, last = view.visible_ranges()
    assert (first, last) == (0, view.total)
    if view.zoom > MIN_ZOOM:  # one step closer would not fit
        per_cell = view.clusters_per_cell
        view.zoom_by(-1)
        assert view.lines > view.height
        assert per_cell / 2 <= view.clusters_per_cell <= per_cell


@given(viewports(), st.data())
def test_the_mouse_finds_the_cell_that_is_drawn(view: Viewport, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(0, 4))):
        view.zoom_by(-1)
    view.go_to(data.draw(st.integers(0, view.total - 1)))
    column, dot, width, height = view.cell_box(view.cursor_cell)
    first, end = view.cell_range(view.cursor)
    assert first <= view.cursor < end
    for right in {0, width - 1}:
        for down in {0, height - 1}:
            assert view.cluster_at(column + right, dot + down) == first


@given(viewports(), st.lists(st.sampled_from("udlrPNhe+-01ct"), max_size=25))
def test_no_sequence_of_actions_leaves_the_image(view: Viewport, actions: list[str]) -> None:
    steps = {"u": (0, -1), "d": (0, 1), "l": (-1, 0), "r": (1, 0)}
    for action in actions:
        if action in steps:
            view.move(*steps[action])
        elif action in "PN":
            view.page(1 if action == "N" else -1)
        elif action == "h":
            view.home()
        elif action == "e":
            view.end()
        elif action in "+-":
            view.zoom_by(1 if action == "-" else -1)
        elif action == "0":
            view.fit()
        elif action == "1":
            view.zoom_to(0)
        elif action == "c":
            view.toggle_curve()
        else:
            view.resize(view.width // 2 + 3, view.height + 2)
        assert 0 <= view.cursor < view.total
        assert 0 <= view.top <= max(0, view.lines - view.height)
        assert in_view(view)


def test_small_images_are_drawn_large_and_one_to_one_is_one_to_one() -> None:
    view = Viewport(393)
    view.resize(100, 40)
    assert view.zoom < 0
    assert view.clusters_per_cell == 1
    assert view.cell_width * view.cell_height == 1 << -view.zoom
    assert view.cell_height in (view.cell_width, view.cell_width * 2)
    view.zoom_to(0)
    assert (view.cell_width, view.cell_height, view.lines) == (1, 1, 2)


def test_moves() -> None:
    view = Viewport(10_000)
    view.resize(100, 10)
    view.zoom_to(0)
    view.move(1, 0)
    assert view.cursor == 1
    view.move(-2, 0)
    assert view.cursor == 0
    view.move(0, 3)
    assert view.cursor == 300
    view.move(0, -4)
    assert view.cursor == 300
    view.page(1)
    assert (view.cursor, view.top) == (2300, 10)
    view.end()
    assert (view.cursor, view.top) == (9999, 40)
    view.page(-1)
    assert (view.cursor, view.top) == (7999, 30)
    view.page(-9)
    assert view.cursor == 0


def painter(total: int, problems: dict[int, ClusterClass]) -> ClassPainter:
    pyramid = ClassPyramid(total)
    classes = np.full(total, ClusterClass.DATA, np.uint8)
    for place, member in problems.items():
        classes[place] = member
    pyramid.update(0, classes)
    return ClassPainter(pyramid)


def test_next_problem_goes_through_each_run_once_and_around() -> None:
    problems = dict.fromkeys(range(100, 140), ClusterClass.LEAKED)
    problems |= {140: ClusterClass.CORRUPT, 900: ClusterClass.LEAKED, 999: ClusterClass.CORRUPT}
    source = painter(1000, problems)
    view = Viewport(1000)
    view.resize(50, 50)
    view.zoom_to(0)
    seen = []
    for _ in range(5):
        assert view.next_problem(source)
        seen.append(view.cursor)
    assert seen == [100, 140, 900, 999, 100]
    back = []
    for _ in range(4):
        assert view.next_problem(source, forward=False)
        back.append(view.cursor)
    assert back == [999, 900, 140, 100]


def test_next_problem_without_any_or_any_other() -> None:
    view = Viewport(50)
    view.resize(10, 10)
    assert not view.next_problem(painter(50, {}))
    alone = painter(50, {7: ClusterClass.LEAKED})
    assert view.next_problem(alone)
    assert not view.next_problem(alone)
    assert not view.next_problem(alone, forward=False)
    assert view.cursor == 7


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 4999),
        st.sampled_from([ClusterClass.LEAKED, ClusterClass.CORRUPT]),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 9),
    st.booleans(),
)
def test_next_problem_visits_every_cell_with_damage(
    problems: dict[int, ClusterClass], zoom: int, forward: bool
) -> None:
    source = painter(5000, problems)
    view = Viewport(5000)
    view.resize(20, 5)
    view.zoom_to(zoom)
    cells = {place // view.clusters_per_cell for place in problems}
    visited = {view.cursor_cell} if view.cursor in problems else set()
    for _ in range(40):
        if not view.next_problem(source, forward):
            break
        assert view.cursor in problems
        visited.add(view.cursor_cell)
    runs_within_a_cell = visited | {
        cell for cell in cells if cell - 1 in cells or cell + 1 in cells
    }
    assert cells <= runs_within_a_cell
    assert visited


@pytest.mark.parametrize("hilbert", [False, True])
def test_an_empty_image(hilbert: bool) -> None:
    view = Viewport(0, hilbert=hilbert)
    view.resize(80, 24)
    view.move(1, 1)
    view.page(1)
    view.zoom_by(1)
    view.end()
    assert view.cursor == 0
    assert view.cluster_at(0, 0) is None
