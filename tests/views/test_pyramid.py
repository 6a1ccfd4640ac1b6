"""The map against brute force: exact where it promises so, and never blind to damage."""

from __future__ import annotations

import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qcow.inspect.classes import ClusterClass
from qcowtui.views.pyramid import MAX_CLUSTERS, ClassPyramid, RefcountPyramid
from qcowtui.views.pyramid.classes import ALL_CLASSES, PROBLEMS

Classes = NDArray[np.uint8]
CLASS_COUNT = len(ClusterClass)


def brute_mask(classes: Classes) -> int:
    return int(np.bitwise_or.reduce(np.uint32(1) << classes.astype(np.uint32)))


def pieces(draw: st.DrawFn, total: int) -> list[tuple[int, Classes]]:
    """Writes in any order, overlapping, some uniform and some not."""
    made: list[tuple[int, Classes]] = []
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, total - 1))
        length = draw(st.integers(0, min(total - start, 20_000)))
        kind = draw(st.sampled_from(["alike", "noise", "runs"]))
        rng = np.random.default_rng(draw(st.integers(0, 1000)))
        if kind == "alike":
            values = np.full(length, draw(st.integers(0, CLASS_COUNT - 1)), np.uint8)
        elif kind == "noise":
            values = rng.integers(0, CLASS_COUNT, length).astype(np.uint8)
        else:
            values = np.full(length, ClusterClass.DATA, np.uint8)
            values[rng.random(length) < 0.001] = ClusterClass.LEAKED
        made.append((start, values))
    return made


@st.composite
def maps(draw: st.DrawFn) -> tuple[Classes, ClassPyramid]:
    total = draw(st.sampled_from([1, 31, 4096, 4097, 12_288, 70_000, 3 * 4096 + 511]))
    plain = np.zeros(total, np.uint8)
    pyramid = ClassPyramid(total)
    for start, values in pieces(draw, total):
        plain[start : start + len(values)] = values
        pyramid.update(start, values)
    return plain, pyramid


