"""Writing, zeroing, discarding and resizing beside QEMU: copies of one image, the same command.

Afterwards both show the same: the active disk, every snapshot, what `info` and `map` say (apart
from where in the file things lie), the bits of bitmaps; and our plan told what then happened.
"""

from __future__ import annotations

import json
import shutil
from contextlib import chdir
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qcow.actions.discard import Discard, Zero
from qcow.actions.resize import Resize
from qcow.actions.write import BytesSource, Write
from qcow.edit.apply import Action, apply, plan
from qcow.edit.resizing import Preallocation
from qcow.errors import EditRefused
from qcow.image.image import Image
from qcow.opening import open as open_image
from qcow.storage.gate import Gate, Policy
from tests.support.images import noise, qemu_check
from tests.support.live import nbd_server
from tests.support.qemu import guest_bytes, qemu_img, qemu_io, run
from tests.support.shared import once

pytestmark = pytest.mark.oracle

K = 1024
#: Not a multiple of a large cluster.
SIZE = 1024 * K + 3 * 512
GATE = Gate(Policy.FOLLOW)


@dataclass(frozen=True)
class Kind:
    """One kind of image: ``create -o`` options and what else it has."""

    name: str
    options: str = ""
    backing: int = 0  # bytes of the backing file
    snapshots: bool = True
    bitmaps: bool = False

    @property
    def version(self) -> int:
        return 2 if "compat=0.10" in self.options else 3

    @property
    def external(self) -> bool:
        return "data_file" in self.options


