"""Random single faults: the same numbers as qemu-img's, and what is wrong is always found.

Where the two may differ is written down in :func:`_judge`, each time with the reason why.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from qcow.layout.constants import OFLAG_COMPRESSED, OFLAG_COPIED
from qcowtui.samples.built import BuiltImage

from .agreement import Oracle, ask_qemu, checked, codes, numbers_of
from .damage import SHAPES, Places, built

pytestmark = pytest.mark.oracle

_FAULTS_PER_TEST = 8
_SEEDS = range(4)


@dataclass(frozen=True)
class Fault:
    """What was done to an image, for a test that fails."""

    area: str
    offset: int
    before: bytes
    after: bytes


def _word(chosen: random.Random, image: BuiltImage, old: int) -> int:
    """A damaged 64-bit table entry."""
    size = image.geometry.cluster_size
    cluster = chosen.randrange(image.nb_clusters + 2)
    return chosen.choice(
        (
            old ^ 1 << chosen.randrange(64),
            chosen.getrandbits(64),
            old & ~0xFFFFFFFFFFFE00 | cluster * size,
            0,
            old ^ OFLAG_COPIED,
            old ^ OFLAG_COMPRESSED,
            old | size >> 1,
        )
    )


def _poke(chosen: random.Random, image: BuiltImage, places: Places) -> Fault:
    """Damage one entry or one bit; ``places`` are those of the sound image."""
    tables: list[tuple[str, tuple[int, int]]] = [
        ("L1", places.l1),
        *(("L2", table) for table in places.l2),
        *(("L2", table) for table in places.l2),
        ("refcount table", places.refcount_table),
    ]
    bytewise = [("refcount block", (at, image.nb_clusters * 2)) for at, _ in places.refcount_blocks]
    if places.snapshot_table is not None:
        bytewise.append(("snapshot table", places.snapshot_table))
    if chosen.random() < 0.65:
        area, (start, length) = chosen.choice(tables)
        used = [at for at in range(start, start + length, 8) if image.u64(at)]
        at = (
            chosen.choice(used)
            if used and chosen.random() < 0.85
            else (start + 8 * chosen.randrange(length // 8))
        )
        before = image.peek(at, 8)
        after = (_word(chosen, image, image.u64(at)) & (1 << 64) - 1).to_bytes(8, "big")
    else:
        area, (start, length) = chosen.choice(bytewise)
        at = start + chosen.randrange(length)
        before = image.peek(at, 1)
        after = bytes((before[0] ^ 1 << chosen.randrange(8),))
    image.patch(at, after)
    return Fault(area, at, before, after)


def _judge(oracle: Oracle, path: Path, fault: Fault) -> None:
    result = checked(path)
    said = f"{fault}\n{codes(result)}\n{oracle.text}"
    if oracle.numbers is None:
        # QEMU does not open the image, or gives up in the middle; here the check goes on.
        assert result.exit_code != 0, said
        return
    if "QCOW-SNAPTABLE-INVALID" in codes(result):
        # The table runs past the end of the file, where QEMU reads zeros and takes them for
        # snapshots: those are not there, so nothing is counted for them.
        assert (result.exit_code, oracle.exit_code) == (1, 2), said
        return
    assert numbers_of(result) == oracle.numbers, said
    if result.check_errors:
        assert result.exit_code == oracle.exit_code == 1, said
    elif result.extra_corruptions:
        assert result.exit_code == 2, said
    elif result.extra_leaks:
        assert result.exit_code == (oracle.exit_code or 3), said
    else:
        assert result.exit_code == oracle.exit_code, said
    if result.exit_code:
        assert result.findings, said


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_single_faults(tmp_path: Path, shape: str, seed: int) -> None:
    chosen = random.Random(f"{shape} {seed}")
    for number in range(_FAULTS_PER_TEST):
        image = built(shape)
        fault = _poke(chosen, image, Places.of(image))
        path = image.save(tmp_path / f"{number}.qcow2")
        _judge(ask_qemu(path), path, fault)


@pytest.mark.parametrize("shape", ["4k", "extended", "refcount-8"])
def test_several_faults_at_once(tmp_path: Path, shape: str) -> None:
    chosen = random.Random(f"many {shape}")
    for number in range(_FAULTS_PER_TEST):
        image = built(shape)
        places = Places.of(image)
        faults = [_poke(chosen, image, places) for _ in range(5)]
        path = image.save(tmp_path / f"{number}.qcow2")
        _judge(ask_qemu(path), path, faults[-1])


@pytest.mark.parametrize("shape", ["64k", "512", "extended"])
def test_cut_files(tmp_path: Path, shape: str) -> None:
    """Files that end early, inside and between clusters."""
    chosen = random.Random(f"cut {shape}")
    whole = built(shape).save(tmp_path / "whole.qcow2").read_bytes()
    for number in range(10):
        left = chosen.randrange(len(whole) // 3, len(whole))
        if number % 2:
            left &= ~511
        path = tmp_path / f"{number}.qcow2"
        path.write_bytes(whole[:left])
        oracle = ask_qemu(path)
        result = checked(path)
        if {"QCOW-SNAPTABLE-INVALID", "QCOW-L1-INVALID"} & set(codes(result)):
            assert (result.exit_code, oracle.exit_code) == (1, 2)
        else:
            assert numbers_of(result) == oracle.numbers, oracle.text
