"""Every action on every kind of image, crashed at every point: the old image or the new one.

A tiny reader that shares nothing with the engine judges every state; QEMU confirms a sample of
them; and of another sample, the action is run again and crashed again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from qcow.actions.history import Reclaim
from qcow.errors import EditRefused, NotFoundError, UsageError
from tests.support.qemu import qemu_img, with_key

from .acting import Acted, State
from .cases import Case, cases_of
from .oracle import View
from .variants import BELOW, VARIANTS, Variant


@dataclass(frozen=True)
class Floor:
    """States that a variant has at least: judged, confirmed by QEMU, after a second crash."""

    judged: int
    confirmed: int
    doubled: int


#: A little below what there is, so that a case that quietly makes no states is noticed.
FLOORS = {
    "v3-512": Floor(4800, 205, 325),
    "v2-512": Floor(4200, 170, 1140),
    "no-snapshot": Floor(3400, 155, 615),
    "three-snapshots": Floor(5900, 245, 490),
    "vm-state": Floor(5200, 220, 1410),
    "refcount-1": Floor(2800, 130, 240),
    "refcount-2": Floor(4400, 190, 1010),
    "refcount-64": Floor(4800, 205, 355),
    "zstd": Floor(5400, 225, 1140),
    "backing": Floor(6600, 280, 555),
    "v2-backing": Floor(6200, 245, 1315),
    "bitmaps": Floor(7000, 285, 1485),
    "4k": Floor(7100, 285, 1155),
    "extended": Floor(1110, 130, 240),
    "64k": Floor(1475, 160, 440),
    "luks": Floor(765, 95, 130),
    "external": Floor(395, 45, 80),
    "external-raw": Floor(380, 45, 160),
}
#: The size of a disk and its clusters that are not all zeros, by guest offset.
Pieces = tuple[int, dict[int, bytes]]

by_name = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)


def test_there_are_enough_states() -> None:
    assert set(FLOORS) == {variant.name for variant in VARIANTS}
    assert len(FLOORS) >= 12
    assert sum(floor.judged for floor in FLOORS.values()) >= 60_000
    assert sum(floor.confirmed for floor in FLOORS.values()) >= 3_000
    assert sum(floor.doubled for floor in FLOORS.values()) >= 5_000


@by_name
def test_a_crash_leaves_the_old_or_the_new_image(variant: Variant) -> None:
    total = 0
    for case in cases_of(variant):
        acted = case.act()
        before = total
        for state in acted.states():
            why = acted.judge(state.file, state.data)
            assert not why, (case.name, state.label, why)
            total += 1
        assert total - before > 1 or acted.final == acted.base
    assert total >= FLOORS[variant.name].judged, total


# ---- what QEMU says


#: One of so many states is shown to QEMU, and is crashed again.
SAMPLED, CRASHED_AGAIN = 30, 701


@by_name
@pytest.mark.oracle
def test_qemu_confirms_it(variant: Variant, tmp_path: Path) -> None:
    total = 0
    for case in cases_of(variant):
        acted = case.act()
        # Both ends and what lies between, whatever it is.
        sample = islice(acted.states(), 1, None, 12 if variant.large else SAMPLED)
        total += confirm(acted, [*sample, State("end", acted.final, acted.final_data)], tmp_path)
    assert total >= FLOORS[variant.name].confirmed, total


def confirm(acted: Acted, states: Sequence[State], folder: Path) -> int:
    """Compare what QEMU says of ``states`` with the independent reader; how many there were."""
    known = dict[View, list[Pieces]]()  # of encrypted images, which that reader cannot decrypt
    shares = [(folder / f"share-{number}", states[number::2]) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for problem in pool.map(lambda share: _confirm(acted, *share, known), shares):
            assert problem is None, problem
    return len(states)


def _confirm(
    acted: Acted, home: Path, states: Sequence[State], known: dict[View, list[Pieces]]
) -> str | None:
    home.mkdir(exist_ok=True)
    for name, content in BELOW.items():
        (home / name.decode()).write_bytes(content)
    path, raw = home / "image.qcow2", home / "guest.raw"
    for state in states:
        path.write_bytes(state.file)
        if state.data is not None:
            (home / "data.raw").write_bytes(state.data)
        image = acted.look(state.file, state.data)
        source = with_key(path) if image.crypt else ("-f", "qcow2", path)
        checked = qemu_img("check", "-q", *source, check=False, cwd=home)
        if checked.returncode:
            return f"{state.label}: check gives {checked.returncode}, {checked.stdout!r}"
        found = []
        for snapshot in (None, *image.snapshots):
            picked = () if snapshot is None else ("-l", f"snapshot.id={snapshot[0].decode()}")
            qemu_img("convert", "-t", "unsafe", "-O", "raw", *picked, *source, raw, cwd=home)
            found.append(pieces_of(raw, image.cluster))
        expected = [image.pieces(place) for place in (None, *range(len(image.snapshots)))]
        if image.crypt:
            expected = known.setdefault(image.view(), found)
        # QEMU shows a snapshot in the size that the disk has now.
        if found[0][0] != expected[0][0] or not all(map(_agree, found, expected)):
            return f"{state.label}: QEMU reads something else"
        if image.view() not in acted.views and not acted.in_place:
            return f"{state.label}: a view that never was"
    return None


def pieces_of(raw: Path, cluster: int) -> Pieces:
    """What ``TinyImage.pieces`` gives, of a raw file with holes."""
    found = {}
    with raw.open("rb") as file:
        size, at = file.seek(0, os.SEEK_END), 0
        while at < size:
            try:
                start = file.seek(at, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                break
            end = file.seek(start, os.SEEK_HOLE)
            at = file.seek(max(at, start // cluster * cluster))
            while at < end:
                data = file.read(cluster)
                if data != bytes(len(data)):
                    found[at] = data
                at += cluster
    return size, found


def _agree(one: Pieces, other: Pieces) -> bool:
    length = min(one[0], other[0])
    return _up_to(length, one) == _up_to(length, other)


def _up_to(length: int, pieces: Pieces) -> dict[int, bytes]:
    cut = {at: data[: length - at] for at, data in pieces[1].items() if at < length}
    return {at: data for at, data in cut.items() if data != bytes(len(data))}


# ---- a second crash


@by_name
def test_a_second_crash_is_survived_too(variant: Variant) -> None:
    """What the first crash left is a sound image: the action is run on it again, and crashed."""
    total = 0
    # Taken in turn, so that each action is among them on half of the variants.
    cases = islice(cases_of(variant), VARIANTS.index(variant) % 2, None, 4 if variant.large else 2)
    for case in cases:
        acted = case.act()
        for state in islice(acted.states(), 2, None, CRASHED_AGAIN):
            again = act_again(case, state)
            for second in again.states(few=True):
                why = again.judge(second.file, second.data)
                assert not why, (case.name, state.label, second.label, why)
                total += 1
    assert total >= FLOORS[variant.name].doubled, total


def act_again(case: Case, state: State) -> Acted:
    """The same once more; where it took place already and cannot again, its space is reclaimed."""
    try:
        return case.act(state)
    except (EditRefused, NotFoundError, UsageError):
        return case.act(state, [Reclaim()])