KINDS = (
    Kind("v2", "compat=0.10", snapshots=False),
    Kind("v2-snapshots", "compat=0.10"),
    Kind("v2-backing", "compat=0.10", backing=SIZE),
    Kind("v3"),
    Kind("v3-bitmaps", bitmaps=True),
    Kind("512", "cluster_size=512"),
    Kind("4k", "cluster_size=4k,refcount_bits=64", backing=SIZE // 2 & ~511),
    Kind("2M-zstd", "cluster_size=2M,compression_type=zstd", backing=3 * SIZE),
    Kind("1-bit", "refcount_bits=1", snapshots=False),
    Kind("extended", "extended_l2=on", backing=2 * SIZE),
    Kind("extended-16k", "extended_l2=on,cluster_size=16k", bitmaps=True),
    Kind("backing-larger", backing=4 * SIZE),
    Kind("data-file", "data_file=data", snapshots=False),
    Kind("data-file-extended", "data_file=data,extended_l2=on", snapshots=False),
    Kind("data-file-raw", "data_file=data,data_file_raw=on", snapshots=False),
)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def build(kind: Kind, folder: Path) -> None:
    image = folder / "image"
    chosen = ["-o", kind.options] if kind.options else []
    if kind.backing:
        qemu_img("create", "-q", "-f", "qcow2", folder / "base", str(kind.backing))
        half = kind.backing // 2 & ~511
        qemu_io(folder / "base", f"write -P 7 0 {half - 4096}", f"write -P 8 {half} {half}")
        chosen += ["-b", "base", "-F", "qcow2"]
    qemu_img("create", "-q", "-f", "qcow2", *chosen, "image", str(SIZE), cwd=folder)
    qemu_io(image, "write -P 1 0 200k", "write -P 2 600k 250000", cwd=folder)
    if kind.version >= 3:
        qemu_io(image, "write -z 300k 64k", cwd=folder)
    if not kind.external and "2M" not in kind.options:
        qemu_io(image, "write -c -P 3 448k 64k", cwd=folder)
    if kind.snapshots:
        qemu_img("snapshot", "-c", "one", image, cwd=folder)
        qemu_io(image, "write -P 4 100k 20k", f"write -P 5 {SIZE - 5000 & ~511} 512", cwd=folder)
    if kind.bitmaps:
        qemu_img("bitmap", "--add", "-g", "64k", image, "coarse")
        qemu_img("bitmap", "--add", "-g", "512", image, "fine")
        qemu_io(image, "write -P 6 128k 5000")
        qemu_img("bitmap", "--add", "--disable", image, "off")


@pytest.fixture
def pair(tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two copies of the image of ``kind``: (ours, QEMU's)."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("ours", "theirs"):
        shutil.copytree(once(f"kind-{kind.name}", partial(build, kind)), tmp_path / name)
    return tmp_path / "ours" / "image", tmp_path / "theirs" / "image"


def carry_out(image: Path, *actions: Action) -> None:
    """Each action by itself: planned, applied, and the plan compared with what happened."""
    for action in actions:
        with open_image(image) as opened:
            assert isinstance(opened, Image)
            planned = plan(action, opened, gate=GATE)
        (done,) = apply(str(image), [action], gate=GATE).plans
        assert planned == done


def told(image: Path) -> Any:
    """`info` without what says where it lies and how much of the disk it takes."""
    said = json.loads(qemu_img("info", "--output=json", image.name, cwd=image.parent).stdout)
    for name in ("actual-size", "full-backing-filename"):
        said.pop(name, None)
    return said


def mapped(image: Path) -> list[dict[str, Any]]:
    """`map` without host offsets, runs joined; "data" of places that hold zeros is left out."""
    said = json.loads(qemu_img("map", "--output=json", image.name, cwd=image.parent).stdout)
    joined: list[dict[str, Any]] = []
    for run_ in said:
        run_.pop("offset", None)
        if run_["zero"]:
            run_.pop("data")
        last = joined[-1] if joined else None
        if last and {**last, "start": 0, "length": 0} == {**run_, "start": 0, "length": 0}:
            last["length"] += run_["length"]
        else:
            joined.append(run_)
    return joined


def dirty(image: Path, bitmap: str) -> Any:
    """The runs of a bitmap, as an NBD client sees them."""
    with nbd_server(image, "-r", "-B", bitmap):
        where = (
            f"driver=nbd,server.type=unix,server.path={image}.sock,"
            f"x-dirty-bitmap=qemu:dirty-bitmap:{bitmap}"
        )
        said = json.loads(run("qemu-img", "map", "--output=json", "--image-opts", where).stdout)
    return [(r["start"], r["length"], r["data"]) for r in said]


def content(image: Path, snapshot: str | None = None) -> bytes:
    with chdir(image.parent):  # where QEMU looks for data files
        return guest_bytes(image, snapshot)


def assert_alike(ours: Path, theirs: Path, kind: Kind, *, maps: bool = True) -> None:
    with chdir(ours.parent):
        assert qemu_check(ours).code == 0
    disk = content(ours)
    assert disk == content(theirs)
    if kind.snapshots:
        # QEMU shows a snapshot with the present size.
        assert content(ours, "1") == content(theirs, "1")
    assert told(ours) == told(theirs)
    if maps:
        assert mapped(ours) == mapped(theirs)
    if "raw" in kind.options:
        assert (ours.parent / "data").read_bytes()[: len(disk)].ljust(len(disk), b"\0") == disk
    if kind.bitmaps:
        for name in ("coarse", "fine"):
            assert dirty(ours, name) == dirty(theirs, name)


def qemu_io_unmapping(image: Path, *commands: str) -> None:
    given = [part for command in commands for part in ("-c", command)]
    run("qemu-io", "-d", "unmap", *given, "-f", "qcow2", image.name, cwd=image.parent)


#: (offset, length): inside a cluster, across some, an odd range, whole clusters, the disk's end.
RANGES = (
    (70 * K + 512, 1024),
    (90 * K, 150 * K),
    (30 * K + 17, 555 * K + 1),
    (128 * K, 512 * K),
    (SIZE - 70000, 70000),
)


@each_kind
def test_write(pair: tuple[Path, Path], kind: Kind) -> None:
    ours, theirs = pair
    commands = []
    for number, (offset, length) in enumerate(RANGES):
        data = noise(number, length)
        (theirs.parent / f"pattern-{number}").write_bytes(data)
        commands.append(f"write -s pattern-{number} {offset} {length}")
        carry_out(ours, Write(offset, length, BytesSource(data)))
        assert content(ours)[offset : offset + length] == data
    qemu_io(theirs, *commands, cwd=theirs.parent)
    assert_alike(ours, theirs, kind)
    carry_out(ours, Write(0, SIZE, BytesSource(noise(9, SIZE))))
    assert content(ours) == noise(9, SIZE)


@pytest.mark.parametrize("keep", [True, False], ids=["keep", "unmap"])
@each_kind
def test_zero(pair: tuple[Path, Path], kind: Kind, keep: bool) -> None:
    ours, theirs = pair
    flag = "" if keep else "-u "
    for offset, length in RANGES:
        carry_out(ours, Zero(((offset, length),), keep_allocation=keep))
    qemu_io_unmapping(theirs, *(f"write -z {flag}{offset} {length}" for offset, length in RANGES))
    assert_alike(ours, theirs, kind)
    carry_out(ours, Zero(((1000, 5000), (0, SIZE)), keep_allocation=keep))
    assert content(ours) == bytes(SIZE)


@each_kind
def test_discard(pair: tuple[Path, Path], kind: Kind) -> None:
    ours, theirs = pair
    if kind.version < 3 and kind.backing:
        _discard_to_backing(ours)
        return
    for offset, length in RANGES:
        offset, length = offset & ~511, length & ~511
        if offset + length > SIZE - 512:
            length = SIZE - offset
        carry_out(ours, Discard(((offset, length),)))
        qemu_io_unmapping(theirs, f"discard {offset} {length}")
        assert content(ours) == content(theirs)
    assert_alike(ours, theirs, kind)


def _discard_to_backing(image: Path) -> None:
    before = image.read_bytes()
    with pytest.raises(EditRefused, match="version 2"):
        apply(str(image), [Discard(((0, SIZE),))], gate=GATE)
    assert image.read_bytes() == before
    disk, old = content(image), content(image, "1")
    base = guest_bytes(image.parent / "base")
    carry_out(image, Discard(((30 * K, 300 * K),), reveal_backing=True))
    assert content(image) == disk[: 64 * K] + base[64 * K : 320 * K] + disk[320 * K :]
    assert content(image, "1") == old
    assert qemu_check(image).code == 0


#: From one to the next: each step beside QEMU.
SIZES = (SIZE + 512, 3 * SIZE + 512, 70 << 20, 65 << 20, 333 * K, 128 * K, 128 * K, 200 * K)


@each_kind
def test_resize(pair: tuple[Path, Path], kind: Kind) -> None:
    ours, theirs = pair
    if kind.version < 3 and kind.snapshots:
        _refuse_resize(ours, theirs)
        return
    for size in SIZES:
        carry_out(ours, Resize(size, shrink=True, force=True))
        qemu_img("resize", "-q", "--shrink", "image", str(size), cwd=theirs.parent)
        disk = content(ours)
        assert len(disk) == size
        # QEMU leaves old data in the last cluster when it shrinks, and shows it when it grows.
        if size != SIZES[-1]:
            assert disk == content(theirs)
            assert told(ours) == told(theirs)
    assert disk[128 * K :] == bytes(72 * K)
    if kind.snapshots:
        with open_image(ours) as image:
            assert isinstance(image, Image)
            assert [s.disk_size for s in image.snapshots] == [SIZE]
        carry_out(ours, Resize(SIZE))
        qemu_img("resize", "-q", "image", str(SIZE), cwd=theirs.parent)
        assert content(ours, "1") == content(theirs, "1")
    assert_alike(ours, theirs, kind, maps=False)


def _refuse_resize(ours: Path, theirs: Path) -> None:
    for size in (SIZE * 2, SIZE // 2 & ~511):
        refused = qemu_img("resize", "--shrink", theirs, str(size), check=False)
        assert refused.returncode == 1
        before = ours.read_bytes()
        with pytest.raises(EditRefused, match="Can't resize a v2 image which has snapshots"):
            apply(str(ours), [Resize(size, shrink=True, force=True)], gate=GATE)
        assert ours.read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        pytest.param(kind, mode, id=f"{kind.name}-{mode}")
        for number, kind in enumerate(KINDS)
        for place, mode in enumerate(("metadata", "falloc", "full"))
        if (number + place) % 2 == 0
    ],
)
def test_preallocation(pair: tuple[Path, Path], kind: Kind, mode: Preallocation) -> None:
    ours, theirs = pair
    if kind.version < 3 and kind.snapshots:
        with pytest.raises(EditRefused, match="Can't resize a v2 image"):
            apply(str(ours), [Resize(2 * SIZE, preallocation=mode)], gate=GATE)
        return
    carry_out(ours, Resize(2 * SIZE, preallocation=mode))
    where = ("image", str(2 * SIZE))
    qemu_img("resize", "-q", f"--preallocation={mode}", *where, cwd=theirs.parent)
    assert_alike(ours, theirs, kind, maps=False)
    # All of it has its place: writing there takes no more room in the file, but for bitmaps.
    before = ours.stat().st_size
    qemu_io(ours, f"write -P 9 {SIZE} {SIZE}", cwd=ours.parent)
    assert kind.bitmaps or ours.stat().st_size == before
    assert content(ours)[SIZE:] == b"\x09" * SIZE


def test_preallocation_does_not_show_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free clusters inside the file hold old data; preallocated ones read as zeros."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    image = tmp_path / "image"
    modes: tuple[Preallocation, ...] = ("metadata", "falloc", "full")
    for mode in modes:
        image.unlink(missing_ok=True)
        qemu_img("create", "-q", "-f", "qcow2", image, "1M")
        qemu_io(image, "write -P 1 0 1M")
        apply(str(image), [Discard(((0, 512 * K),))], keep_history=False)
        apply(str(image), [Resize(2048 * K, preallocation=mode)], keep_history=False)
        assert guest_bytes(image) == bytes(512 * K) + b"\1" * (512 * K) + bytes(1024 * K)
        assert image.stat().st_size < 2200 * K  # the free clusters were used
        assert qemu_check(image).code == 0


def test_grown_again_shows_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU shrinks without clearing the rest of the last cluster; growing clears it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for options in ("compat=1.1", "compat=0.10", "extended_l2=on"):
        image = tmp_path / "image"
        qemu_img("create", "-q", "-f", "qcow2", "-o", options, image, "1M")
        qemu_io(image, "write -P 1 0 1M")
        qemu_img("resize", "-q", "--shrink", image, "100k")
        carry_out(image, Resize(1024 * K))
        assert guest_bytes(image) == b"\1" * (100 * K) + bytes(924 * K)
        carry_out(image, Resize(50 * K, shrink=True, force=True))
        qemu_img("resize", "-q", image, "1M")
        assert guest_bytes(image) == b"\1" * (50 * K) + bytes(974 * K)
        assert qemu_check(image).code == 0


def test_zeros_are_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    image = tmp_path / "image"
    data = bytes(128 * K) + b"\5" * (64 * K) + bytes(128 * K + 100)
    qemu_img("create", "-q", "-f", "qcow2", image, "1M")
    carry_out(image, Write(64 * K, len(data), BytesSource(data), detect_zeroes=True))
    assert guest_bytes(image) == bytes(64 * K) + data + bytes(1024 * K - 64 * K - len(data))
    stored = sum(r["length"] for r in mapped(image) if not r["zero"])
    assert stored <= 2 * 64 * K
