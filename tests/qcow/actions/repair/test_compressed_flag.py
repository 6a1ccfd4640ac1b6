"""A COMPRESSED flag that damage set, and compressed data that is damaged itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcow.actions.repair import RepairImage
from qcow.edit.apply import apply
from qcow.errors import EditRefused
from tests.crash.oracle import packed
from tests.repair.poking import Entry, Poked
from tests.support.edited import contents, copied
from tests.support.poking import make
from tests.support.qemu import qemu_img, qemu_io

from .healing import assert_healed, digest, offered, repair

pytestmark = pytest.mark.oracle
FLAG = 1 << 62


def build(folder: Path, options: str) -> Path:
    """Plain and compressed data, some of it shared with a snapshot."""
    image = make(folder / "image.qcow2", "8M", "write -P 1 0 1M", options=options)
    qemu_io(image, "write -c -P 2 2M 256k")
    qemu_img("snapshot", "-c", "s", image)
    qemu_io(image, "write -P 3 512k 1M")
    return image


def flag(path: Path, *, shared: bool, number: int = 2) -> Entry:
    """Set the flag on a plain entry of the active state."""
    poked = Poked(path.read_bytes())
    entry = poked.data(shared=shared)[number]
    poked.set(entry.at, entry.word | FLAG)
    path.write_bytes(poked.file)
    return entry


@pytest.mark.parametrize(
    "options", ["cluster_size=64k", "cluster_size=4k", "compat=0.10", "extended_l2=on"]
)
def test_the_flag_is_cleared_where_copied_tells(tmp_path: Path, options: str) -> None:
    image = build(tmp_path, options)
    wanted = contents(image)
    flag(image, shared=False)
    flag(image, shared=False, number=5)
    assert qemu_img("convert", "-O", "raw", image, tmp_path / "raw", check=False).returncode
    id_ = "l2-compressed-bitmap" if "extended" in options else "l2-compressed-flag"
    assert offered(image)[id_] == "repoint"
    done = assert_healed(image, wanted)
    assert not done.outcome.loses
    assert not done.outcome.facts["left"]


def test_qemu_takes_the_data_away(tmp_path: Path) -> None:
    image = build(tmp_path, "cluster_size=64k")
    wanted = contents(image)
    flag(image, shared=False)
    theirs = copied(image, "theirs.qcow2")
    qemu_img("check", "-q", "-r", "all", theirs, check=False)
    done = qemu_img("convert", "-O", "raw", theirs, tmp_path / "raw", check=False)
    assert done.returncode, "it still takes the cluster for a compressed one"
    assert_healed(image, wanted)


def test_without_copied_it_is_a_choice(tmp_path: Path) -> None:
    """A compressed cluster of one sector could begin there as well."""
    image = build(tmp_path, "cluster_size=64k")
    wanted = contents(image)
    flag(image, shared=True)
    assert offered(image)["l2-compressed-perhaps"] is None
    assert_healed(image, wanted, {"l2-compressed-perhaps": "repoint"})


@pytest.mark.parametrize("options", ["cluster_size=64k", "compression_type=zstd"])
def test_damaged_data_is_given_up_by_choice(tmp_path: Path, options: str) -> None:
    image = build(tmp_path, options)
    wanted = contents(image)
    poked = Poked(image.read_bytes())
    # QEMU packs them in any order: not the one at the start of a cluster, as plain ones lie.
    entry = next(entry for entry in poked.packed() if entry.word & 0xFFFF)
    at, _ = packed(entry.word, poked.seen.bits)
    poked.file[at : at + 8] = b"\xff" * 8
    image.write_bytes(poked.file)
    assert offered(image) == {"l2-compressed-damaged": None}
    before = digest(image)
    with pytest.raises(EditRefused, match="choice"):
        apply(str(image), [RepairImage()])
    assert digest(image) == before
    done = repair(image, {"l2-compressed-damaged": "zero"})
    assert done.outcome.loses
    start = entry.guest << 16
    for state, data in contents(image).items():
        expected = bytearray(wanted[state])
        expected[start : start + (1 << 16)] = bytes(1 << 16)
        assert data == bytes(expected)
    assert qemu_img("check", image, check=False).returncode == 0
