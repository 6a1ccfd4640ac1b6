"""Costs of processes and what a terminal records, on programs whose cost is known."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.__main__ import wants
from benchmarks.agreement import agree
from benchmarks.app import first_paint
from benchmarks.earlier import Earlier
from benchmarks.processes import Cost, interleaved, median, run
from benchmarks.report import Line, table
from benchmarks.terminal import ROWS, Terminal

MIB = 1 << 20


def _python(script: str) -> tuple[str, str, str]:
    return (sys.executable, "-c", script)


def test_a_process_that_works_and_one_that_sleeps() -> None:
    busy = run(
        _python("import time\nend = time.process_time() + .3\nwhile time.process_time() < end: 0")
    )
    asleep = run(_python("import time; time.sleep(.3)"))
    assert busy.cpu >= 0.3
    assert asleep.wall >= 0.3
    assert asleep.cpu < busy.cpu


def test_peak_memory_and_exit_code() -> None:
    small, large = interleaved(
        [_python("pass"), _python("b'x' * (200 << 20); raise SystemExit(3)")], 2
    )
    assert small.peak < 30 * MIB  # not that of this process
    assert 200 * MIB <= large.peak < 240 * MIB
    assert (small.code, large.code) == (0, 3)


def test_each_median_is_its_own() -> None:
    costs = [Cost(1, 30, 200, 2), Cost(2, 10, 300, 2), Cost(3, 20, 100, 2)]
    assert median(costs) == Cost(2, 20, 200, 2)


def test_slow_costs_are_measured_once(tmp_path: Path) -> None:
    taken = iter((Cost(10, 9, 8, 0), Cost(20, 19, 18, 0)))
    first = Earlier(tmp_path).measured("row", lambda: next(taken), fresh=False)
    again = Earlier(tmp_path).measured("row", lambda: next(taken), fresh=False)
    assert first == again
    fresh = Earlier(tmp_path).measured("row", lambda: next(taken), fresh=True)
    assert fresh.cost.wall == 20
    assert Earlier(tmp_path).get("row") == fresh


def test_rows_are_asked_for_by_name_or_by_words() -> None:
    assert wants(None, "app")
    assert wants(["app"], "app")
    assert not wants(["app"], "snapshot-apply")
    assert wants(["snapshot"], "snapshot-apply")
    assert not wants(["snapshot"], "check-snapshots")
    assert wants(["check"], "check-snapshots")
    assert wants(["check-1t"], "check-1t")
    assert not wants(["check-1t"], "check-1t-random")
    assert wants(["resize", "1t-random"], "check-1t-random")


def test_agreement_needs_the_same_bytes(tmp_path: Path) -> None:
    """A program that answers what qemu-img answers, and one that does not."""
    honest, liar = tmp_path / "honest", tmp_path / "liar"
    honest.write_text('#!/bin/sh\nexec qemu-img "$@"\n')
    liar.write_text('#!/bin/sh\nqemu-img "$@" | sed s/0/1/\n')
    for program in (honest, liar):
        program.chmod(0o755)
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1000))
    verb = ("map", "--output=json")
    assert agree(verb, disk, str(honest))
    assert not agree(verb, disk, str(liar))


def test_the_table_says_what_is_not_met() -> None:
    cells = ("work", "1 s", "2 s", "0.5x", "0.5x", "1 MiB", ">= 7x")
    shown = table([Line(cells, False), Line(cells, True)]).splitlines()
    assert shown[2].endswith("NOT MET")
    assert shown[3].endswith("  met")


def test_a_terminal_sees_what_is_painted_and_sends_keys() -> None:
    script = (
        "import os, sys\n"
        "print(os.get_terminal_size(), flush=True)\n"
        "for line in sys.stdin:\n"
        "    print('\\n' * 5 + 'got ' + line * 30, flush=True)\n"
    )
    with Terminal(_python(script), dict(os.environ)) as terminal:
        terminal.until(lambda pieces: b"lines=50" in b"".join(p.data for p in pieces) or None)
        assert b"columns=200" in b"".join(piece.data for piece in terminal.pieces)
        assert first_paint(terminal.pieces) is None
        terminal.until_still(0.2)
        still, woken = len(terminal.pieces), terminal.main_thread_wakeups
        assert terminal.read(0.3) == 0
        assert (len(terminal.pieces), terminal.main_thread_wakeups) == (still, woken)
        terminal.send(b"key\n")
        painted = terminal.until(first_paint)
        assert painted.data.count(b"key") >= ROWS // 3
        assert 0 < terminal.main_thread_cpu <= terminal.cpu
        assert terminal.peak > MIB
