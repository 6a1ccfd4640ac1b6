"""Our writer and the real QEMU programs, both ways, on one image and on the image below another."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from qcow.chain.following import open_chain
from qcow.edit.locking import WriteAccess, lock_for_writing
from qcow.errors import LockedError
from qcow.opening import open as open_image
from qcow.storage.gate import Gate
from tests.support.live import io_command, io_session, nbd_server
from tests.support.qemu import qemu_img, run

pytestmark = pytest.mark.oracle

IMAGE, TOP, RAW = "image.qcow2", "top.qcow2", "other.raw"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``image.qcow2``, ``top.qcow2`` on it, and a raw file as large."""
    qemu_img("create", "-q", "-f", "qcow2", IMAGE, "1M", cwd=tmp_path)
    qemu_img("create", "-q", "-f", "qcow2", "-b", IMAGE, "-F", "qcow2", TOP, cwd=tmp_path)
    qemu_img("create", "-q", "-f", "raw", RAW, "1M", cwd=tmp_path)
    return tmp_path


#: What QEMU may not do while we hold IMAGE for writing.
REFUSED = [
    f"qemu-img {line}"
    for line in (
        f"info {IMAGE}",
        f"info --backing-chain {TOP}",
        f"check {IMAGE}",
        f"check -U {IMAGE}",
        f"check -r leaks {IMAGE}",
        f"map {IMAGE}",
        f"map -U {IMAGE}",
        f"measure -O qcow2 {IMAGE}",
        f"measure -U -O qcow2 {IMAGE}",
        f"compare {IMAGE} {RAW}",
        f"compare -U {IMAGE} {RAW}",
        f"convert -O raw {IMAGE} new.raw",
        f"convert -U -O raw {IMAGE} new.raw",
        f"convert -n -O qcow2 {RAW} {IMAGE}",
        f"convert -O qcow2 {RAW} {IMAGE}",
        f"dd -U if={IMAGE} of=new.raw",
        f"snapshot -l {IMAGE}",
        f"snapshot -l -U {IMAGE}",
        f"snapshot -c one {IMAGE}",
        f"snapshot -c one {TOP}",
        f"resize {IMAGE} 2M",
        f"amend -f qcow2 -o lazy_refcounts=on {IMAGE}",
        f"bitmap --add {IMAGE} one",
        f"rebase -u -b nothing -F raw {IMAGE}",
        f"rebase -f qcow2 -F qcow2 -b {IMAGE} {TOP}",
        f"commit {TOP}",
        f"create -f qcow2 {IMAGE} 1M",
        f"create -f raw {IMAGE} 1M",
        f"check {TOP}",
        f"map {TOP}",
        f"convert -O raw {TOP} new.raw",
        f"bench -U {IMAGE}",
    )
] + [
    f"qemu-io -c length {IMAGE}",
    f"qemu-io -r -c length {IMAGE}",
    f"qemu-io -r -U -c length {IMAGE}",
    f"qemu-io -f raw -c length {IMAGE}",
    f"qemu-io -c length {TOP}",
    f"qemu-nbd --socket={{folder}}/sock -f qcow2 {IMAGE}",
    f"qemu-nbd --socket={{folder}}/sock -f qcow2 -r {IMAGE}",
    f"qemu-nbd --socket={{folder}}/sock -f qcow2 {TOP}",
]

#: What it may: nothing of the image's contents is read, beyond its header.
ALLOWED = [
    f"qemu-img info -U {IMAGE}",
    f"qemu-img info -U --backing-chain {TOP}",
    f"qemu-img info {TOP}",
    f"qemu-img create -q -f qcow2 -b {IMAGE} -F qcow2 new.qcow2",
    f"qemu-img compare {RAW} {RAW}",
]


