"""``measure`` beside qemu-img, for many targets and sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracle.catalogue.base import Variant
from tests.oracle.conftest import ByName
from tests.oracle.variants import each
from tests.support.cli import qcowtui, qcowtui_process
from tests.support.qemu import parsed, qemu_img

pytestmark = pytest.mark.oracle

TARGETS = [
    ("-O", "raw"),
    ("-O", "qcow2"),
    ("-O", "qcow2", "-o", "cluster_size=4k"),
    ("-O", "qcow2", "-o", "cluster_size=2M,refcount_bits=64"),
    ("-O", "qcow2", "-o", "compat=0.10"),
    ("-O", "qcow2", "-o", "extended_l2=on,cluster_size=128k"),
    ("-O", "qcow2", "-o", "preallocation=full"),
    ("-O", "qcow2", "-o", "refcount_bits=1", "-o", "cluster_size=512"),
]


@each(without="encrypted unreadable")
def test_json_for_raw_and_qcow2(variant: Variant, image: Path) -> None:
    grant = ("--follow",) if variant.tags & {"follow", "data-file"} else ()
    for target in TARGETS[:2]:
        theirs = qemu_img("measure", "--output=json", *target, image)
        ours = qcowtui("measure", "--output=json", *target, *grant, image)
        assert parsed(ours.stdout) == parsed(theirs.stdout)
        assert ours.stdout == theirs.stdout
        assert ours.code == 0


@pytest.mark.parametrize("target", TARGETS, ids=" ".join)
@pytest.mark.parametrize(
    "name",
    [
        "written",
        "size-unaligned",
        "size-zero",
        "compressed-zlib",
        "backing-smaller",
        "bitmaps-several",
        "extended-l2-65536",
        "zero-allocated",
        "huge-sparse",
    ],
)
def test_target_options(name: str, target: tuple[str, ...], by_name: ByName) -> None:
    image = by_name(name)
    theirs = qemu_img("measure", "--output=json", *target, image, check=False)
    ours = qcowtui("measure", "--output=json", *target, image)
    assert ours.stdout.decode() == theirs.stdout.decode()
    assert ours.code == theirs.returncode


@pytest.mark.parametrize("target", TARGETS, ids=" ".join)
@pytest.mark.parametrize("size", ["0", "1", "1000001", "10G", "2T", "1.5M"])
def test_a_size_alone(size: str, target: tuple[str, ...]) -> None:
    theirs = qemu_img("measure", *target, "--size", size, check=False)
    ours = qcowtui("measure", *target, "--size", size)
    assert ours.stdout.decode() == theirs.stdout.decode()
    assert ours.code == theirs.returncode


@each(having="snapshots", without="encrypted hostile")
def test_a_snapshot(image: Path) -> None:
    theirs = qemu_img("measure", "-O", "qcow2", "-l", "snapshot.id=1", image, check=False)
    ours = qcowtui("measure", "-O", "qcow2", "-l", "snapshot.id=1", image)
    assert ours.code == theirs.returncode
    assert ours.stdout.decode() == theirs.stdout.decode()


def test_raw_source(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.write(b"x" * 300_000)
        file.truncate(2_000_000)
    for target in TARGETS:
        theirs = qemu_img("measure", *target, "-f", "raw", path, check=False)
        ours = qcowtui("measure", *target, "-f", "raw", path)
        assert ours.stdout.decode() == theirs.stdout.decode()
        assert ours.code == theirs.returncode


def test_as_a_whole_process(tmp_path: Path) -> None:
    theirs = qemu_img("measure", "-O", "qcow2", "--size", "1T")
    ours = qcowtui_process("measure", "-O", "qcow2", "--size", "1T")
    assert (ours.code, ours.stdout, ours.stderr) == (0, theirs.stdout, b"")
