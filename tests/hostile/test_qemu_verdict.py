"""The corpus is what it claims to be: QEMU sees in every image the damage of its row."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.support.qemu import qemu_img, with_key

from .bases import NAMES, Bases
from .canary import Canary
from .corpus import GENERAL, ROWS
from .many import many_bitmaps, many_snapshots
from .model import Row
from .verdict import ask_qemu

pytestmark = pytest.mark.oracle

_VERSION = "7.2."


@pytest.fixture(scope="module")
def same_version() -> bool:
    """The table was measured with one version of QEMU; others word and weigh things anew."""
    return f"version {_VERSION}".encode() in qemu_img("--version").stdout


@pytest.mark.parametrize("name", NAMES)
def test_bases_are_healthy(bases: Bases, name: str) -> None:
    image = bases.path(name)
    where = with_key(image) if name == "luks" else ("-f", "qcow2", image.name)
    assert b"No errors were found" in qemu_img("check", *where, cwd=bases.folder).stdout


def test_every_image_differs(bases: Bases, folder: Path) -> None:
    seen: dict[bytes, str] = {}
    for row in ROWS:
        place = folder / row.id
        place.mkdir()
        content = hashlib.sha256(row.build(bases, place).read_bytes()).digest()
        assert content not in seen, f"{row.id} is the image of {seen[content]}"
        seen[content] = row.id
        shutil.rmtree(place)


def test_table_is_complete() -> None:
    assert Counter(row.area for row in ROWS) == {
        "header": 40,
        "ext": 8,
        "string": 29,
        "l1": 17,
        "l2": 10,
        "extl2": 3,
        "comp": 11,
        "ref": 18,
        "snap": 19,
        "bitmap": 18,
        "luks": 19,
    }


def test_many_snapshots_are_valid(folder: Path) -> None:
    image = many_snapshots(folder / "image.qcow2", 1000)
    assert ask_qemu("check", image).exit == 0
    assert ask_qemu("info", image).text.count("2023-11-1") == 1000


def test_many_bitmaps_are_valid(folder: Path) -> None:
    image = many_bitmaps(folder / "image.qcow2", 1000)
    assert ask_qemu("check", image).exit == 0
    assert ask_qemu("info", image).text.count("granularity: 512") == 1000


@pytest.mark.parametrize("row", [*ROWS, *GENERAL], ids=lambda row: row.id)
def test_qemu_agrees(
    row: Row, bases: Bases, folder: Path, canary: Canary, same_version: bool
) -> None:
    calls = canary.calls
    image = row.build(bases, folder)
    info = ask_qemu("info", image, row.qemu_info)
    check = ask_qemu("check", image, row.qemu_check)
    if same_version:
        assert (info.exit, check.exit) == (row.qemu_info, row.qemu_check)
        said = info.text + check.text
        at = 0
        for piece in row.qemu_says:
            assert piece in said[at:], f"{piece!r} is not in {said[at:]!r}"
            at = said.index(piece, at) + len(piece)
    else:
        objects = (info.exit, check.exit) != (0, 0)
        assert objects == ((row.qemu_info, row.qemu_check) != (0, 0))
    if row.id == "N10":
        assert canary.calls > calls, "QEMU was to talk to the server that the image names"
