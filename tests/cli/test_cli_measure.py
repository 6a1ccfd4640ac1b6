"""``measure``: its ``-o`` lists beside qemu-img, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import qcowtui
from tests.support.images import small_builder
from tests.support.qemu import qemu_img

LISTS = [
    "cluster_size=4k", "cluster_size=64K,refcount_bits=1", "compat=0.10", "compat=1.1",
    "extended_l2=on", "extended_l2", "noextended_l2", "extended_l2=yes,cluster_size=16k",
    "preallocation=metadata", "preallocation=falloc", "lazy_refcounts=on,compression_type=zstd",
    "backing_file=a,,b,backing_fmt=raw", "data_file=x,data_file_raw=on", "encryption=on", "size=5G",
    "cluster_size=1M,cluster_size=2M", "nocow=on", "encrypt.format=aes",
]  # fmt: skip
REFUSED = [
    "", ",", "a,", ",a", "bogus=1", "cluster_size=5k", "cluster_size=4M", "cluster_size=0",
    "cluster_size=", "refcount_bits=3", "refcount_bits=128", "refcount_bits=1K", "compat=v3",
    "compat=0.10,refcount_bits=8", "extended_l2=1", "extended_l2=on,cluster_size=8k",
    "preallocation=foo", "encrypt.format=luks",
]  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("options", LISTS)
def test_lists_that_qemu_img_takes(options: str) -> None:
    argv = ("measure", "-O", "qcow2", "-o", options, "--size=10G")
    theirs = qemu_img(*argv)
    ours = qcowtui(*argv)
    assert (ours.code, ours.stdout) == (0, theirs.stdout)


@pytest.mark.oracle
@pytest.mark.parametrize("options", REFUSED)
def test_lists_that_qemu_img_refuses(options: str) -> None:
    argv = ("measure", "-O", "qcow2", "-o", options, "--size=10G")
    theirs = qemu_img(*argv, check=False)
    ours = qcowtui(*argv)
    assert ours.code == theirs.returncode == 1
    assert ours.stdout == b""
    # The first words of the first line say what is wrong; QEMU goes on about suffixes.
    words = theirs.stderr.decode().split("\n")[0].split()[1:5]
    assert ours.stderr.decode().split("\n")[0].split()[1:5] == words


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "Either --size N or one filename must be specified."),
        (("--size=1G", "x"), "--size N cannot be used together with a filename."),
        (("x", "y"), "At most one filename argument is allowed."),
        (("--size=1G", "-f", "raw"), "-f, and -l require a filename argument."),
        (("--size=8E",), "Invalid image size specified. Must be between 0 and"),
        (("-O", "vdi", "--size=1G"), "format 'vdi' cannot be measured"),
        (("-O", "raw", "-o", "cluster_size=4k", "--size=1G"), "Invalid parameter 'cluster_size'"),
        (("-O", "qcow2", "-o", "cluster_size=512", "--size=1T"), "The image size is too large"),
    ],
)
def test_requests_that_make_no_sense(argv: tuple[str, ...], said: str) -> None:
    ended = qcowtui("measure", *argv)
    assert (ended.code, ended.stdout) == (1, b"")
    assert said in ended.stderr.decode()


def test_a_damaged_mapping_is_not_measured(tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    built = small_builder(snapshot=False).write(tmp_path / "sound.qcow2")
    data = bytearray(built.read_bytes())
    l1 = int.from_bytes(data[40:48], "big")
    data[l1 : l1 + 8] = (0x8000000000000200).to_bytes(8, "big")
    image.write_bytes(data)
    ended = qcowtui("measure", "-O", "qcow2", image)
    assert (ended.code, ended.stdout) == (1, b"")
    assert b"Unable to get block status" in ended.stderr
    assert b"`qcowtui check` says how" in ended.stderr


@pytest.mark.parametrize(
    ("snapshot", "code"),
    [
        ("first", 0),
        ("1", 0),
        ("snapshot.id=1", 0),
        ("snapshot.name=first,snapshot.id=1", 0),
        ("snapshot.name=first,snapshot.id=2", 1),
        ("snapshot.foo=1", 1),
        ("second", 1),
    ],
)
def test_snapshots(snapshot: str, code: int, small: Path) -> None:
    argv = ("measure", "-O", "qcow2", "-l", snapshot, small)
    theirs = qemu_img(*argv, check=False)
    ours = qcowtui(*argv)
    assert (ours.code, ours.stdout) == (theirs.returncode, theirs.stdout)
    assert ours.code == code
