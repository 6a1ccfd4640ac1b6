"""Header fields and extensions: each wrong value is found by what the rest of the image says."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from qcow.errors import EditRefused
from tests.support.edited import contents, info
from tests.support.poking import peek, poke
from tests.support.qemu import qemu_img

from .healing import assert_healed, golden, offered, repair

pytestmark = pytest.mark.oracle

#: name: (offset, bytes) poked into the header of a healthy image.
FIELDS = {
    "version": (4, struct.pack(">I", 0x83)),
    "cluster-bits": (20, struct.pack(">I", 0x96)),
    "l1-size": (36, bytes(4)),
    "l1-offset": (40, struct.pack(">Q", 0x777)),
    "feature-unknown": (72, b"\x10"),
    "corrupt": (79, b"\x02"),
    "dirty": (79, b"\x01"),
    "data-file": (79, b"\x04"),
    "compression-bit": (79, b"\x08"),
    "refcount-order": (96, struct.pack(">I", 9)),
    "header-length": (100, struct.pack(">I", 0x93)),
    "compression-type": (104, b"\x01"),
    "extension-length": (116, struct.pack(">I", 0x7FFFFFFF)),
}


@pytest.mark.parametrize("name", FIELDS)
def test_one_wrong_field(tmp_path: Path, name: str) -> None:
    image = golden(tmp_path / "image.qcow2")
    wanted, before = contents(image), info(image)
    poke(image, *FIELDS[name])
    assert_healed(image, wanted)
    repair(image)
    assert info(image)["format-specific"] == before["format-specific"]


def test_a_feature_that_the_image_names_is_no_damage(tmp_path: Path) -> None:
    image = golden(tmp_path / "image.qcow2")
    names = peek(image, 0, 4096).index(bytes.fromhex("6803f857")) + 8
    poke(image, names, bytes((0, 60)) + b"from the future".ljust(46, b"\0"))
    poke(image, 72, b"\x10")
    assert offered(image)["feature-unknown"] is None
    with pytest.raises(EditRefused, match=r"choice|Decide"):
        repair(image)


@pytest.mark.parametrize("size", [struct.pack(">Q", 8 << 20), b"\x08"], ids=["small", "huge"])
def test_a_wrong_size_is_asked_for(tmp_path: Path, size: bytes) -> None:
    image = golden(tmp_path / "image.qcow2")
    wanted = contents(image)
    poke(image, 24, size)
    assert offered(image)["size"] is None
    with pytest.raises(EditRefused):
        repair(image)
    assert_healed(image, wanted, {"size": "64M"})


def test_an_extension_that_is_there_twice(tmp_path: Path) -> None:
    base, image = tmp_path / "base.raw", tmp_path / "image.qcow2"
    base.write_bytes(b"\5" * (1 << 20))
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", image)
    wanted = contents(image)
    data = peek(image, 0, 65536)
    at = data.index(bytes.fromhex("e2792aca"))
    name_at, length = struct.unpack(">QI", peek(image, 8, 12))
    moved = name_at + 16
    poke(image, at + 16, data[at : at + 16] + data[at + 16 : name_at])
    poke(image, moved, data[name_at : name_at + length])
    poke(image, 8, struct.pack(">Q", moved))
    assert offered(image) == {"extension-duplicate": "first"}
    assert_healed(image, wanted)


def test_the_plan_says_what_the_check_found(tmp_path: Path) -> None:
    image = golden(tmp_path / "image.qcow2")
    poke(image, 20, struct.pack(">I", 0x96))
    done = repair(image)
    assert done.outcome.facts["applied"] == [{"id": "cluster-size", "option": "65536"}]
    assert not done.outcome.loses
    assert not done.outcome.warnings