@settings(max_examples=40, deadline=None)
@given(maps(), st.data())
def test_power_of_two_cells_are_exact(
    made: tuple[Classes, ClassPyramid], data: st.DataObject
) -> None:
    plain, pyramid = made
    per_cell = 1 << data.draw(st.integers(0, 17))
    first = per_cell * data.draw(st.integers(0, max(0, (len(plain) - 1) // per_cell)))
    cells = data.draw(st.integers(1, 300))
    sample = pyramid.sample(first, per_cell, cells)
    expected = min(cells, -(-(len(plain) - first) // per_cell))
    assert len(sample.mask) == len(sample.hue) == len(sample.fill) == expected
    for index in range(expected):
        part = plain[first + index * per_cell : first + (index + 1) * per_cell]
        assert sample.mask[index] == brute_mask(part)
        used = np.count_nonzero(part >= ClusterClass.ZERO_ALLOCATED)
        assert sample.fill[index] == pytest.approx(used / len(part), abs=1e-6)
        unread = np.count_nonzero(part == ClusterClass.UNREAD)
        assert sample.unread[index] == pytest.approx(unread / len(part), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(maps(), st.data())
def test_problems_never_vanish_at_any_scale(
    made: tuple[Classes, ClassPyramid], data: st.DataObject
) -> None:
    plain, pyramid = made
    per_cell = data.draw(st.integers(1, len(plain) + 5))
    first = data.draw(st.integers(0, len(plain) - 1))
    sample = pyramid.sample(first, per_cell, 1_000)
    for index in range(len(sample.mask)):
        part = plain[first + index * per_cell : first + (index + 1) * per_cell]
        present = brute_mask(part)
        assert present & ~int(sample.mask[index]) == 0
        if present & PROBLEMS:
            assert ClusterClass(sample.hue[index]).is_problem


@settings(max_examples=40, deadline=None)
@given(maps())
def test_counts_and_values_are_exact(made: tuple[Classes, ClassPyramid]) -> None:
    plain, pyramid = made
    assert pyramid.counts.tolist() == np.bincount(plain, minlength=CLASS_COUNT).tolist()
    assert (pyramid.classes(0, len(plain)) == plain).all()


@settings(max_examples=40, deadline=None)
@given(maps(), st.data())
def test_search_finds_what_a_scan_finds(
    made: tuple[Classes, ClassPyramid], data: st.DataObject
) -> None:
    plain, pyramid = made
    start = data.draw(st.integers(0, len(plain) - 1))
    mask = data.draw(st.sampled_from([PROBLEMS, 1 << ClusterClass.LEAKED, ALL_CLASSES & ~PROBLEMS]))
    hits = np.flatnonzero((np.uint32(1) << plain.astype(np.uint32)) & np.uint32(mask))
    behind, before = hits[hits >= start], hits[hits <= start]
    assert pyramid.find(start, mask) == (int(behind[0]) if len(behind) else None)
    assert pyramid.find(start, mask, forward=False) == (int(before[-1]) if len(before) else None)


def test_hue_is_the_frequent_class_with_tables_weighing_more() -> None:
    pyramid = ClassPyramid(96)
    cells = np.full((6, 16), ClusterClass.DATA, np.uint8)
    cells[0, 3] = ClusterClass.L2  # one table among 15 data clusters shows
    cells[1, :9] = ClusterClass.COMPRESSED
    cells[2, :5] = ClusterClass.SHARED
    cells[3] = ClusterClass.FREE
    cells[3, 0] = ClusterClass.UNREAD  # not known to be free
    cells[4] = ClusterClass.BEYOND_END
    cells[5, 7] = ClusterClass.LEAKED
    pyramid.update(0, cells.ravel())
    assert [ClusterClass(hue).name for hue in pyramid.sample(0, 16, 6).hue] == [
        "L2", "COMPRESSED", "DATA", "UNREAD", "BEYOND_END", "LEAKED",
    ]  # fmt: skip
    assert ClusterClass(pyramid.sample(0, 32, 1).hue[0]) is ClusterClass.DATA


def test_one_corrupt_cluster_among_a_quarter_billion_shows_and_is_found() -> None:
    total = 1 << 28
    pyramid = ClassPyramid(total)
    pyramid.update_runs(0, np.array([total]), np.array([ClusterClass.DATA]))
    place = 123_456_789
    pyramid.update(place, np.array([ClusterClass.CORRUPT], np.uint8))
    for power in range(29):
        cell = place >> power
        sample = pyramid.sample(cell << power, 1 << power, 1)
        assert ClusterClass(sample.hue[0]) is ClusterClass.CORRUPT
    for per_cell in (3, 1000, 77_777, total // 190, total):
        cells = pyramid.sample(0, per_cell, place // per_cell + 1) if per_cell > 1000 else None
        if cells is not None:
            assert ClusterClass(cells.hue[place // per_cell]) is ClusterClass.CORRUPT
    assert pyramid.find(0, PROBLEMS) == place == pyramid.find(total - 1, PROBLEMS, forward=False)
    assert pyramid.find(place + 1, PROBLEMS) is None
    assert pyramid.find(place, ALL_CLASSES & ~PROBLEMS) == place + 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(0, CLASS_COUNT - 1)), max_size=40))
def test_runs_equal_single_updates(runs: list[tuple[int, int]]) -> None:
    lengths = np.array([length for length, _ in runs], np.int64)
    classes = np.array([number for _, number in runs], np.uint8)
    plain = np.repeat(classes, lengths)
    pyramid = ClassPyramid(len(plain) + 5)
    pyramid.update_runs(5, lengths, classes)
    assert (pyramid.classes(5, len(plain) + 5) == plain).all()
    assert pyramid.counts[0] == 5 + np.count_nonzero(plain == 0)


def test_a_thin_disk_of_the_largest_size_costs_little() -> None:
    pyramid = ClassPyramid(MAX_CLUSTERS)
    middle = MAX_CLUSTERS // 2 + 12_345
    lengths = np.array([middle, 100, MAX_CLUSTERS - middle - 100])
    pyramid.update_runs(
        0, lengths, np.array([ClusterClass.FREE, ClusterClass.DATA, ClusterClass.FREE])
    )
    assert pyramid.counts[ClusterClass.DATA] == 100
    assert pyramid.counts[ClusterClass.FREE] == MAX_CLUSTERS - 100
    assert pyramid.find(0, 1 << ClusterClass.DATA) == middle
    per_cell = MAX_CLUSTERS // 16384
    sample = pyramid.sample(0, per_cell, 20_000)
    assert np.flatnonzero(sample.mask & np.uint32(1 << ClusterClass.DATA)).tolist() == [
        middle // per_cell
    ]


def test_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="beyond"):
        ClassPyramid(MAX_CLUSTERS + 1)
    pyramid = ClassPyramid(10)
    with pytest.raises(ValueError, match="within"):
        pyramid.update(5, np.zeros(6, np.uint8))
    with pytest.raises(ValueError, match="class"):
        pyramid.update(0, np.array([CLASS_COUNT], np.uint8))


def test_an_empty_map_has_no_cells() -> None:
    sample = ClassPyramid(0).sample(0, 1, 10)
    assert len(sample.mask) == len(sample.hue) == 0


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_refcounts_against_brute_force(data: st.DataObject) -> None:
    total = data.draw(st.sampled_from([1, 4096, 9000, 40_000]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    known = data.draw(st.integers(0, total))
    largest = data.draw(st.sampled_from([1, 3, 300, 70_000]))
    counts = rng.integers(0, largest + 1, known).astype(np.uint64)
    wrong = rng.random(known) < data.draw(st.sampled_from([0.0, 0.001, 0.5]))
    pyramid = RefcountPyramid(total)
    half = known // 2
    pyramid.update(0, counts[:half], wrong[:half])
    pyramid.update(half, counts[half:])
    pyramid.update_mismatch(half, wrong[half:])
    shown = np.full(total, -1)
    shown[:known] = np.minimum(counts, 32_765)
    marks = np.zeros(total, bool)
    marks[:known] = wrong
    per_cell = 1 << data.draw(st.integers(0, 16))
    sample = pyramid.sample(0, per_cell, 1_000)
    for index in range(len(sample.refcount)):
        part = slice(index * per_cell, (index + 1) * per_cell)
        assert sample.refcount[index] == shown[part].max()
        assert sample.mismatch[index] == marks[part].any()
        unread = np.count_nonzero(shown[part] < 0) / len(shown[part])
        assert sample.unread[index] == pytest.approx(unread, abs=1e-6)
    assert pyramid.unread_clusters == total - known
    assert pyramid.mismatched_clusters == np.count_nonzero(wrong)
    assert pyramid.histogram[0] == np.count_nonzero((counts == 0) & ~wrong)
    place = data.draw(st.integers(0, total - 1))
    hits = np.flatnonzero(marks[place:])
    assert pyramid.find_mismatch(place) == (place + int(hits[0]) if len(hits) else None)
    clear = np.flatnonzero(~marks[: place + 1])
    expected = int(clear[-1]) if len(clear) else None
    assert pyramid.find_match(place, forward=False) == expected
    expected_pair = (int(shown[place]), bool(marks[place])) if shown[place] >= 0 else None
    assert pyramid.refcount_of(place) == expected_pair


def test_memory_follows_the_worst_case_promise() -> None:
    """450 MiB for 256 Mi clusters of noise is 1.75 bytes each."""
    total = 1 << 22
    noise = np.random.default_rng(9).integers(0, CLASS_COUNT, total).astype(np.uint8)
    tracemalloc.start()
    try:
        pyramid = ClassPyramid(total)
        pyramid.update(0, noise)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pyramid.counts[0] == np.count_nonzero(noise == 0)
    assert held <= 1.75 * total


def test_a_uniform_map_costs_next_to_nothing() -> None:
    total = 1 << 30
    tracemalloc.start()
    try:
        pyramid = ClassPyramid(total)
        pyramid.update_runs(0, np.array([total]), np.array([ClusterClass.DATA]))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pyramid.counts[ClusterClass.DATA] == total
    assert held < 1 << 20


def test_rewriting_does_not_grow_without_bound() -> None:
    pyramid = ClassPyramid(1 << 16)
    rng = np.random.default_rng(5)
    tracemalloc.start()
    pyramid.update(0, rng.integers(0, CLASS_COUNT, 1 << 16).astype(np.uint8))
    once, _ = tracemalloc.get_traced_memory()
    for _ in range(50):
        pyramid.update(0, rng.integers(0, CLASS_COUNT, 1 << 16).astype(np.uint8))
        pyramid.update(0, np.full(1 << 16, ClusterClass.DATA, np.uint8))
    plain = rng.integers(0, CLASS_COUNT, 1 << 16).astype(np.uint8)
    pyramid.update(0, plain)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * once
    assert (pyramid.classes(0, 1 << 16) == plain).all()
    assert pyramid.counts.sum() == 1 << 16


def test_reading_while_another_thread_writes() -> None:
    """The reader never fails and never sees a class that was not written."""
    total = 1 << 20
    pyramid = ClassPyramid(total)
    rng = np.random.default_rng(4)
    allowed = [ClusterClass.DATA, ClusterClass.SHARED, ClusterClass.LEAKED]
    known = sum(1 << member for member in (*allowed, ClusterClass.UNREAD))
    windows = [rng.choice(allowed, 1 << 16).astype(np.uint8) for _ in range(4)]
    windows.append(np.full(1 << 16, ClusterClass.DATA, np.uint8))
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            pyramid.update((turn * 40_009) % (total - (1 << 16)), windows[turn % len(windows)])
            turn += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until = time.monotonic() + 1.5
        reads = 0
        while time.monotonic() < until:
            per_cell = 1 << reads % 18
            sample = pyramid.sample(0, per_cell, 4000)
            assert int(np.bitwise_or.reduce(sample.mask)) & ~known == 0
            pyramid.find(0, PROBLEMS)
            reads += 1
    finally:
        stop.set()
        writer.join()
    assert reads > 20
    assert pyramid.counts.sum() == total
    assert (pyramid.counts == np.bincount(pyramid.classes(0, total), minlength=CLASS_COUNT)).all()
