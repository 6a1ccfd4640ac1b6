"""Every action on every kind of image, crashed at every point: the old image or the new one.

A tiny reader that shares nothing with the engine judges every state; QEMU confirms a sample of
them; and of another sample, the action is run again and crashed again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from qcow.actions.history import Reclaim
from qcow.errors import EditRefused, NotFoundError, UsageError
from tests.support.qemu import qemu_img, with_key

from .acting import Acted, State
from .cases import Case, cases_of
from .oracle import TinyImage, View
from .variants import BELOW, VARIANTS, Variant


@dataclass(frozen=True)
class Floor:
    """States that a variant has at least: judged, confirmed by QEMU, after a second crash."""

    judged: int
    confirmed: int
    doubled: int


#: A little below what there is, so that a case that quietly makes no states is noticed.
FLOORS = {
    "v3-512": Floor(4160, 191, 240),
    "v2-512": Floor(3560, 153, 622),
    "no-snapshot": Floor(2930, 217, 72),
    "three-snapshots": Floor(5035, 170, 962),
    "vm-state": Floor(4420, 157, 240),
    "refcount-1": Floor(2475, 186, 120),
    "refcount-2": Floor(3865, 180, 98),
    "refcount-64": Floor(4120, 187, 608),
    "zstd": Floor(4170, 192, 310),
    "backing": Floor(5615, 252, 734),
    "v2-backing": Floor(5090, 214, 450),
    "bitmaps": Floor(5390, 238, 208),
    "4k": Floor(5670, 244, 110),
    "extended": Floor(1125, 109, 204),
    "64k": Floor(1490, 136, 114),
    "luks": Floor(775, 79, 104),
    "external": Floor(405, 57, 144),
    "external-raw": Floor(385, 58, 36),
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


#: One of so many states is crashed again.
CRASHED_AGAIN = 1201


@by_name
@pytest.mark.oracle
def test_a_crash_leaves_the_old_or_the_new_image(variant: Variant, tmp_path: Path) -> None:
    for name, content in BELOW.items():
        (tmp_path / name.decode()).write_bytes(content)
    judged = confirmed = doubled = 0
    shown = one_of(variant)
    for number, case in enumerate(cases_of(variant)):
        acted = case.act()
        qemu = Qemu(acted, tmp_path)
        before = judged
        # Taken in turn, so that each action is among them on some of the variants.
        again = (number - VARIANTS.index(variant)) % (4 if variant.large else 3) == 0
        for place, state in enumerate(acted.states()):
            assert_sound(case, acted, state)
            judged += 1
            if place % shown == 1:
                qemu.confirm(state)
                confirmed += 1
            if again and place % CRASHED_AGAIN == 2:
                doubled += crash_again(case, state)
        qemu.confirm(State("end", acted.final, acted.final_data))
        confirmed += 1
        assert judged - before > 1 or acted.final == acted.base
    floor = FLOORS[variant.name]
    assert judged >= floor.judged, judged
    assert confirmed >= floor.confirmed, confirmed
    assert doubled >= floor.doubled, doubled


def one_of(variant: Variant) -> int:
    """QEMU is shown one of so many states; of those with snapshots fewer, for it reads them all."""
    if variant.large:
        return 16
    return (16, 29, 42, 42)[len(TinyImage(variant.make(), BELOW).snapshots)]


def assert_sound(case: Case, acted: Acted, state: State, first: str = "") -> None:
    why = acted.judge(state.file, state.data)
    assert not why, (case.name, first, state.label, why)


def crash_again(case: Case, first: State) -> int:
    """What the first crash left is a sound image: the action is run on it again, and crashed.

    Where it took place already and cannot again, its space is reclaimed.
    """
    try:
        again = case.act(first)
    except (EditRefused, NotFoundError, UsageError):
        again = case.act(first, [Reclaim()])
    number = 0
    for second in again.states(few=True):
        assert_sound(case, again, second, first.label)
        number += 1
    return number


# ---- what QEMU says


class Qemu:
    """Compares what QEMU says of states with the independent reader."""

    def __init__(self, acted: Acted, folder: Path) -> None:
        self._acted = acted
        self._path, self._raw = folder / "image.qcow2", folder / "guest.raw"
        #: Of encrypted images, which that reader cannot decrypt.
        self._known = dict[View, list[Pieces]]()

    def confirm(self, state: State) -> None:
        folder = self._path.parent
        self._path.write_bytes(state.file)
        if state.data is not None:
            (folder / "data.raw").write_bytes(state.data)
        image = self._acted.look(state.file, state.data)
        source = with_key(self._path) if image.crypt else ("-f", "qcow2", self._path)
        checked = qemu_img("check", "-q", *source, check=False, cwd=folder)
        assert checked.returncode == 0, (state.label, checked.stdout)
        found = []
        for snapshot in (None, *image.snapshots):
            picked = () if snapshot is None else ("-l", f"snapshot.id={snapshot[0].decode()}")
            where = (*source, self._raw)
            qemu_img("convert", "-t", "unsafe", "-O", "raw", *picked, *where, cwd=folder)
            found.append(pieces_of(self._raw, image.cluster))
        expected = [image.pieces(place) for place in (None, *range(len(image.snapshots)))]
        if image.crypt:
            expected = self._known.setdefault(image.view(), found)
        # QEMU shows a snapshot in the size that the disk has now.
        assert found[0][0] == expected[0][0], state.label
        assert all(map(_agree, found, expected)), state.label


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
