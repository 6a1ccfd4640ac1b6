"""The snapshot table damaged: names and contents come back, or one entry is given up by choice."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from qcow.errors import EditRefused
from tests.support.edited import contents, info
from tests.support.poking import peek, poke, set_word, word
from tests.support.qemu import qemu_img

from .healing import assert_healed, golden, offered, repair

pytestmark = pytest.mark.oracle


def entry(path: Path, index: int) -> int:
    """Where an entry of the snapshot table lies."""
    at = word(path, 64)
    for _ in range(index):
        id_, name = struct.unpack(">HH", peek(path, at + 12, 4))
        (extra,) = struct.unpack(">I", peek(path, at + 36, 4))
        at += (40 + extra + id_ + name + 7) & ~7
    return at


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return golden(tmp_path / "image.qcow2")


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("size", [0x7FFF0000, 4096, 1000, 512])
def test_oversize_extra_data_names_survive(image: Path, index: int, size: int) -> None:
    wanted, before = contents(image), info(image)["snapshots"]
    poke(image, entry(image, index) + 36, struct.pack(">I", size))
    assert offered(image)["snapshot-table"] == "fix"
    assert_healed(image, wanted)
    repair(image)
    after = info(image)["snapshots"]
    assert [(s["id"], s["name"], s["date-sec"]) for s in after] == [
        (s["id"], s["name"], s["date-sec"]) for s in before
    ]


@pytest.mark.parametrize("field", [12, 14])
@pytest.mark.parametrize("index", [0, 1])
def test_a_length_of_id_or_name(image: Path, field: int, index: int) -> None:
    wanted = contents(image)
    poke(image, entry(image, index) + field, b"\x40\x00")
    assert_healed(image, wanted)


@pytest.mark.parametrize("offset", [0x123, 0])
def test_the_table_is_found_again(image: Path, offset: int) -> None:
    wanted = contents(image)
    set_word(image, 64, offset)
    assert_healed(image, wanted)


def test_an_absurd_number_of_snapshots(image: Path) -> None:
    wanted = contents(image)
    poke(image, 60, struct.pack(">I", 0xFFFFFF))
    assert_healed(image, wanted)


def test_a_lost_l1_table_is_found_by_what_the_check_says(image: Path) -> None:
    wanted = contents(image)
    set_word(image, entry(image, 0), 0x123)
    assert offered(image)["snapshot-1"] == "fix"
    assert_healed(image, wanted)


def test_one_bad_entry_is_dropped_by_choice(image: Path) -> None:
    wanted = contents(image)
    poke(image, word(image, entry(image, 0)), bytes(65536))  # nobody finds this L1 table again
    set_word(image, entry(image, 0), 0x123)
    assert offered(image)["snapshot-1"] is None
    with pytest.raises(EditRefused, match="snapshot-1"):
        repair(image)
    assert_healed(image, wanted, {"snapshot-1": "drop"}, without=["1"], check=(0, 3))


def test_all_snapshots_are_dropped_by_choice_alone(image: Path) -> None:
    wanted = contents(image)
    poke(image, word(image, 64), b"\xee" * 65536)
    assert offered(image)["snapshot-table"] is None
    with pytest.raises(EditRefused):
        repair(image)
    assert_healed(image, wanted, {"snapshot-table": "drop"}, without=["1", "2"], check=(0, 3))


def test_two_snapshots_of_one_name_are_kept(image: Path) -> None:
    qemu_img("snapshot", "-c", "second", image)
    wanted = contents(image)
    poke(image, entry(image, 0) + 36, struct.pack(">I", 0x7FFF0000))
    assert_healed(image, wanted)
    repair(image)
    assert [s["name"] for s in info(image)["snapshots"]] == ["first one", "second", "second"]