def attempt(line: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    program, *arguments = line.format(folder=folder).split()
    return run(program, *arguments, check=False, cwd=folder)


class TestWhileWeWrite:
    @pytest.mark.parametrize("line", REFUSED)
    def test_qemu_is_refused(self, folder: Path, line: str) -> None:
        before = (folder / IMAGE).read_bytes()
        with lock_for_writing(str(folder / IMAGE)):
            done = attempt(line, folder)
            assert done.returncode != 0
            assert b"lock\nIs another process using the image" in done.stderr
        assert (folder / IMAGE).read_bytes() == before

    @pytest.mark.parametrize("line", ALLOWED)
    def test_qemu_goes_on(self, folder: Path, line: str) -> None:
        with lock_for_writing(str(folder / IMAGE)):
            assert attempt(line, folder).returncode == 0

    @pytest.mark.parametrize(
        "line", [line for line in REFUSED if "nbd" not in line and "rebase -u" not in line][::4]
    )
    def test_afterwards_it_may(self, folder: Path, line: str) -> None:
        lock_for_writing(str(folder / IMAGE)).close()
        assert b" lock\n" not in attempt(line, folder).stderr

    @pytest.mark.parametrize(
        ("line", "allowed"),
        [
            (f"qemu-img check {IMAGE}", True),
            (f"qemu-img convert -O raw {IMAGE} new.raw", True),
            (f"qemu-io -r -c length {IMAGE}", True),
            (f"qemu-io -c length {IMAGE}", False),
            (f"qemu-img snapshot -c one {IMAGE}", False),
            (f"qemu-img commit {TOP}", False),
            (f"qemu-img check {TOP}", False),
        ],
    )
    def test_the_image_below_is_as_if_read(self, folder: Path, line: str, allowed: bool) -> None:
        with chain_held(folder):
            assert (attempt(line, folder).returncode == 0) == allowed

    def test_and_held_for_writing_where_it_is_asked_for(self, folder: Path) -> None:
        with chain_held(folder, also=[1]) as access:
            assert set(access.layers) == {0, 1}
            access.layers[1].write(1 << 20, b"x")
            assert attempt(f"qemu-img check {IMAGE}", folder).returncode == 1
        assert (folder / IMAGE).stat().st_size == (1 << 20) + 1


@contextlib.contextmanager
def chain_held(folder: Path, also: Collection[int] = ()) -> Iterator[WriteAccess]:
    """TOP held for writing with its chain, which stays open in this process as on a screen."""
    path = str(folder / TOP)
    with (
        contextlib.closing(open_image(path)) as image,
        open_chain(image, Gate.own_folder()) as chain,
        lock_for_writing(path, chain=chain, also=also) as access,
    ):
        assert access.report.unlocked == ()
        yield access


@contextlib.contextmanager
def unlocked_session(image: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """qemu-io that has the image open with locking switched off."""
    where = f"driver=qcow2,file.driver=file,file.filename={image},file.locking=off"
    session = subprocess.Popen(
        ["qemu-io", *options, "--image-opts", where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        io_command(session, "length")
        yield session
    finally:
        session.kill()
        session.communicate()


Holding = Callable[[Path], AbstractContextManager[subprocess.Popen[bytes]]]

#: Who may hold IMAGE, and whether that keeps our writer out.
HOLDERS: dict[str, tuple[Holding, bool]] = {
    "qemu-nbd": (lambda folder: nbd_server(folder / IMAGE), True),
    "qemu-nbd -r": (lambda folder: nbd_server(folder / IMAGE, "-r"), True),
    "qemu-nbd -s": (lambda folder: nbd_server(folder / IMAGE, "-s"), True),
    "qemu-nbd as raw": (lambda folder: nbd_server(folder / IMAGE, fmt="raw"), True),
    "qemu-nbd of the image above": (lambda folder: nbd_server(folder / TOP), True),
    "qemu-nbd -r of the image above": (lambda folder: nbd_server(folder / TOP, "-r"), True),
    "qemu-io": (lambda folder: io_session(folder / IMAGE), True),
    "qemu-io -r": (lambda folder: io_session(folder / IMAGE, "-r"), True),
    "qemu-io -r -U": (lambda folder: io_session(folder / IMAGE, "-r", "-U"), True),
    "qemu-io of the image above": (lambda folder: io_session(folder / TOP), True),
    "qemu-io -r -U above": (lambda folder: io_session(folder / TOP, "-r", "-U"), True),
    "qemu-io without locks": (lambda folder: unlocked_session(folder / IMAGE), True),
    "qemu-io -r without locks": (lambda folder: unlocked_session(folder / IMAGE, "-r"), False),
    "qemu-nbd of another file": (lambda folder: nbd_server(folder / RAW, fmt="raw"), False),
}


class TestWhileQemuHoldsIt:
    @pytest.mark.parametrize("who", HOLDERS)
    def test_we_are_refused_or_not(self, folder: Path, who: str) -> None:
        holding, refused = HOLDERS[who]
        path = str(folder / IMAGE)
        with holding(folder) as process:
            if not refused:
                with lock_for_writing(path) as access:
                    readers = [holder.pid for holder in access.report.readers]
                    assert readers == ([process.pid] if "-r" in who else [])
            else:
                with pytest.raises(LockedError) as caught:
                    lock_for_writing(path)
                if "without" in who:
                    named = f"by qemu-io (process {process.pid})"
                    assert str(caught.value).endswith(f"open for writing without a lock, {named}.")
                else:
                    assert f"Is another process using the image [{path}]?" in str(caught.value)
        # It was killed: the kernel let go of its locks.
        lock_for_writing(path).close()

    @pytest.mark.parametrize("who", ["qemu-nbd", "qemu-io"])
    def test_a_refused_writer_left_nothing(self, folder: Path, who: str) -> None:
        with HOLDERS[who][0](folder), pytest.raises(LockedError):
            lock_for_writing(str(folder / IMAGE))
        assert attempt(f"qemu-io -c length {IMAGE}", folder).returncode == 0

    @pytest.mark.parametrize("who", ["qemu-nbd", "qemu-io", "qemu-nbd as raw"])
    def test_a_chain_with_a_writer_below_is_refused(self, folder: Path, who: str) -> None:
        with HOLDERS[who][0](folder), pytest.raises(LockedError), chain_held(folder):
            pass
        with chain_held(folder):
            pass

    @pytest.mark.parametrize("who", ["qemu-nbd -r", "qemu-io -r", "qemu-io -r -U"])
    def test_readers_below_are_no_matter(self, folder: Path, who: str) -> None:
        with HOLDERS[who][0](folder), chain_held(folder):
            pass

    @pytest.mark.parametrize("who", ["qemu-nbd -r", "qemu-io -r", "qemu-io -r -U"])
    def test_except_of_a_base_that_is_written(self, folder: Path, who: str) -> None:
        with HOLDERS[who][0](folder), pytest.raises(LockedError), chain_held(folder, also=[1]):
            pass
        assert attempt(f"qemu-io -c length {TOP}", folder).returncode == 0

    def test_the_message_is_that_of_qemu(self, folder: Path) -> None:
        path = os.fspath(folder / IMAGE)
        with nbd_server(folder / IMAGE):
            theirs = run("qemu-io", "-f", "qcow2", "-c", "length", path, check=False)
            with pytest.raises(LockedError) as caught:
                lock_for_writing(path)
        said = (theirs.stdout + theirs.stderr).decode()
        assert str(caught.value) in said
        assert str(caught.value).startswith('Failed to get "write" lock\n')
