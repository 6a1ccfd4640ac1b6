"""The demo's sample set: always the same bytes, sound where it should be, and small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from qcowtui.samples import demo_others, demo_web
from qcowtui.samples.builder import ImageBuilder
from qcowtui.samples.content import piece
from qcowtui.samples.demo_set import MAIN_IMAGE, write_demo_set
from tests.support.images import assert_qemu_reads, qemu_check, sha256, write_raw
from tests.support.qemu import qemu_img, qemu_json

CLEAN: dict[str, Callable[[], ImageBuilder]] = {
    "web01.qcow2": demo_web.web,
    "web02.qcow2": demo_web.sibling,
    "web-template.qcow2": demo_web.template,
    "debian-12-base.qcow2": demo_web.base,
    "db-fragmented.qcow2": demo_others.fragmented,
    "backup-compressed.qcow2": demo_others.compressed,
    "untrusted-upload.qcow2": demo_others.untrusted,
}
#: Image -> (corruptions, leaks).
DAMAGED = {
    "mail-leaks.qcow2": (0, 32),
    "files-corrupt.qcow2": (22, 2),
    "laptop-unclean.qcow2": (8, 0),
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo_set(folder)
    return folder


def alone(image: Path) -> str:
    """A name for qemu-img that makes it leave the backing file alone."""
    file = {"driver": "file", "filename": str(image)}
    return "json:" + json.dumps({"driver": "qcow2", "file": file, "backing": None})


def test_the_same_bytes_in_every_process(demo: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    script = (
        "import sys, pathlib; from qcowtui.samples.demo_set import write_demo_set; "
        "write_demo_set(pathlib.Path(sys.argv[1])); "
        "print([m for m in ('numpy', 'rich', 'textual') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, again],
        env={
            **os.environ,
            "PYTHONHASHSEED": "77",
            "TZ": "Asia/Tokyo",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
    names = sorted(path.name for path in demo.iterdir())
    assert names == sorted([*CLEAN, *DAMAGED])
    assert names == sorted(path.name for path in again.iterdir())
    for name in names:
        assert sha256(demo / name) == sha256(again / name), name
        assert (demo / name).stat().st_mtime_ns == (again / name).stat().st_mtime_ns


def test_what_is_there_stays(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "db-fragmented.qcow2").write_bytes(b"mine")
    written = write_demo_set(tmp_path)
    assert written[0] == tmp_path / MAIN_IMAGE
    assert all(path.exists() for path in written)
    assert (tmp_path / "db-fragmented.qcow2").read_bytes() == b"mine"
    assert sha256(tmp_path / MAIN_IMAGE) == sha256(demo / MAIN_IMAGE)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(p.name for p in written)


def test_it_is_small(demo: Path) -> None:
    assert sum(path.stat().st_blocks * 512 for path in demo.iterdir()) < 60 << 20


@pytest.mark.oracle
@pytest.mark.parametrize("name", CLEAN)
def test_sound_images_are_sound(demo: Path, name: str) -> None:
    check = qemu_check(alone(demo / name))
    assert (check.code, check.corruptions, check.leaks, check.check_errors) == (0, 0, 0, 0)


@pytest.mark.oracle
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_images_are_damaged_as_meant(demo: Path, name: str) -> None:
    check = qemu_check(demo / name)
    assert (check.corruptions, check.leaks) == DAMAGED[name]
    assert check.check_errors == 0


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["db-fragmented.qcow2", "backup-compressed.qcow2"])
def test_single_images_read_back(demo: Path, name: str) -> None:
    assert_qemu_reads(demo / name, CLEAN[name]().model)


@pytest.mark.oracle
def test_the_chain_reads_back_in_every_state(demo: Path, tmp_path: Path) -> None:
    base = write_raw(demo_web.base().model, tmp_path / "base.raw")
    template = write_raw(demo_web.template().model, tmp_path / "template.raw", below=base)
    assert_qemu_reads(demo / "web02.qcow2", demo_web.sibling().model, below=template)
    web = demo_web.web().model
    for snapshot in (None, *web.snapshots):
        assert_qemu_reads(demo / MAIN_IMAGE, web, snapshot, below=template)


@pytest.mark.oracle
def test_the_chain_has_three_layers_of_falling_age(demo: Path) -> None:
    layers = [
        dict(pairs)
        for pairs in qemu_json("info", "--output=json", "--backing-chain", demo / MAIN_IMAGE)
    ]
    files = [Path(layer["filename"]).name for layer in layers]
    assert files == ["web01.qcow2", "web-template.qcow2", "debian-12-base.qcow2"]
    assert [layer.get("backing-filename-format") for layer in layers] == ["qcow2", "qcow2", None]
    ages = [(demo / name).stat().st_mtime for name in files]
    assert ages == sorted(ages, reverse=True)


def test_the_main_image_has_something_of_everything() -> None:
    builder = demo_web.web()
    model = builder.model
    sizes = {
        snapshot.name.decode(): model.exclusive_clusters(snapshot) for snapshot in model.snapshots
    }
    assert list(sizes) == ["clean-install", "before-update", "after-update", "test"]
    # Four sizes that differ clearly, tables (an L1 and some L2) aside.
    assert sizes["clean-install"] > 2 * sizes["before-update"] > 4 * sizes["after-update"] > 100
    assert model.exclusive_clusters() > 500
    assert [s.vm_state_size > 0 for s in model.snapshots] == [False, False, False, True]
    image = builder.build()
    counts = [image.refcount(cluster) for cluster in range(image.nb_clusters)]
    end = max(cluster for cluster, count in enumerate(counts) if count) + 1
    assert image.nb_clusters - end == 96
    assert counts[:end].count(0) > 200
    assert max(counts) > 10  # compressed clusters that share a host cluster
    kinds = {entry >> 62 & 1: 0 for entry in (0, 1 << 62)}
    zero = 0
    for _, _, entry in image.l2_entries():
        kinds[entry >> 62 & 1] += 1
        zero += entry & 1 and entry > 1
    assert min(kinds[0], kinds[1], zero) > 100


def test_the_upload_is_hostile(demo: Path) -> None:
    raw = (demo / "untrusted-upload.qcow2").read_bytes()
    assert b"/etc/shadow" in raw[:65536]
    for part in (b"\x1b[31m", b"[@click=app.quit]x[/]", "\u202e".encode()):
        assert part in demo_others.HOSTILE_NAME
    assert demo_others.HOSTILE_NAME in raw


def test_the_partition_table_is_right(demo: Path, tmp_path: Path) -> None:
    qemu_img("convert", "-O", "raw", demo / MAIN_IMAGE, tmp_path / "disk.raw")
    size = (tmp_path / "disk.raw").stat().st_size
    with open(tmp_path / "disk.raw", "rb") as disk:
        for sector in (1, size // 512 - 1):
            disk.seek(sector * 512)
            header = bytearray(disk.read(92))
            assert header[:8] == b"EFI PART"
            told = int.from_bytes(header[16:20], "little")
            header[16:20] = bytes(4)
            assert zlib.crc32(header) == told
            disk.seek(int.from_bytes(header[72:80], "little") * 512)
            assert zlib.crc32(disk.read(128 * 128)) == int.from_bytes(header[88:92], "little")
        disk.seek((128 << 20) + 1024 + 56)
        assert disk.read(2) == b"\x53\xef"  # ext4


@pytest.mark.parametrize(
    "kind",
    ["log", "access", "config", "html", "sql", "mail", "binary", "noise",
     "superblock", "inodes", "directory", "memory"],
)  # fmt: skip
def test_content_is_as_long_as_asked_and_differs(kind: str) -> None:
    for size in (1, 511, 4096, 65536, 600000):
        assert len(piece(kind, 3, size)) == size
    assert piece(kind, 3, 8192) == piece(kind, 3, 8192) != piece(kind, 4, 8192)
    assert len(set(piece(kind, 3, 8192))) > 20
