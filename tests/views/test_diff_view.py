"""Differences as a list of ranges."""

from __future__ import annotations

from pathlib import Path

from qcowtui.samples.builder import ImageBuilder
from qcowtui.views.diff_map import MAX_LISTED, DiffMap
from qcowtui.views.diff_view import RangeRow, diff_view, more_words
from qcowtui.views.session import Part, PartState
from qcowtui.views.work import compare

from ..support.images import pattern
from .opened import fill, opened

SIZE = 65536


def image(folder: Path) -> Path:
    builder = ImageBuilder(virtual_size=16 << 20)
    for number in range(20):
        builder.data(number, pattern(number, SIZE))
    builder.snapshot("[bold]before\x1b")
    for number in (3, 4, 9, 100):
        builder.data(number, pattern(900 + number, SIZE))
    return builder.write(folder / "a.qcow2")


def test_ranges_that_differ(tmp_path: Path) -> None:
    with opened(image(tmp_path)) as session:
        assert diff_view(session).verdict.endswith("Press d to pick two of them.")
        fill(session, compare("active", "snapshot:1"))
        view = diff_view(session)
        assert view.rows == (
            RangeRow(3 * SIZE, 2 * SIZE),
            RangeRow(9 * SIZE, SIZE),
            RangeRow(100 * SIZE, SIZE),
        )
        assert [view.position(SIZE * n) for n in (0, 3, 4, 5, 9, 100, 101)] == [
            None, 0, 0, None, 1, 2, None
        ]  # fmt: skip
        assert view.position(None) is None
        assert view.rows[0].words == "0x30000-0x50000"
        assert view.title == "active ↔ [bold]before\\x1b"
        assert view.verdict == "256 KiB differ in 3 ranges, 1.6 % of the disk"
        assert (view.unlisted, more_words(view)) == (0, "")


def test_two_equal_states(tmp_path: Path) -> None:
    with opened(image(tmp_path)) as session:
        fill(session, compare("snapshot:1", "snapshot:1"))
        assert diff_view(session).verdict == "no difference"


def test_while_it_runs_and_when_it_fails(tmp_path: Path) -> None:
    with opened(image(tmp_path)) as session:
        fill(session, compare("active", "snapshot:1"))
        session.states[Part.DIFF] = PartState.PARTIAL
        assert diff_view(session).verdict.endswith("so far")
        session.failures[Part.DIFF] = "It cannot be read."
        assert diff_view(session).verdict == "It cannot be read."


def test_a_list_has_an_end() -> None:
    import numpy as np

    difference = DiffMap("a", "b", 1 << 20, 512)
    count = MAX_LISTED + 5
    starts = np.arange(count, dtype=np.int64) * 1024
    difference.add(starts, np.full(count, 512, dtype=np.int64))
    assert len(difference.listed) == MAX_LISTED
    assert difference.listed[1] == (1024, 512)
    assert difference.ranges == count
