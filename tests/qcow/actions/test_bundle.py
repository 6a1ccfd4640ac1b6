"""Bundles: the same findings, no guest data, no key material, other names on request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from qcow.actions.bundle import Bundled, bundle
from qcow.errors import EditRefused
from qcow.image.image import Image
from qcow.inspect.check import check
from qcow.opening import open as open_image
from tests.support.images import guest_bytes, patch, sha256, small_builder
from tests.support.qemu import create_encrypted, qemu_img, qemu_io, qemu_json

VARIANTS: dict[str, dict[str, Any]] = {
    "v3": {"cluster_bits": 12},
    "v2": {"cluster_bits": 12, "version": 2},
    "extended": {"cluster_bits": 16, "extended_l2": True},
    "narrow": {"cluster_bits": 12, "refcount_order": 2},
    "wide": {"cluster_bits": 9, "refcount_order": 6},
}


def _bundle(source: Path, out: Path, **options: Any) -> Bundled:
    with open_image(source) as image:
        assert isinstance(image, Image)
        return bundle(image, str(out), **options)


def _gist(path: Path) -> list[tuple[str, int]]:
    with open_image(path) as image:
        assert isinstance(image, Image)
        return [(f.code, f.count) for f in check(image, decode=False).findings]


def _first_l2(path: Path) -> int:
    with open_image(path) as image:
        assert isinstance(image, Image)
        return int(image.active.l1()[0]) & 0x00FF_FFFF_FFFF_FE00


@pytest.mark.oracle
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sound_image(variant: str, tmp_path: Path) -> None:
    builder = small_builder(**VARIANTS[variant])
    source = builder.write(tmp_path / "disk.qcow2")
    before = sha256(source)
    done = _bundle(source, tmp_path / "out.qcow2")
    assert (done.faithful, done.withheld, done.length) == (True, 0, source.stat().st_size)
    assert sha256(source) == before
    made = (tmp_path / "out.qcow2").read_bytes()
    assert b"nothing to see here" not in made
    assert guest_bytes(builder.model)[20 << builder.geometry.cluster_bits :][:32] not in made
    ours, theirs = (
        {**dict(qemu_json("check", "--output=json", "-f", "qcow2", each)), "filename": ""}
        for each in (source, tmp_path / "out.qcow2")
    )
    assert ours == theirs
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("variant", ["v3", "extended", "wide"])
def test_damage_is_found_in_the_copy_as_well(variant: str, tmp_path: Path) -> None:
    builder = small_builder(**VARIANTS[variant])
    source = builder.write(tmp_path / "disk.qcow2")
    size = 1 << int(VARIANTS[variant]["cluster_bits"])
    step = 16 if variant == "extended" else 8
    with open_image(source) as image:
        assert isinstance(image, Image)
        table = image.header.refcount_table_offset
    l2 = _first_l2(source)
    for number, entry in ((2, 0x8000_0000_0000_0000 | size // 2), (4, 0x8100_0000_0000_0000)):
        patch(source, l2 + number * step, entry.to_bytes(8, "big"))
    block = int.from_bytes(source.read_bytes()[table : table + 8], "big")
    patch(source, block + size // 2, bytes(16))
    patch(source, source.stat().st_size, bytes(3 * size))
    done = _bundle(source, tmp_path / "out.qcow2")
    assert done.faithful
    assert done.result.corruptions
    assert _gist(tmp_path / "out.qcow2") == _gist(source)


def test_a_table_full_of_guest_data_is_left_out(tmp_path: Path) -> None:
    source = small_builder(cluster_bits=12).write(tmp_path / "disk.qcow2")
    secret = b"the guest's own words, not a table. "
    patch(source, _first_l2(source), (secret * 200)[:4096])
    done = _bundle(source, tmp_path / "out.qcow2")
    assert done.withheld >= 4096
    made = (tmp_path / "out.qcow2").read_bytes()
    assert b"guest's own" not in made
    assert b"nothing to see here" not in made


@pytest.mark.parametrize("field", [40, 64], ids=["L1 table", "snapshot table"])
def test_small_tables_that_point_into_guest_data(field: int, tmp_path: Path) -> None:
    source = small_builder(cluster_bits=12).write(tmp_path / "disk.qcow2")
    data = source.read_bytes().index(b"cluster 00000005") & ~4095
    patch(source, field, data.to_bytes(8, "big"))
    done = _bundle(source, tmp_path / "out.qcow2")
    assert done.withheld or not done.faithful
    made = (tmp_path / "out.qcow2").read_bytes()
    assert b"cluster 0" not in made
    assert b"of a test" not in made


@pytest.mark.oracle
def test_names_are_replaced(tmp_path: Path) -> None:
    base, source = tmp_path / "secret-base.raw", tmp_path / "disk.qcow2"
    base.write_bytes(bytes(1 << 20))
    qemu_img("create", "-q", "-f", "qcow2", "-b", base.name, "-F", "raw", source)
    for name in ("secret-one", "secret-two"):
        qemu_img("snapshot", "-c", name, source)
    for name in ("secret-map", "another-secret-map"):
        qemu_img("bitmap", "--add", source, name)
    _bundle(source, tmp_path / "plain.qcow2")
    assert b"secret-one" in (tmp_path / "plain.qcow2").read_bytes()
    done = _bundle(source, tmp_path / "out.qcow2", redact=True)
    assert done.faithful
    assert b"secret" not in (tmp_path / "out.qcow2").read_bytes()
    with open_image(tmp_path / "out.qcow2") as image:
        assert isinstance(image, Image)
        assert [s.name for s in image.snapshots] == [b"xxxxxxxxx1", b"xxxxxxxxx2"]
        assert len({bitmap.name for bitmap in image.bitmaps}) == 2
        assert image.backing is not None
        assert len(image.backing.name) == len(base.name)


@pytest.mark.oracle
def test_no_key_material(tmp_path: Path) -> None:
    source = tmp_path / "luks.qcow2"
    create_encrypted(source, "1M")
    with open_image(source) as image:
        assert isinstance(image, Image)
        assert image.crypto is not None
        place, length = image.crypto.offset, image.crypto.length
        slots = image.luks
    done = _bundle(source, tmp_path / "out.qcow2")
    assert done.faithful
    before = source.read_bytes()[place : place + length]
    made = (tmp_path / "out.qcow2").read_bytes()[place : place + length]
    assert made[592:] == bytes(length - 592)
    for at, n in ((112, 52), *((208 + 48 * i + 8, 32) for i in range(8))):
        assert made[at : at + n] == bytes(n)
    assert any(before[112:164])
    with open_image(tmp_path / "out.qcow2") as image:
        assert isinstance(image, Image)
        assert image.luks == slots


@pytest.mark.oracle
def test_lost_tables_come_along(tmp_path: Path) -> None:
    source = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", source, "16M")
    qemu_io(source, "write -q -P 90 0 4M")
    table = _first_l2(source)
    with open_image(source) as image:
        assert isinstance(image, Image)
        l1 = image.header.l1_table_offset
    patch(source, l1, bytes(8))
    done = _bundle(source, tmp_path / "out.qcow2")
    assert done.faithful
    assert done.result.leaks == 513
    made = (tmp_path / "out.qcow2").read_bytes()
    assert made[table : table + 4096] == source.read_bytes()[table : table + 4096]
    assert b"Z" * 64 not in made
    assert os.stat(tmp_path / "out.qcow2").st_blocks * 512 < 1 << 20


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    source = small_builder(cluster_bits=12).write(tmp_path / "disk.qcow2")
    (tmp_path / "mine").write_bytes(b"precious")
    with pytest.raises(EditRefused, match="exists"):
        _bundle(source, tmp_path / "mine")
    assert (tmp_path / "mine").read_bytes() == b"precious"
    with pytest.raises(EditRefused, match="the image itself"):
        _bundle(source, source, force=True)
    assert _bundle(source, tmp_path / "mine", force=True).faithful
