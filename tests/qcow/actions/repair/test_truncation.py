"""Files that were cut off: what was lost is listed, mapped as zeros by choice, or filled again."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import qcow
from qcow.actions.repair import RepairImage, diagnose
from qcow.edit.apply import apply
from qcow.errors import EditRefused
from qcow.image.image import Image
from tests.support.edited import contents, copied
from tests.support.poking import OFFSETS, l1_entry, make, set_word, word
from tests.support.qemu import create_encrypted, qemu_img, qemu_io, run, secret_object

from .healing import assert_healed, digest, golden, offered, repair

pytestmark = pytest.mark.oracle
_CUT = 20 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The last 20 MiB are the guest's 24 to 44 MiB."""
    made = golden(tmp_path / "image.qcow2")
    qemu_io(made, "write -P 5 8M 8M", "write -P 6 16M 28M")
    return made


def test_twenty_mebibytes_are_listed_and_zeroed_by_choice(image: Path) -> None:
    wanted = contents(image)
    os.truncate(image, image.stat().st_size - _CUT)
    assert offered(image) == {"l2-outside": None, "fill": None}
    with qcow.open(image) as opened:
        assert isinstance(opened, Image)
        _, remedies = diagnose(opened)
        lost = next(r for r in remedies if r.id == "l2-outside").options[0].changes
    assert sum(r.length for r in lost if r.state == "active") == _CUT
    with pytest.raises(EditRefused, match="choice"):
        repair(image)
    repair(image, {"l2-outside": "zero"})
    assert qemu_img("check", image, check=False).returncode == 0
    found = contents(image)
    for state, data in found.items():
        zeroed = bytearray(wanted[state])
        for r in lost:
            if r.state == ("active" if not state else f"snapshot:{state}"):
                zeroed[r.start : r.start + r.length] = bytes(r.length)
        assert data == bytes(zeroed)


@pytest.mark.parametrize("kind", ["qcow2", "raw"])
@pytest.mark.parametrize("odd", [0, 1000])
def test_filled_from_a_backup(image: Path, tmp_path: Path, kind: str, odd: int) -> None:
    wanted = contents(image)
    backup = copied(image, "backup.qcow2")
    if kind == "raw":
        backup = tmp_path / "backup.raw"
        qemu_img("convert", "-O", "raw", image, backup)
    os.truncate(image, image.stat().st_size - _CUT + odd)
    done = assert_healed(image, wanted, {"fill": os.fspath(backup)})
    assert not done.outcome.loses


def test_extended_entries_and_compressed_clusters(tmp_path: Path) -> None:
    for options in ("extended_l2=on", "cluster_size=4k"):
        image = golden(tmp_path / "image.qcow2", options, snapshots=False)
        qemu_io(image, "write -P 7 20M 2k", "write -P 9 25M 1M", "write -c -P 8 24M 64k")
        wanted = contents(image)
        backup = copied(image, "backup.qcow2")
        os.truncate(image, image.stat().st_size - (512 << 10))
        assert_healed(image, wanted, {"fill": os.fspath(backup)})


def test_a_backup_that_is_too_short(image: Path, tmp_path: Path) -> None:
    os.truncate(image, image.stat().st_size - _CUT)
    before = digest(image)
    backup = tmp_path / "short.raw"
    backup.write_bytes(bytes(1 << 20))
    with pytest.raises(EditRefused, match="bytes of disk"):
        apply(os.fspath(image), [RepairImage({"fill": os.fspath(backup)})])
    assert digest(image) == before


def test_a_snapshot_that_the_backup_lacks(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", "64M", "write -P 1 0 4M")
    qemu_img("snapshot", "-c", "kept", image)
    qemu_io(image, "write -P 2 0 4M")
    raw = tmp_path / "backup.raw"
    qemu_img("convert", "-O", "raw", image, raw)
    set_word(image, word(image, l1_entry(image, 0, snapshot=0)) & OFFSETS, 1 << 40)
    before = digest(image)
    with pytest.raises(EditRefused, match="does not have the snapshots"):
        apply(os.fspath(image), [RepairImage({"fill": os.fspath(raw)})])
    assert digest(image) == before


def test_nothing_is_put_where_lost_data_is_named(image: Path) -> None:
    os.truncate(image, image.stat().st_size - _CUT)
    set_word(image, word(image, 48), 0)  # no refcounts: something to repair besides
    with pytest.raises(EditRefused, match="decide on that first"):
        apply(os.fspath(image), [RepairImage()])


def test_a_luks_header_from_a_backup(tmp_path: Path) -> None:
    secret = secret_object()
    image = tmp_path / "image.qcow2"
    create_encrypted(image, "16M")
    opened = f"driver=qcow2,encrypt.key-secret=sec0,file.filename={image}"
    command = ("--image-opts", opened)
    run("qemu-io", *secret, "-c", "write -P 7 0 1M", *command)
    head = image.read_bytes()[:4096]
    at = head.index(bytes.fromhex("0537be77")) + 8
    start, length = word(image, at), word(image, at + 8)
    older, bare = copied(image, "older.qcow2"), tmp_path / "header.luks"
    bare.write_bytes(image.read_bytes()[start : start + length])
    damaged = bytearray(image.read_bytes())
    damaged[start : start + 592] = random.Random(8).randbytes(592)
    image.write_bytes(damaged)
    for backup in (older, bare):
        image.write_bytes(damaged)
        assert offered(image) == {"luks-header": None}
        done = repair(image, {"luks-header": os.fspath(backup)})
        assert not done.journal
        shown = run("qemu-io", *secret, "-c", "read -P 7 0 1M", *command).stdout
        assert b"Pattern verification failed" not in shown
    image.write_bytes(damaged)
    bare.write_bytes(bare.read_bytes()[:100000])
    for wrong, why in ((bare, "not whole"), (tmp_path / "golden.qcow2", "no LUKS header")):
        if not wrong.exists():
            golden(wrong, snapshots=False)
        with pytest.raises(EditRefused, match=why):
            apply(os.fspath(image), [RepairImage({"luks-header": os.fspath(wrong)})])
    assert image.read_bytes() == bytes(damaged)
