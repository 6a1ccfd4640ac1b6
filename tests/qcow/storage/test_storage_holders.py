"""Naming the processes that have an image open."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qcow.errors import StorageError
from qcow.storage.holders import Holder, holders
from qcow.storage.local import open_local
from tests.support.devices import is_real, loop_device
from tests.support.live import io_session, nbd_server, wait_until
from tests.support.qemu import qemu_img


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    return path


@contextmanager
def opened_elsewhere(path: Path, *modes: str) -> Iterator[int]:
    """The pid of a process that has ``path`` open once for each of ``modes`` (of ``open``)."""
    code = (
        "import sys; path, *modes = sys.argv[1:]; files = [open(path, mode) for mode in modes]; "
        "print('open', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path), *modes],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@pytest.mark.oracle
class TestQemu:
    def test_the_writer_is_named(self, image: Path) -> None:
        with nbd_server(image) as server:
            assert holders(image)[0] == [Holder(server.pid, "qemu-nbd", writing=True)]

    def test_a_reader_too(self, image: Path) -> None:
        with nbd_server(image, "-r") as server, io_session(image, "-r") as session:
            found, _ = holders(image)
            assert found == sorted(
                [
                    Holder(server.pid, "qemu-nbd", writing=False),
                    Holder(session.pid, "qemu-io", writing=False),
                ],
                key=lambda holder: holder.pid,
            )

    def test_the_backing_file_is_only_read(self, image: Path, tmp_path: Path) -> None:
        overlay = tmp_path / "overlay.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", overlay)
        with nbd_server(overlay) as server:
            assert holders(overlay)[0] == [Holder(server.pid, "qemu-nbd", writing=True)]
            assert holders(image)[0] == [Holder(server.pid, "qemu-nbd", writing=False)]

    def test_its_end_is_seen(self, image: Path) -> None:
        with nbd_server(image) as server:
            assert holders(image)[0]
            server.kill()
            assert wait_until(lambda: not holders(image)[0]) < 2

    def test_found_without_any_lock(self, image: Path) -> None:
        options = f"driver=qcow2,file.driver=file,file.filename={image},file.locking=off"
        server = subprocess.Popen(
            ["qemu-nbd", "-t", "--socket", f"{image}.sock", "--image-opts", options],
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: bool(holders(image)[0]))
            wait_until(lambda: holders(image)[0][0].writing)
            assert [holder.pid for holder in holders(image)[0]] == [server.pid]
        finally:
            server.kill()
            server.wait()


class TestProcesses:
    @pytest.mark.parametrize(
        ("modes", "writing"),
        [
            (["rb"], False),
            (["r+b"], True),
            (["ab"], True),
            (["rb", "r+b"], True),
            (["r+b", "rb"], True),
            (["rb", "rb"], False),
        ],
    )
    def test_for_reading_or_writing(self, image: Path, modes: list[str], writing: bool) -> None:
        with opened_elsewhere(image, *modes) as pid:
            found, _ = holders(image)
            assert [(holder.pid, holder.writing) for holder in found] == [(pid, writing)]
        assert holders(image)[0] == []

    def test_by_identity_and_by_any_name(self, image: Path, tmp_path: Path) -> None:
        (tmp_path / "hard").hardlink_to(image)
        (tmp_path / "soft").symlink_to(image)
        with opened_elsewhere(image, "rb") as pid, open_local(image) as file:
            for target in (
                str(image),
                os.fsencode(image),
                tmp_path / "hard",
                tmp_path / "soft",
                file.identity(),
            ):
                assert [holder.pid for holder in holders(target)[0]] == [pid]

    def test_a_file_that_was_deleted_meanwhile(self, image: Path) -> None:
        with opened_elsewhere(image, "rb") as pid, open_local(image) as file:
            image.unlink()
            assert [holder.pid for holder in holders(file.identity())[0]] == [pid]

    def test_this_process_is_not_listed(self, image: Path) -> None:
        with image.open("r+b"):
            assert holders(image)[0] == []

    def test_a_path_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match=r"Could not look at '.*/a\\x1b': No such file"):
            holders(tmp_path / "a\x1b")
        with pytest.raises(StorageError, match="no file name"):
            holders("a\0b")

    def test_names_of_programs_are_whole_and_harmless(self, image: Path, tmp_path: Path) -> None:
        # The kernel keeps 15 bytes of a name; a storage daemon's is longer.
        long, hostile = tmp_path / "qemu-storage-daemon", tmp_path / "evil\x1b[31m"
        for program in (long, hostile):
            shutil.copy("/bin/sleep", program)
            with image.open("rb") as file:
                holding = subprocess.Popen([program, "60"], stdin=file)
            try:  # Popen returns once the program runs
                found, _ = holders(image)
            finally:
                holding.kill()
                holding.wait()
            shown = program.name.replace("\x1b", "\\x1b")
            assert found == [Holder(holding.pid, shown, writing=False)]


#: Run as root this process first becomes a user who may not look into the processes of others.
_ASK_AS_ANOTHER_USER = """
import os, sys
from qcow.storage.holders import holders
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
found, hidden = holders((int(sys.argv[1]), int(sys.argv[2])))
print(os.getuid(), len(found), hidden)
"""


def ask_as_another_user(path: Path) -> tuple[int, int, int]:
    """Who asked (the uid), how many holders of ``path`` that user sees, how many are hidden."""
    identity = (str(path.stat().st_dev), str(path.stat().st_ino))
    command = [sys.executable, "-c", _ASK_AS_ANOTHER_USER, *identity]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    uid, found, hidden = map(int, done.stdout.split())
    return uid, found, hidden


class TestHiddenProcesses:
    def test_they_are_counted_not_ignored(self, image: Path) -> None:
        """Kernel threads and processes that ended do not count: they have no file open."""
        ended = subprocess.Popen(["true"])  # a zombie until it is waited for
        try:
            with opened_elsewhere(image, "r+b") as pid:
                uid, found, hidden = ask_as_another_user(image)
                not_theirs = sum(_runs_for_others(pid, uid) for pid in _pids())
                assert [holder.pid for holder in holders(image)[0]] == [pid]
        finally:
            ended.wait()
        assert found == (1 if uid == os.getuid() else 0)
        assert abs(hidden - not_theirs) <= 20  # processes come and go meanwhile


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _runs_for_others(pid: int, uid: int) -> bool:
    """Whether ``pid`` is a program (it has memory of its own) of another user than ``uid``."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[20]) > 0 and os.stat(f"/proc/{pid}").st_uid != uid
    except OSError:
        return False


class TestLoopDevices:
    @pytest.mark.parametrize("writable", [True, False])
    def test_the_kernel_holds_the_file(self, tmp_path: Path, writable: bool) -> None:
        disk = tmp_path / "disk with spaces.raw"
        disk.write_bytes(bytes(1 << 20))
        with loop_device(disk, writable=writable) as device:
            expected = [Holder(0, str(device), writable)] if is_real(device) else []
            assert holders(disk)[0] == expected
        assert holders(disk)[0] == []

    @pytest.mark.oracle
    def test_a_device_held_by_qemu(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk.raw"
        disk.write_bytes(bytes(1 << 20))
        with loop_device(disk) as device, io_session(device, fmt="raw") as session:
            assert [holder.pid for holder in holders(device)[0]] == [session.pid]
