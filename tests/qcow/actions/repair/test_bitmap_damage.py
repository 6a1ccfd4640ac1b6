"""Bitmaps: those that cannot be used go, the others stay; a choice decides on what may be kept."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from qcow.errors import EditRefused
from tests.support.edited import contents, info
from tests.support.poking import peek, poke, set_word, word
from tests.support.qemu import qemu_img

from .healing import assert_healed, golden, offered, repair

pytestmark = pytest.mark.oracle
_MAGIC = bytes.fromhex("23852875")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    made = golden(tmp_path / "image.qcow2", snapshots=False)
    for name in ("monday", "tuesday"):
        qemu_img("bitmap", "--add", made, name)
    return made


def extension(path: Path) -> int:
    """Where the data of the bitmaps extension lies."""
    return peek(path, 0, 4096).index(_MAGIC) + 8


def directory(path: Path) -> int:
    return word(path, extension(path) + 16)


def names(path: Path) -> list[str]:
    data = info(path)["format-specific"]["data"]
    return [bitmap["name"] for bitmap in data.get("bitmaps", ())]


def test_one_in_use_is_removed_by_choice(image: Path) -> None:
    wanted = contents(image)
    poke(image, directory(image) + 15, b"\3")
    assert offered(image) == {"bitmap-monday": None}
    with pytest.raises(EditRefused, match="choice"):
        repair(image)
    done = assert_healed(image, wanted, {"bitmap-monday": "remove"})
    assert "next backup must be full" in done.outcome.loses
    repair(image, {"bitmap-monday": "remove"})
    assert names(image) == ["tuesday"]


@pytest.mark.parametrize("place", ["offset", "entry", "type"])
def test_one_that_cannot_be_used_goes(image: Path, place: str) -> None:
    wanted = contents(image)
    at = directory(image)
    if place == "offset":
        set_word(image, at, 0x123)
    elif place == "entry":
        set_word(image, word(image, at), 0x1234)
    else:
        poke(image, at + 16, b"\7")
    assert_healed(image, wanted)
    repair(image)
    assert names(image) == ["tuesday"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: poke(path, extension(path), struct.pack(">I", 5)),
        lambda path: set_word(path, extension(path) + 8, 56),
        lambda path: poke(path, extension(path) - 4, struct.pack(">I", 20)),
    ],
    ids=["count", "length", "extension"],
)
def test_a_wrong_number_is_put_right(image: Path, damage: Callable[[Path], None]) -> None:
    wanted = contents(image)
    damage(image)
    assert_healed(image, wanted)
    repair(image)
    assert names(image) == ["monday", "tuesday"]


def test_a_directory_that_is_nowhere(image: Path) -> None:
    wanted = contents(image)
    set_word(image, extension(image) + 16, 0x123)
    assert_healed(image, wanted, check=(0, 3))
    repair(image)
    assert names(image) == []
