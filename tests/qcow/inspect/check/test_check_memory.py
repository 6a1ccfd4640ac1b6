"""However the references are counted, the result is the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from qcow.inspect.check import CheckResult, checker, second_look, tables
from qcow.inspect.check.plan import Turn, turns
from qcowtui.samples.builder import ImageBuilder
from qcowtui.samples.built import BuiltImage

from .agreement import assert_agrees, checked
from .damage import SHAPES, Places, built

Plan = Callable[[int, int, int], list[Turn]]


def _sparse(limit: int, entries: int, present: int) -> list[Turn]:
    return [Turn(0, limit, 0, True, True)]


def _exact(limit: int, entries: int, present: int) -> list[Turn]:
    return [Turn(0, limit, 1, False, True)]


def _pieces(size: int) -> Plan:
    def plan(limit: int, entries: int, present: int) -> list[Turn]:
        return [
            Turn(at, min(at + size, limit), 0, False, at + size >= limit)
            for at in range(0, limit, size)
        ]

    return plan


_PLANS: dict[str, Plan] = {"sparse": _sparse, "exact": _exact, "turns": _pieces(997)}


def _harm(image: BuiltImage, chosen: random.Random) -> None:
    places = Places.of(image)
    areas = [places.l1, *places.l2, places.refcount_table]
    for _ in range(4):
        start, length = chosen.choice(areas)
        used = [at for at in range(start, start + length, 8) if image.u64(at)]
        at = chosen.choice(used)
        size = image.geometry.cluster_size
        image.set_u64(
            at,
            chosen.choice(
                (
                    image.u64(at) ^ 1 << chosen.randrange(64),
                    1 << 63 | chosen.randrange(image.nb_clusters + 2) * size,
                )
            ),
        )
    if chosen.random() < 0.5:
        # A block that counts clusters far behind the end of the file.
        table, _ = places.refcount_table
        image.set_u64(table + 8 * (image.geometry.cluster_size // 8 - 1), image.u64(table))
    for _ in range(3):
        start, _ = chosen.choice(places.refcount_blocks)
        image.patch(start + chosen.randrange(2 * image.nb_clusters), b"\2")


def _comparable(result: CheckResult) -> object:
    findings = sorted(result.findings, key=lambda finding: (finding.code, finding.what))
    return [getattr(result, name) for name in result.__slots__ if name != "findings"], findings


@pytest.mark.parametrize("plan", _PLANS.values(), ids=_PLANS)
@pytest.mark.parametrize("shape", SHAPES)
def test_same_result_in_every_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, plan: Plan
) -> None:
    for seed in range(4):
        image = built(shape)
        _harm(image, random.Random(f"{shape} {seed}"))
        path = image.save(tmp_path / f"{seed}.qcow2")
        expected = _comparable(checked(path))
        with monkeypatch.context() as patched:
            patched.setattr(checker, "turns", plan)
            assert _comparable(checked(path)) == expected


@pytest.mark.oracle
def test_one_table_hundreds_of_times(tmp_path: Path) -> None:
    """References that do not fit in 8 bits are counted again with more."""
    builder = ImageBuilder(virtual_size=700 * 64 * 512, cluster_bits=9, refcount_order=6)
    builder.data(0, b"x")
    builder.data(3, b"x")
    image = builder.build()
    entry = image.u64(image.l1_offset(0))
    image.patch(image.l1_offset(0), entry.to_bytes(8, "big") * 700)
    path = image.save(tmp_path / "many.qcow2")
    result = assert_agrees(path)
    assert result.allocated_clusters == 1400
    finding = result.findings[0]
    assert "reference=700" in " ".join(finding.examples)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Many windows, most of them in random order, some pointing at one cluster."""
    chosen = random.Random(9)
    builder = ImageBuilder(virtual_size=15_000 << 9, cluster_bits=9)
    hosts = list(range(20_000, 35_000))
    chosen.shuffle(hosts)
    for guest in range(15_000):
        builder.data(guest, b"", at=hosts[guest])
    image = builder.build()
    for guest in chosen.sample(range(15_000), 50):
        at = image.l2_offset(guest)
        assert at is not None
        image.set_u64(at, 1 << 63 | hosts[7] << 9)
    path = image.save(tmp_path / "image.qcow2")
    expected = _comparable(checked(path))
    monkeypatch.setattr(tables, "WINDOW_BYTES", 8192)
    for module in (checker, second_look):
        monkeypatch.setattr(module, "threads_for", lambda jobs: threads)
    for _ in range(3):
        assert _comparable(checked(path)) == expected


def test_plan_follows_what_is_present() -> None:
    mib = 1 << 20
    assert turns(16 * mib, 1 << 24, 160 * mib) == [Turn(0, 16 * mib, 0, False, True)]
    # 16 TiB at 64 KiB of a 64 TiB disk: two turns of about 128 MiB.
    large = turns(260 * mib, 1 << 28, 2560 * mib)
    assert [turn.sparse for turn in large] == [False, False]
    assert sum(turn.high - turn.low for turn in large) == 260 * mib
    assert [turn.last for turn in large] == [False, True]
    # 4 PiB that hold next to nothing.
    assert turns(1 << 36, 8192, mib) == [Turn(0, 1 << 36, 0, True, True)]


def test_repeated_turn_takes_no_more_memory() -> None:
    turn = Turn(0, 120 << 20, 0, False, True)
    again = turn.again(1 << 40)
    assert all((part.high - part.low) * 4 <= 144 << 20 for part in again)
    assert (again[0].low, again[-1].high, again[-1].last) == (0, 120 << 20, True)
    assert {part.level for part in again} == {1}
    assert all(part.alone for part in again)
