"""``create`` beside qemu-img create: the same file, byte by byte, for the same options."""

from __future__ import annotations

import itertools
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest

from qcow.image.image import Image
from qcow.image.refcounts import refcount_windows
from qcow.storage.local import open_local
from tests.support.cli import qcowtui
from tests.support.images import patch, qemu_check
from tests.support.qemu import data_ranges, qemu_img, qemu_io, qemu_json

pytestmark = pytest.mark.oracle

#: Options and the sizes each is tried with.
GROUPS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "plain": (
        ["", "compat=0.10", "compat=v3", "lazy_refcounts=on", "compression_type=zstd",
         "extended_l2=on", "extended_l2=on,cluster_size=16k,refcount_bits=1", "preallocation=off"],
        ("0", "1", "64M", "1000000", "10T"),
    ),
    "clusters": (
        [f"cluster_size={size}" for size in ("512", "1k", "4k", "8k", "256k", "2M")],
        ("3M", "3G"),
    ),
    "refcounts": (
        [f"refcount_bits={1 << order}" for order in range(7)],
        ("100M",),
    ),
    "preallocated": (
        [
            f"preallocation={mode},{more}"
            for mode, more in itertools.product(
                ("metadata", "falloc", "full"),
                ("cluster_size=64k", "cluster_size=512,refcount_bits=8", "cluster_size=2M",
                 "extended_l2=on", "compat=0.10,cluster_size=4k", "lazy_refcounts=on"),
            )
        ],
        ("0", "5000001"),
    ),
    "large": (
        ["preallocation=metadata", "preallocation=metadata,cluster_size=2M,extended_l2=on"],
        ("5G",),
    ),
}  # fmt: skip


def both(folder: Path, options: str, *more: str) -> tuple[Path, Path]:
    """The image as qemu-img makes it and as we do, in folders of their own."""
    made = []
    for maker in ("theirs", "ours"):
        place = folder / maker
        place.mkdir(exist_ok=True)
        for left in place.iterdir():
            left.unlink()
        path = place / "a.qcow2"
        argv = ["create", "-q", "-f", "qcow2", *(("-o", options) if options else ()), *more[:-1]]
        if maker == "theirs":
            qemu_img(*argv, path.name, *more[-1:], cwd=place)
        else:
            with chdir(place):
                ended = qcowtui(*argv, path.name, *more[-1:])
            assert (ended.code, ended.stdout, ended.stderr) == (0, b"", b"")
        made.append(path)
    return made[0], made[1]


def assert_same_bytes(theirs: Path, ours: Path) -> None:
    """The same length, and the same bytes wherever one of the two holds any."""
    assert theirs.stat().st_size == ours.stat().st_size
    with open(theirs, "rb") as one, open(ours, "rb") as other:
        for path in (theirs, ours):
            for start, length in data_ranges(path):
                for at in range(start, start + length, 1 << 20):
                    part = min(1 << 20, start + length - at)
                    one.seek(at)
                    other.seek(at)
                    assert one.read(part) == other.read(part), f"differ behind {at:#x}"


def wipe_free_clusters(path: Path) -> None:
    """Zeros for what nothing refers to: QEMU leaves the refcount tables there it has given up."""
    with Image(open_local(path)) as image:
        size = image.usable_geometry().cluster_size
        end = -(-path.stat().st_size // size)
        free = [
            window.first + int(number)
            for window in refcount_windows(image, 0, end)
            if window.counts is not None
            for number in np.flatnonzero(window.counts[: end - window.first] == 0)
        ]
    for cluster in free:
        patch(path, cluster * size, bytes(size))


@pytest.mark.parametrize("group", GROUPS)
def test_same_file(tmp_path: Path, group: str) -> None:
    lists, sizes = GROUPS[group]
    for options, size in itertools.product(lists, sizes):
        if size == "10T" and "cluster_size=16k" in options:
            size = "1T"
        theirs, ours = both(tmp_path, options, size)
        if size == "0":
            wipe_free_clusters(theirs)
        assert_same_bytes(theirs, ours)
        if "preallocation" in options:
            told = (("map", "--output=json"), ("info", "--output=json"))
            for argv in told[: 2 if size == "5000001" else 1]:
                one, other = (
                    [row for row in qemu_json(*argv, path.name, cwd=path.parent)
                     if row[0] != "actual-size"]
                    for path in (theirs, ours)
                )  # fmt: skip
                assert one == other, options
            assert qemu_check(ours).code == 0


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ("cluster_size=512,refcount_bits=64,preallocation=metadata", "9M"),
        ("cluster_size=512,preallocation=metadata", "20M"),
        ("cluster_size=512,refcount_bits=64,preallocation=falloc", "9M"),
        ("cluster_size=1k,refcount_bits=32,preallocation=metadata,compat=1.1", "70M"),
        ("cluster_size=512,refcount_bits=64", "3G"),
    ],
)
def test_same_file_where_the_refcount_table_moves(tmp_path: Path, options: str, size: str) -> None:
    theirs, ours = both(tmp_path, options, size)
    assert qemu_check(ours) == qemu_check(theirs)
    qemu_img("compare", theirs, ours)
    wipe_free_clusters(theirs)
    assert qemu_check(theirs).code == 0
    assert_same_bytes(theirs, ours)


