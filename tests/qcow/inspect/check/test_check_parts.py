"""The parts of the check on their own, against plain Python."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow.findings import Severity, catalogue
from qcow.image.image import Image
from qcow.inspect.check.claims import Claims, Owner
from qcow.inspect.check.collect import MAX_EXAMPLES, MAX_RUNS, Collector, EntryRuns, runs_of
from qcow.inspect.check.counts import Counts, DenseCounts, SparseCounts
from qcow.inspect.check.kinds import LEAK
from qcow.inspect.check.presence import DataMap
from qcow.inspect.check.regions import TableRegion, read_words, segments
from qcow.inspect.check.result import CheckResult
from qcow.inspect.check.space import HostSpace
from qcow.inspect.check.tables import WINDOW_BYTES, L2TableSet, TableTally, table_windows
from qcow.parallel import share_out
from qcow.storage.memory import MemoryStorage
from tests.support.images import small_builder

from .sparse_storage import SparseStorage

_GEOMETRY = small_builder(cluster_bits=12).geometry


# --- counts --------------------------------------------------------------------------------

_MAKERS: dict[str, Callable[[], Counts]] = {
    "8 bits": lambda: DenseCounts(100, 1100, np.uint8),
    "32 bits": lambda: DenseCounts(100, 1100, np.uint32),
    "sparse": lambda: SparseCounts(100, 1100),
}


@pytest.mark.parametrize("make", _MAKERS.values(), ids=_MAKERS)
@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_a_counter(make: Callable[[], Counts], seed: int) -> None:
    chosen = random.Random(seed)
    counts = make()
    expected: Counter[int] = Counter()
    for _ in range(3):
        adder = counts.adder()
        for _ in range(10):
            times = chosen.randrange(1, 4)
            if chosen.random() < 0.5:
                first = chosen.randrange(1200)
                stop = first + chosen.randrange(40)
                adder.run(first, stop, times)
                clusters = list(range(first, stop))
            else:
                # Both close together and far apart: these are counted in different ways.
                spread = chosen.choice((20, 1200))
                base = chosen.randrange(1200 - spread + 1)
                clusters = [base + chosen.randrange(spread) for _ in range(30)]
                adder.many(np.array(clusters), times)
            expected.update(c for c in clusters for _ in range(times) if 100 <= c < 1100)
        adder.finish()
    assert counts.settle()
    asked = np.arange(0, 1300)
    assert counts.at(asked).tolist() == [expected[c] for c in range(1300)]


@pytest.mark.parametrize("times", [256, 300, 70_000])
def test_counts_that_do_not_fit_are_noticed(times: int) -> None:
    narrow = DenseCounts(0, 10, np.uint8)
    adder = narrow.adder()
    adder.run(2, 5, times)
    adder.finish()
    assert not narrow.settle()
    wide = DenseCounts(0, 10, np.uint32)
    adder = wide.adder()
    adder.run(2, 5, times)
    adder.many(np.array([3]), times)
    adder.finish()
    assert wide.settle()
    assert wide.at(np.array([1, 2, 3])).tolist() == [0, times, 2 * times]


def test_a_lost_update_is_noticed() -> None:
    counts = DenseCounts(0, 10, np.uint8)
    adder = counts.adder()
    adder.many(np.array([3, 3]), 1)
    adder.finish()
    counts.values[3] = 1  # as if another thread had written what it read before
    assert not counts.settle()


@pytest.mark.parametrize("make", _MAKERS.values(), ids=_MAKERS)
def test_codes_take_the_place_of_counts(make: Callable[[], Counts]) -> None:
    counts = make()
    adder = counts.adder()
    adder.run(200, 210, 1)
    adder.packed(np.array([205, 206]))
    adder.finish()
    counts.settle()
    where = counts.positions(200, 210)
    packed = counts.packed_at(where)
    assert packed is not None
    assert packed.tolist() == [False] * 5 + [True, True] + [False] * 3
    counts.recode()
    counts.codes[where] = 0x47
    counts.mark(np.array([203, 99]), 0x20, 0xE0)
    assert counts.codes_at(np.array([202, 203, 5000])).tolist() == [0x47, 0x27, 0]
    assert counts.select(100, 1100, lambda codes: codes == 0x27).tolist() == [203]


# --- tables that lie over each other -------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), min_size=1, max_size=12))
def test_segments_say_how_often_each_word_is_claimed(places: list[tuple[int, int]]) -> None:
    data = np.arange(1, 61, dtype=">u8").tobytes()
    regions = [TableRegion(8 * start, length, n) for n, (start, length) in enumerate(places)]
    claimed: Counter[int] = Counter()
    lowest: dict[int, int] = {}
    for owner, (start, length) in enumerate(places):
        for word in range(start, min(60, start + length)):
            claimed[word] += 1
            lowest.setdefault(word, owner)
    storage = MemoryStorage(data)
    space = HostSpace.of(storage, _GEOMETRY)
    found = segments(regions, len(data))
    seen: dict[int, tuple[int, int, int]] = {}
    for words in read_words(storage, found, DataMap(storage, space), _never):
        columns = words.values, words.times, words.owner, words.number
        for value, times, owner, number in zip(*(c.tolist() for c in columns), strict=True):
            assert value not in seen, "each word is read once"
            seen[value] = times, owner, number
    assert {value - 1 for value in seen} == set(claimed)
    for value, (times, owner, number) in seen.items():
        word = value - 1
        assert (times, owner) == (claimed[word], lowest[word])
        assert places[owner][0] + number == word


def _never(offset: int, length: int) -> None:
    raise AssertionError(f"{length} bytes at {offset} can be read")


def test_holes_are_not_read() -> None:
    length = 1 << 40
    storage = SparseStorage(length, {1 << 30: bytes(8) + b"\1" * 8, 1 << 39: b"\2" * 8})
    space = HostSpace.of(storage, _GEOMETRY)
    data = DataMap(storage, space)
    region = TableRegion(0, length // 8, 7)
    found = list(read_words(storage, segments([region], length), data, _never))
    numbers = [number for words in found for number in words.number.tolist()]
    assert numbers == [(1 << 27) + 1, 1 << 36]
    assert storage.bytes_read < 1 << 20


def test_data_map_tells_holes_from_data() -> None:
    storage = SparseStorage(1 << 40, {5 << 30: b"x" * 4096, 9 << 30: b"y"})
    data = DataMap(storage, HostSpace.of(storage, _GEOMETRY))
    # So many that they cannot all hold data.
    offsets = np.arange(0, 1 << 30, 4096, dtype=np.int64) + (5 << 30) - (1 << 29)
    held = data.holds(offsets, 4096)
    assert offsets[held].tolist() == [5 << 30]
    few = data.holds(np.array([0, 5 << 30]), 4096)
    assert few.all(), "so few are read without asking"


# --- small pieces --------------------------------------------------------------------------


def test_tally_adds_up_tables() -> None:
    chosen = random.Random(3)
    times: Counter[int] = Counter()
    active: Counter[int] = Counter()
    tally = TableTally()
    tally.FOLD = 50
    for _ in range(20):
        offsets = [chosen.randrange(40) * 4096 for _ in range(chosen.randrange(1, 20))]
        own = [chosen.randrange(2) for _ in offsets]
        tally.add(np.array(offsets), np.full(len(offsets), 3), np.array(own, dtype=np.int32))
        for offset, is_own in zip(offsets, own, strict=True):
            times[offset] += 3
            active[offset] += is_own
    found = tally.result()
    assert found.offset.tolist() == sorted(times)
    assert found.times.tolist() == [times[at] for at in sorted(times)]
    assert found.active.tolist() == [active[at] for at in sorted(times)]


def test_windows_hold_tables_that_are_used_alike() -> None:
    offsets = np.arange(0, 1000 * 4096, 4096)
    tables = L2TableSet(offsets, np.arange(1000) % 3 + 1, (np.arange(1000) % 2).astype(np.int32))
    windows = table_windows(tables, _GEOMETRY)
    assert [window.number for window in windows] == list(range(len(windows)))
    listed = [
        (offset, window.times, window.active)
        for window in windows
        for offset in window.offsets.tolist()
    ]
    columns = tables.offset, tables.times, tables.active
    expected = zip(*(column.tolist() for column in columns), strict=True)
    assert sorted(listed) == sorted(expected)
    assert all(len(window.offsets) * 4096 <= WINDOW_BYTES for window in windows)
    # The header taken for a table is looked at on its own.
    assert [len(w.offsets) for w in windows if 0 in w.offsets] == [1]


def test_claims_beyond_the_end_and_beyond_reason() -> None:
    collector = Collector()
    space = HostSpace(12, 100 * 4096, 100, 0)
    claims = Claims(space, collector)
    assert claims.region(Owner.HEADER, 0, 4096)
    assert claims.region(Owner.L1, 99 * 4096, 4000)
    assert claims.region(Owner.SNAPSHOT_L1, 100 * 4096, 8), "less than a cluster is missing"
    assert not claims.region(Owner.L1, 100 * 4096, 4096)
    assert collector.corruptions == 1
    assert claims.spill() == 1
    rows = [
        row
        for piece in claims.pieces()
        for row in zip(*(column.tolist() for column in piece), strict=True)
    ]
    assert sorted(rows) == [
        (0, Owner.HEADER, 1),
        (99, Owner.L1, 1),
        (100, Owner.SNAPSHOT_L1, 1),
    ]
    vast = Claims(HostSpace(9, 1 << 50, 1 << 41, 0), collector)
    assert not vast.region(Owner.BITMAP_TABLE, 0, 1 << 49)
    assert collector.check_errors == 1


def test_runs() -> None:
    first, count = runs_of(np.array([3, 4, 5, 9, 11, 12]))
    assert (first.tolist(), count.tolist()) == ([3, 9, 11], [3, 1, 2])
    entries = EntryRuns.of(np.array([0, 0, 0, 512, 512]), np.array([1, 2, 5, 6, 7]))
    assert [column.tolist() for column in entries] == [[0, 0, 512], [1, 5, 6], [2, 1, 2]]


def test_collector_is_bounded_and_keeps_the_first_examples() -> None:
    collector = Collector()
    many = np.arange(0, 2 * 3 * MAX_RUNS, 2)
    once = np.ones(len(many), dtype=np.int64)
    for _ in range(2):
        collector.add(LEAK, len(many), hosts=(many, once))
    for key in random.Random(1).sample(range(1000), 200):
        collector.add(LEAK, 0, examples=[(key, f"{key}")])
    group = collector.groups[LEAK]
    assert group.count == 2 * len(many)
    assert sum(len(first) for first, _ in group.hosts) == MAX_RUNS
    assert group.truncated
    keys = [key for key, _ in group.examples]
    assert len(keys) == MAX_EXAMPLES
    assert keys == sorted(random.Random(1).sample(range(1000), 200))[:MAX_EXAMPLES]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_jobs_are_shared_out_once_each(threads: int) -> None:
    done: list[int] = []
    lock = threading.Lock()

    def work(take: Callable[[], int | None]) -> None:
        while (job := take()) is not None:
            with lock:
                done.append(job)

    share_out(range(100), work, threads, lambda number: None)
    assert sorted(done) == list(range(100))


def test_a_failure_in_any_thread_ends_all() -> None:
    done: list[int] = []
    caller = threading.get_ident()

    def work(take: Callable[[], int | None]) -> None:
        while (job := take()) is not None:
            if threading.get_ident() != caller:
                raise ValueError("in a helper")
            done.append(job)
            time.sleep(0.001)

    with pytest.raises(ValueError, match="in a helper"):
        share_out(range(10_000), work, 2, lambda number: None)
    assert len(done) < 10_000


def test_exit_codes() -> None:
    assert CheckResult().exit_code == 0
    assert CheckResult(leaks=1).exit_code == CheckResult(extra_leaks=1).exit_code == 3
    assert CheckResult(leaks=1, corruptions=1).exit_code == 2
    assert CheckResult(leaks=1, extra_corruptions=1).exit_code == 2
    assert CheckResult(corruptions=1, check_errors=1).exit_code == 1


def test_every_kind_says_what_it_means_and_what_to_do() -> None:
    mine = [kind for kind in catalogue() if kind.code.startswith(("QCOW-REF", "QCOW-LEAK"))]
    assert len(mine) > 10
    for kind in catalogue():
        for text in (kind.meaning, kind.consequence, kind.next_step):
            assert text.endswith("."), kind.code
            assert "  " not in text
        assert kind.title[0].islower() or kind.title.startswith(("COPIED", "L1", "L2", "LUKS"))
        assert kind.severity in Severity


def test_image_in_memory_is_checked_like_a_file() -> None:
    from qcow.inspect.check import check

    built = small_builder(cluster_bits=9).build()
    result = check(Image(MemoryStorage(built.peek(0, built.length))))
    assert (result.exit_code, result.findings) == (0, ())
