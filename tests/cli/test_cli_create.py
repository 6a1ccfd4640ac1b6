"""``create``: what it says and refuses beside qemu-img, and what it leaves when it does not end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import pytest

from tests.support.cli import qcowtui
from tests.support.devices import is_real, loop_device
from tests.support.images import qemu_check, sha256
from tests.support.qemu import qemu_img, qemu_io

REFUSED = [
    ("-f", "qcow2", "a"),
    ("-f", "qcow2", "a", "abc"),
    ("-f", "qcow2", "a", "8E"),
    ("-f", "qcow2", "-o", "size=1M", "a", "1M"),
    ("-f", "qcow2", "-o", "size=-1", "a"),
    ("-f", "qcow2", "-b", "base.qcow2", "a"),
    ("-f", "qcow2", "-b", "none", "-F", "raw", "a"),
    ("-f", "qcow2", "-b", "none", "-F", "raw", "a", "1M"),
    ("-f", "qcow2", "-u", "-b", "none", "a", "1M"),
    ("-f", "qcow2", "-u", "-b", "none", "-F", "raw", "a"),
    ("-f", "qcow2", "-u", "-b", "none", "-F", "bogus", "a", "1M"),
    ("-f", "qcow2", "-b", "a", "-F", "qcow2", "a"),
    ("-f", "qcow2", "-b", "", "-F", "qcow2", "a"),
    ("-f", "qcow2", "-F", "qcow2", "a", "1M"),
    ("-f", "raw", "-b", "base.qcow2", "-F", "qcow2", "a"),
    ("-f", "raw", "-o", "preallocation=metadata", "a", "1M"),
    ("-f", "raw", "-o", "preallocation=foo", "a", "1M"),
    ("-f", "raw", "-o", "cluster_size=4k", "a", "1M"),
    ("-f", "bogus", "a", "1M"),
    ("-f", "dmg", "a", "1M"),
    ("-f", "qcow2", "a", "1M", "x"),
    (),
    ("-f", "qcow2", "-o", "bogus=1", "a", "1M"),
    ("-f", "qcow2", "-o", "cluster_size=3k", "a", "1M"),
    ("-f", "qcow2", "-o", "cluster_size=4M", "a", "1M"),
    ("-f", "qcow2", "-o", "cluster_size=abc", "a", "1M"),
    ("-f", "qcow2", "-o", "refcount_bits=3", "a", "1M"),
    ("-f", "qcow2", "-o", "refcount_bits=abc", "a", "1M"),
    ("-f", "qcow2", "-o", "compat=0.10,refcount_bits=1", "a", "1M"),
    ("-f", "qcow2", "-o", "compat=0.10,lazy_refcounts=on", "a", "1M"),
    ("-f", "qcow2", "-o", "compat=0.10,extended_l2=on", "a", "1M"),
    ("-f", "qcow2", "-o", "compat=0.10,compression_type=zstd", "a", "1M"),
    ("-f", "qcow2", "-o", "compat=0.10,data_file=d.raw", "a", "1M"),
    ("-f", "qcow2", "-o", "compat=2", "a", "1M"),
    ("-f", "qcow2", "-o", "extended_l2=on,cluster_size=8k", "a", "1M"),
    ("-f", "qcow2", "-o", "extended_l2=foo", "a", "1M"),
    ("-f", "qcow2", "-o", "compression_type=lz4", "a", "1M"),
    ("-f", "qcow2", "-o", "preallocation=foo", "a", "1M"),
    ("-f", "qcow2", "-o", "preallocation=metadata", "-b", "base.qcow2", "-F", "qcow2", "a"),
    ("-f", "qcow2", "-o", "data_file_raw=on", "a", "1M"),
    ("-f", "qcow2", "-o", "data_file=", "a", "1M"),
    ("-f", "qcow2", "-o", "data_file=d,data_file_raw=on", "-b", "base.qcow2", "-F", "qcow2", "a"),
    ("-f", "qcow2", "-o", "cluster_size=512", "a", "1P"),
    ("-f", "qcow2", "nodir/a", "1M"),
    ("-f", "qcow2", "-o", ",", "a", "1M"),
    ("--output=xml", "a", "1M"),
]  # fmt: skip
SAID = [
    ("-f", "qcow2", "a", "1025"),
    ("-f", "qcow2", "-o", "compat=v2,preallocation=off", "a", "1.5M"),
    ("-f", "qcow2", "-o", "size=5M,nocow=off,extent_size_hint=0,lazy_refcounts", "a"),
    ("-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "a"),
    ("-f", "qcow2", "-o", "backing_file=with,,comma.raw,backing_fmt=raw", "a"),
    ("-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "-o", "backing_file=none", "a"),
    ("-f", "qcow2", "-u", "-b", "none", "-F", "vmdk", "a", "1M"),
    ("-f", "qcow2", "-o", "data_file=d.raw,data_file_raw=on,refcount_bits=1", "a,b c", "1M"),
    ("-f", "raw", "-o", "nocow=off,size=1k", "a"),
    ("a", "1M"),
    ("-q", "a", "1M"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "base.qcow2", "3M")
    qemu_img("create", "-q", "-f", "raw", tmp_path / "with,comma.raw", "2M")
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.oracle
@pytest.mark.parametrize("argv", REFUSED, ids=" ".join)
def test_refusals_in_qemus_words(folder: Path, argv: tuple[str, ...]) -> None:
    before = names(folder)
    with chdir(folder):
        ours = qcowtui("create", *argv)
        assert names(folder) == before
        theirs = qemu_img("create", *argv, check=False)
    # What the file system refuses is found out later, by both.
    assert (ours.code, ours.stdout) == (1, theirs.stdout if "nodir/a" in argv else b"")
    if "--output=xml" in argv:  # qemu-img create has no such option
        assert b"--output must be used" in ours.stderr
        return
    first = theirs.stderr.decode().split("\n")[0].removeprefix("qemu-img: ")
    assert ours.stderr.decode().split("\n")[0] == f"qcowtui: {first}"


@pytest.mark.oracle
@pytest.mark.parametrize("argv", SAID, ids=" ".join)
def test_the_same_line_as_qemu_img(folder: Path, argv: tuple[str, ...]) -> None:
    with chdir(folder):
        theirs = qemu_img("create", *argv)
        ours = qcowtui("create", *argv)
    assert (ours.code, ours.stdout, ours.stderr) == (0, theirs.stdout, b"")


def test_dry_run_and_json(folder: Path) -> None:
    argv = ("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "-o", "cluster_size=4k")
    path = folder / "a b.qcow2"
    before = names(folder)
    dry = qcowtui(*argv, "--dry-run", path)
    assert dry.code == 0
    assert b"Nothing was written" in dry.stdout
    told = json.loads(qcowtui(*argv, "--dry-run", "--output=json", path).stdout)
    assert names(folder) == before
    made = json.loads(qcowtui(*argv, "--output=json", path).stdout)
    assert {**made, "dry-run": True} == told
    assert path.stat().st_size == told["file-length-after"]
    assert told["virtual-size"] == 3 << 20
    # The command that it names makes the same file.
    first = sha256(path)
    path.unlink()
    done = subprocess.run(
        ["sh", "-c", told["command"].replace("qcowtui", f"{sys.executable} -m qcowtui", 1)],
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert sha256(path) == first
    again = json.loads(qcowtui(*argv, "--dry-run", "--output=json", path).stdout)
    assert again["warnings"] == [f"'{path}' exists and is replaced."]


def test_help_lists_the_options() -> None:
    for format in ("qcow2", "raw"):
        ended = qcowtui("create", "-f", format, "-o", "help")
        assert ended.code == 0
        theirs = qemu_img("create", "-f", format, "-o", "help", "x").stdout.decode()
        listed = [line.split("=")[0] for line in theirs.split("\n") if "=<" in line]
        mine = [line.split("=")[0] for line in ended.stdout.decode().split("\n") if "=<" in line]
        assert mine == [name for name in listed if "encr" not in name]


def test_an_image_in_use_stays(folder: Path) -> None:
    path = folder / "base.qcow2"
    before = sha256(path)
    holder = subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        holder.stdout.read(8)  # the prompt: it is open
        for format in ("qcow2", "raw"):
            ended = qcowtui("create", "-q", "-f", format, path, "1M")
            assert ended.code == 1
            assert b"lock" in ended.stderr
        assert names(folder) == ["base.qcow2", "with,comma.raw"]
    finally:
        holder.communicate()
    assert sha256(path) == before
    assert qcowtui("create", "-q", "-f", "qcow2", path, "1M").code == 0


def test_what_is_there_gives_way(folder: Path) -> None:
    path, link = folder / "base.qcow2", folder / "link"
    path.chmod(0o640)
    link.symlink_to("base.qcow2")
    assert qcowtui("create", "-q", "-f", "qcow2", link, "7M").code == 0
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert json.loads(qcowtui("info", "--output=json", path).stdout)["virtual-size"] == 7 << 20
    os.mkfifo(folder / "fifo")
    for name, said in (("fifo", b"a FIFO"), (".", b"a directory")):
        ended = qcowtui("create", "-q", "-f", "qcow2", folder / name, "1M")
        assert ended.code == 1
        assert said in ended.stderr


def test_a_relative_data_file_means_one_file(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    argv = ("create", "-q", "-f", "qcow2", "-o", "data_file=d.raw", folder / "a", "1M")
    with chdir(tmp_path_factory.mktemp("elsewhere")):
        ended = qcowtui(*argv)
        assert (ended.code, names(Path())) == (1, [])
        assert b"work in the image's folder" in ended.stderr
    with chdir(folder):
        assert qcowtui(*argv).code == 0
        assert qemu_check(folder / "a").code == 0
        own = qcowtui("create", "-f", "qcow2", "-o", "data_file=./a", "a", "1M")
        assert b"own data file" in own.stderr


def test_no_room_leaves_what_was_there(folder: Path) -> None:
    """The file size limit of the process stands for a full disk: both fail in the middle."""
    path = folder / "base.qcow2"
    before, listed = sha256(path), names(folder)
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))\n"
        "from qcowtui.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    for options in ("preallocation=full", "preallocation=falloc", "preallocation=metadata"):
        done = subprocess.run(
            [sys.executable, "-c", script, "create", "-f", "qcow2", "-o", options, str(path), "9M"],
            capture_output=True,
        )
        assert done.returncode == 1
        assert b"Could not" in done.stderr
        assert (sha256(path), names(folder)) == (before, listed)


def test_killed_at_any_time_leaves_the_old_or_the_new(folder: Path) -> None:
    path = folder / "base.qcow2"
    seen = set()
    for step in range(12):
        qemu_img("create", "-q", "-f", "qcow2", path, "3M")
        qemu_io(path, "write -P 5 0 1M")
        old = sha256(path)
        process = subprocess.Popen(
            [sys.executable, "-m", "qcowtui", "create", "-q", "-f", "qcow2", "-o",
             "preallocation=full", str(path), "64M"],
        )  # fmt: skip
        deadline = time.monotonic() + 30
        # Half the kills come once the hidden file is there, the others at odd moments.
        while step % 2 and not list(folder.glob(".base*")) and process.poll() is None:
            assert time.monotonic() < deadline
        time.sleep(0.008 * step)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert qemu_check(path).code == 0
        size = json.loads(qcowtui("info", "--output=json", path).stdout)["virtual-size"]
        assert size in (3 << 20, 64 << 20)
        assert (size == 3 << 20) == (sha256(path) == old)
        seen.add(size)
        for left in folder.glob(".base*"):
            left.unlink()
    assert 3 << 20 in seen


def test_a_block_device_is_written_in_place(tmp_path: Path) -> None:
    file = tmp_path / "device"
    file.write_bytes(b"\xa5" * (8 << 20))
    with loop_device(file) as device:
        ended = qcowtui("create", "-f", "qcow2", device, "1G")
        assert (ended.code, ended.stderr) == (0, b"")
        if is_real(device):
            assert qemu_check(device).code == 0
        assert qcowtui("check", device).code == 0
        small = qcowtui("create", "-f", "qcow2", "-o", "preallocation=full", device, "1G")
        assert small.code == 1
        assert b"the image needs" in small.stderr
        assert qcowtui("check", device).code == 0
    assert file.stat().st_size == 8 << 20