@pytest.mark.parametrize("options", ["", "extended_l2=on,preallocation=metadata", "compat=0.10"])
def test_backing_file(tmp_path: Path, options: str) -> None:
    for place in ("theirs", "ours"):
        (tmp_path / place).mkdir()
    for name, format, size in (("b.qcow2", "qcow2", "30M"), ("with, comma.raw", "raw", "7M")):
        qemu_img("create", "-q", "-f", format, tmp_path / name, size)
        for more in ((), ("9M",)):
            argv = ("-b", f"../{name}", "-F", format)
            made = []
            for place, given in (("theirs", more), ("ours", more)):
                path = tmp_path / place / "a.qcow2"
                line = ("create", "-f", "qcow2", *(("-o", options) if options else ()), *argv)
                if place == "theirs":
                    said = qemu_img(*line, path, *given).stdout
                else:
                    ended = qcowtui(*line, path, *given)
                    assert (ended.code, ended.stderr) == (0, b"")
                    assert ended.stdout == said.replace(b"/theirs/", b"/ours/")
                made.append(path)
            assert_same_bytes(made[0], made[1])
            qemu_img("compare", *made)


@pytest.mark.parametrize(
    "options",
    ["data_file=d.raw", "data_file=d.raw,data_file_raw=on", "data_file=d.raw,preallocation=full",
     "data_file=d.raw,data_file_raw=on,preallocation=falloc,extended_l2=on"],
)  # fmt: skip
def test_external_data_file(tmp_path: Path, options: str) -> None:
    theirs, ours = both(tmp_path, options, "9000000")
    assert_same_bytes(theirs, ours)
    data = [path.with_name("d.raw") for path in (theirs, ours)]
    assert data[0].stat().st_size == data[1].stat().st_size >= 9000448
    # qemu-img allocates no more than the last bytes of it; here the wish is fulfilled.
    allocated = "full" in options or "falloc" in options
    assert (data[1].stat().st_blocks * 512 >= 9000448) == allocated
    for path in (theirs, ours):
        qemu_img(
            "convert", "-O", "raw", path.name, "../" + path.parent.name + ".raw", cwd=path.parent
        )
    qemu_img("compare", tmp_path / "theirs.raw", tmp_path / "ours.raw")


@pytest.mark.parametrize("options", ["", "preallocation=falloc", "preallocation=full", "nocow=off"])
def test_raw(tmp_path: Path, options: str) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    given = ("-o", options) if options else ()
    said = qemu_img("create", "-f", "raw", *given, theirs, "1000001").stdout
    ended = qcowtui("create", *given, ours, "1000001")
    assert (ended.code, ended.stdout) == (0, said.replace(b"/theirs", b"/ours"))
    assert theirs.read_bytes() == ours.read_bytes()
    assert theirs.stat().st_blocks == ours.stat().st_blocks


def test_qemu_writes_to_it(tmp_path: Path) -> None:
    for options in ("", "cluster_size=512,refcount_bits=64", "extended_l2=on"):
        path = tmp_path / "a.qcow2"
        ended = qcowtui("create", "-q", "-f", "qcow2", *(("-o", options) if options else ()),
                        path, "20M")  # fmt: skip
        assert ended.code == 0
        qemu_io(path, "write -P 7 1M 3M", "write -P 9 19M 1M", "read -P 7 1M 3M", "read -P 0 0 1M")
        assert qemu_check(path).code == 0
        qemu_img("snapshot", "-c", "s", path)
        assert qemu_check(path).code == 0
