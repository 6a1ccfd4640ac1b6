"""Story S6: the first cluster is overwritten by noise; the rest of the file tells the header."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import qcow
from qcow.actions.history import Undo
from qcow.actions.repair import RepairImage
from qcow.actions.repair.lost_header import mending_for
from qcow.actions.snapshot import SnapshotCreate
from qcow.edit.apply import apply, plan
from qcow.errors import EditRefused, UsageError
from qcow.inspect.lost import LostImage, scan_lost
from tests.support.edited import assert_sound, contents, copied, info
from tests.support.poking import cluster_size, make, poke
from tests.support.qemu import qemu_img, qemu_io

from .healing import digest, golden

pytestmark = pytest.mark.oracle


def lose(path: Path) -> str:
    """Put noise over the first cluster; the digest of the file then."""
    poke(path, 0, random.Random(6).randbytes(cluster_size(path)))
    return digest(path)


def scanned(path: Path) -> LostImage:
    with qcow.open(path, format="raw") as image:
        return scan_lost(image.storage)


def assert_rebuilt(path: Path, wanted: dict[str, bytes], size: str) -> None:
    """Find the header, plan, apply, compare, undo."""
    before, length = digest(path), path.stat().st_size
    answers = {"size": size}
    mending = mending_for(scanned(path), answers)
    with qcow.open(path, format="raw") as image:
        expected = plan(RepairImage(answers), image, mending=mending)
    assert digest(path) == before
    assert not expected.journal, "one sector is the whole switch"
    (done,) = apply(os.fspath(path), [RepairImage(answers)], mending=mending).plans
    assert done.outcome == expected.outcome
    assert_sound(path)
    assert contents(path) == wanted
    apply(os.fspath(path), [Undo()])
    assert digest(path, length) == before


def test_story_s6(tmp_path: Path) -> None:
    image = make(
        tmp_path / "image.qcow2",
        "2G",
        "write -P 1 0 3M",
        "write -P 2 600M 2M",
        "write -P 3 639M 1M",
    )
    healthy = copied(image, "healthy.qcow2")
    lose(image)
    assert info(image)["format"] == "raw"
    found = scanned(image)
    best = found.proposals[0]
    assert (best.header.cluster_bits, best.header.refcount_order) == (16, 4)
    assert best.header.l1_table_offset == 0x30000
    assert (best.size, best.least, best.errors, best.leaks) == (
        None,
        (640 << 20) - (64 << 10) + 512,
        0,
        0,
    )
    with pytest.raises(UsageError, match="size=SIZE"):
        mending_for(found, {})
    with pytest.raises(UsageError, match="not possible"):
        mending_for(found, {"size": "512M"})
    mending = mending_for(found, {"size": "2G"})
    before, length = digest(image), image.stat().st_size
    apply(os.fspath(image), [RepairImage({"size": "2G"})], mending=mending)
    assert_sound(image)
    qemu_img("compare", image, healthy)
    apply(os.fspath(image), [Undo()])
    assert digest(image, length) == before
    again = mending_for(scanned(image), {"size": "2G"})
    apply(os.fspath(image), [RepairImage({"size": "2G"})], mending=again)
    assert_sound(image)


@pytest.mark.parametrize(
    "options",
    [
        "cluster_size=512",
        "cluster_size=4k,refcount_bits=8",
        "cluster_size=2M",
        "refcount_bits=1",
        "refcount_bits=64",
        "extended_l2=on",
        "compat=0.10",
    ],
)
def test_every_geometry(tmp_path: Path, options: str) -> None:
    image = golden(tmp_path / "image.qcow2", options, snapshots=False)
    wanted = contents(image)
    lose(image)
    assert_rebuilt(image, wanted, "64M")


@pytest.mark.parametrize("size", ["5243392", "5308416", "5308928"])
def test_a_disk_may_end_within_a_cluster(tmp_path: Path, size: str) -> None:
    """Its last cluster is mapped: one sector of it belongs to the disk, or more."""
    image = make(tmp_path / "image.qcow2", size, f"write -P 1 0 {size}")
    wanted = contents(image)
    lose(image)
    (best, *_) = scanned(image).proposals
    assert best.least <= int(size) <= best.most
    assert_rebuilt(image, wanted, size)


def test_no_disk_ends_before_what_is_mapped(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", "1M", "write -P 1 0 1M")
    lose(image)
    assert scanned(image).proposals[0].least == (1 << 20) - (64 << 10) + 512
    with pytest.raises(UsageError, match="not possible"):
        mending_for(scanned(image), {"size": str((1 << 20) - (64 << 10))})


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_the_compression_type_is_told_by_the_data(tmp_path: Path, kind: str) -> None:
    image = golden(tmp_path / "image.qcow2", f"compression_type={kind}", snapshots=False)
    qemu_io(image, "write -c -P 9 10M 64k", "write -c -P 8 11M 64k")
    wanted = contents(image)
    lose(image)
    assert_rebuilt(image, wanted, "64M")


def test_snapshots_come_back_and_say_the_size(tmp_path: Path) -> None:
    image = golden(tmp_path / "image.qcow2")
    wanted, names = contents(image), [s["name"] for s in info(image)["snapshots"]]
    lose(image)
    found = scanned(image)
    assert found.proposals[0].size == 64 << 20
    apply(os.fspath(image), [RepairImage()], mending=mending_for(found, {}))
    assert_sound(image)
    assert contents(image) == wanted
    assert [s["name"] for s in info(image)["snapshots"]] == names


def test_noise_alone_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "noise"
    path.write_bytes(random.Random(7).randbytes(1 << 20))
    found = scanned(path)
    assert found.proposals == ()
    assert found.complete
    with pytest.raises(EditRefused, match="No structures"):
        mending_for(found, {"size": "1M"})


def test_a_lost_header_needs_its_repair_first(tmp_path: Path) -> None:
    image = golden(tmp_path / "image.qcow2", snapshots=False)
    lose(image)
    mending = mending_for(scanned(image), {"size": "64M"})
    with pytest.raises(EditRefused, match="no usable header"):
        apply(os.fspath(image), [SnapshotCreate("s")], mending=mending)
