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
from tests.repair.poking import Poked
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


@pytest.fixture
def rewritten(tmp_path: Path) -> Path:
    """The end of the file, 4 MiB, is what the guest wrote to 1 to 5 MiB since the snapshot."""
    made = make(tmp_path / "image.qcow2", "16M", "write -P 1 0 8M")
    qemu_img("snapshot", "-c", "a day ago", made)
    qemu_io(made, "write -P 2 1M 4M")
    return made


@pytest.mark.parametrize("name", ["a day ago", "1"])
def test_filled_from_a_snapshot(rewritten: Path, name: str) -> None:
    """The same range of the snapshot, by its name or ID; the snapshot stays as it is."""
    wanted = contents(rewritten)
    os.truncate(rewritten, rewritten.stat().st_size - (2 << 20))
    assert offered(rewritten) == {"l2-outside": None, "fill": None}
    expected = wanted[""][: 3 << 20] + b"\1" * (2 << 20) + wanted[""][5 << 20 :]
    done = assert_healed(rewritten, {"": expected, "1": wanted["1"]}, {"fill": f"snapshot:{name}"})
    assert "since that snapshot" in done.outcome.loses


def test_the_snapshots_are_listed_as_sources(rewritten: Path) -> None:
    os.truncate(rewritten, rewritten.stat().st_size - (2 << 20))
    with qcow.open(rewritten) as opened:
        assert isinstance(opened, Image)
        _, remedies = diagnose(opened)
    fill = next(remedy for remedy in remedies if remedy.id == "fill")
    assert [option.key for option in fill.options] == ["FILE", "snapshot:a day ago"]
    assert fill.default is None


def test_what_the_snapshot_lost_too_needs_another_choice(rewritten: Path) -> None:
    """What both name beyond the end is nowhere: refused, or mapped as zeros if so chosen."""
    wanted = contents(rewritten)
    poked = Poked(rewritten.read_bytes())
    own = next(entry for entry in poked.entries() if entry.guest == 20)  # 1 MiB and 256 KiB
    both = next(entry for entry in poked.entries() if entry.guest == 100)  # 6 MiB and 256 KiB
    theirs = (poked.get(poked.get(poked.snapshot())) & OFFSETS) + 8 * 100
    assert poked.get(theirs) == both.word
    far = -(-len(poked.file) // poked.size) * poked.size
    poked.set(own.at, far)
    poked.set(both.at, far + poked.size)
    poked.set(theirs, far + poked.size)
    rewritten.write_bytes(poked.file)
    before = digest(rewritten)
    with pytest.raises(EditRefused, match="l2-outside=zero"):
        apply(os.fspath(rewritten), [RepairImage({"fill": "snapshot:1"})])
    assert digest(rewritten) == before
    repair(rewritten, {"fill": "snapshot:1", "l2-outside": "zero"})
    assert qemu_img("check", rewritten, check=False).returncode in (0, 3)
    active, snapshot = bytearray(wanted[""]), bytearray(wanted["1"])
    active[20 << 16 : 21 << 16] = b"\1" * (1 << 16)
    active[100 << 16 : 101 << 16] = snapshot[100 << 16 : 101 << 16] = bytes(1 << 16)
    assert contents(rewritten) == {"": bytes(active), "1": bytes(snapshot)}


def test_no_such_snapshot(rewritten: Path) -> None:
    os.truncate(rewritten, rewritten.stat().st_size - (2 << 20))
    before = digest(rewritten)
    with pytest.raises(EditRefused, match="no snapshot 'other'"):
        apply(os.fspath(rewritten), [RepairImage({"fill": "snapshot:other"})])
    with pytest.raises(EditRefused, match="no backing file"):
        apply(os.fspath(rewritten), [RepairImage({"fill": "base"})])
    assert digest(rewritten) == before


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_filled_from_the_backing_file(tmp_path: Path, compat: str) -> None:
    base = tmp_path / "base.raw"
    base.write_bytes(random.Random(8).randbytes(8 << 20))
    image = tmp_path / "image.qcow2"
    options = f"compat={compat}"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, "-b", base.name, "-F", "raw", image)
    qemu_io(image, "write -P 2 1M 4M")
    wanted = contents(image)[""]
    os.truncate(image, image.stat().st_size - (2 << 20))
    expected = wanted[: 3 << 20] + base.read_bytes()[3 << 20 : 5 << 20] + wanted[5 << 20 :]
    assert_healed(image, {"": expected}, {"fill": "base"})


def test_a_file_by_its_prefix(image: Path) -> None:
    wanted = contents(image)
    backup = copied(image, "backup.qcow2")
    os.truncate(image, image.stat().st_size - _CUT)
    assert_healed(image, wanted, {"fill": f"file:{backup}"})


def test_a_backup_that_is_too_short(image: Path, tmp_path: Path) -> None:
    os.truncate(image, image.stat().st_size - _CUT)
    before = digest(image)
    backup = tmp_path / "short.raw"
    backup.write_bytes(bytes(1 << 20))
    with pytest.raises(EditRefused, match=r"has a disk of 1 MiB .*the image one of 64 MiB"):
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
    with pytest.raises(EditRefused, match="those of other snapshots"):
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
