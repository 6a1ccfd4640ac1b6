"""QEMU's locks, spoken both ways with the real qemu-nbd and qemu-io."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen

import pytest

from qcow.errors import LockedError, StorageError
from qcow.storage.local import LocalFile, open_local
from qcow.storage.locks import ImageLock, LockMode, LockState, probe
from tests.support.devices import loop_device
from tests.support.live import io_command, io_session, nbd_server, wait_until
from tests.support.qemu import qemu_img, run

NOBODY = LockState(frozenset(), frozenset(), writer=False, in_use=False, libvirt=False)
WRITING = LockState(
    frozenset({"consistent read", "write", "resize"}),
    frozenset({"write", "resize"}),
    writer=True,
    in_use=True,
    libvirt=False,
)
READING = LockState(
    frozenset({"consistent read"}),
    frozenset({"write", "resize"}),
    writer=False,
    in_use=True,
    libvirt=False,
)
SHARING = LockState(
    frozenset({"consistent read"}), frozenset(), writer=False, in_use=True, libvirt=False
)

Opener = Callable[[Path], AbstractContextManager[Popen[bytes]]]
WRITERS: dict[str, Opener] = {"qemu-nbd": nbd_server, "qemu-io": io_session}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    return path


@pytest.fixture
def file(image: Path) -> Iterator[LocalFile]:
    with open_local(image) as opened:
        yield opened


def qemu_writes(image: Path, *options: str) -> tuple[int, str]:
    """How ``qemu-io -c write`` fares: its exit code and what it printed."""
    done = run("qemu-io", "-f", "qcow2", *options, "-c", "write 0 64k", image, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def locks_on(image: Path) -> list[str]:
    """``100``, ``201``, ... as /proc/locks has them for this file, in the order of the bytes."""
    inode = f":{image.stat().st_ino}"
    lines = Path("/proc/locks").read_text().splitlines()
    held = {tuple(line.split()[-2:]) for line in lines if line.split()[-3].endswith(inode)}
    return sorted(str(byte) for first, last in held for byte in range(int(first), int(last) + 1))


@pytest.mark.oracle
class TestBesideAWriter:
    @pytest.mark.parametrize("writer", WRITERS)
    def test_a_reader_is_refused_in_the_words_of_qemu(
        self, image: Path, file: LocalFile, writer: str
    ) -> None:
        with WRITERS[writer](image):
            theirs = qemu_img("check", image, check=False)
            with pytest.raises(LockedError) as caught:
                ImageLock().acquire(file.fileno(), LockMode.READER, file.name)
            assert theirs.returncode == 1
            assert theirs.stderr.decode() == (
                f"qemu-img: Could not open '{image}': {caught.value}\n"
            )
            assert str(caught.value).startswith('Failed to get shared "write" lock\n')

    @pytest.mark.parametrize("writer", WRITERS)
    def test_the_refused_reader_left_no_lock(
        self, image: Path, file: LocalFile, writer: str
    ) -> None:
        with WRITERS[writer](image):
            before = locks_on(image)
            assert before == ["100", "101", "103", "201", "203"]
            with pytest.raises(LockedError):
                ImageLock().acquire(file.fileno(), LockMode.READER)
            assert probe(file.fileno()) == WRITING
        assert locks_on(image) == []

    @pytest.mark.parametrize("mode", [LockMode.FORCE_SHARE, LockMode.SNOOP])
    @pytest.mark.parametrize("writer", WRITERS)
    def test_force_share_and_snoop_are_not(
        self, image: Path, file: LocalFile, writer: str, mode: LockMode
    ) -> None:
        with WRITERS[writer](image), ImageLock().acquire(file.fileno(), mode) as lock:
            assert lock.mode is mode
            assert probe(file.fileno()) == WRITING
            assert file.read(0, 4) == b"QFI\xfb"

    def test_the_writer_goes_on_beside_force_share(self, image: Path, file: LocalFile) -> None:
        with io_session(image) as session:
            ImageLock().acquire(file.fileno(), LockMode.FORCE_SHARE)
            assert "wrote 65536/65536" in io_command(session, "write 0 64k")

    @pytest.mark.parametrize("writer", WRITERS)
    def test_its_end_is_seen(self, image: Path, file: LocalFile, writer: str) -> None:
        with WRITERS[writer](image) as process:
            assert probe(file.fileno()) == WRITING
            process.kill()  # as a crash: the kernel releases the locks
            assert wait_until(lambda: not probe(file.fileno()).in_use) < 2
        assert probe(file.fileno()) == NOBODY
        with ImageLock().acquire(file.fileno(), LockMode.READER):
            assert locks_on(image) == ["100", "201", "203"]

    def test_the_backing_file_of_a_guest_can_be_read(self, image: Path, tmp_path: Path) -> None:
        overlay = tmp_path / "overlay.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", overlay)
        with nbd_server(overlay), open_local(image) as base, open_local(overlay) as top:
            assert probe(base.fileno()) == READING
            assert probe(top.fileno()) == WRITING
            ImageLock().acquire(base.fileno(), LockMode.READER)
            with pytest.raises(LockedError):
                ImageLock().acquire(top.fileno(), LockMode.READER)


@pytest.mark.oracle
class TestBesideAReader:
    def test_readers_share(self, image: Path, file: LocalFile) -> None:
        with (
            io_session(image, "-r"),
            nbd_server(image, "-r"),
            ImageLock().acquire(file.fileno(), LockMode.READER),
        ):
            assert probe(file.fileno()) == READING
            assert qemu_img("check", image).returncode == 0

    def test_a_sharing_reader_denies_nothing(self, image: Path, file: LocalFile) -> None:
        with io_session(image, "-r", "-U"), ImageLock().acquire(file.fileno(), LockMode.READER):
            assert probe(file.fileno()) == SHARING

    def test_who_locks_nothing_is_not_seen(self, image: Path, file: LocalFile) -> None:
        options = f"driver=qcow2,file.driver=file,file.filename={image},file.locking=off"
        session = subprocess.Popen(
            ["qemu-io", "--image-opts", options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            io_command(session, "length")
            assert probe(file.fileno()) == NOBODY
        finally:
            session.kill()
            session.communicate()


@pytest.mark.oracle
class TestSeenByQemu:
    def test_our_reader_lock_stops_a_writer(self, image: Path, file: LocalFile) -> None:
        with ImageLock().acquire(file.fileno(), LockMode.READER):
            code, said = qemu_writes(image)
            assert code == 1
            assert 'Failed to get "write" lock' in said
            assert f"Is another process using the image [{image}]?" in said
            create = qemu_img("create", "-f", "qcow2", image, "2M", check=False)
            assert create.returncode == 1
            assert qemu_img("info", image).returncode == 0
        assert qemu_writes(image)[0] == 0

    def test_closing_the_file_ends_it_too(self, image: Path) -> None:
        with open_local(image) as file:
            ImageLock().acquire(file.fileno(), LockMode.READER)
            assert qemu_writes(image)[0] == 1
        assert qemu_writes(image)[0] == 0

    def test_closing_another_descriptor_does_not(self, image: Path, file: LocalFile) -> None:
        with ImageLock().acquire(file.fileno(), LockMode.READER):
            open_local(image).close()  # would end a lock taken by lockf
            assert qemu_writes(image)[0] == 1

    @pytest.mark.parametrize("mode", [LockMode.FORCE_SHARE, LockMode.SNOOP])
    def test_force_share_and_snoop_stop_nobody(
        self, image: Path, file: LocalFile, mode: LockMode
    ) -> None:
        with ImageLock().acquire(file.fileno(), mode):
            assert qemu_writes(image)[0] == 0

    @pytest.mark.parametrize(
        ("mode", "options"),
        [
            (LockMode.READER, ["-r"]),
            (LockMode.FORCE_SHARE, ["-r", "-U"]),
        ],
    )
    def test_our_locks_are_those_of_qemu(
        self, image: Path, file: LocalFile, mode: LockMode, options: list[str]
    ) -> None:
        with io_session(image, *options):
            theirs = locks_on(image)
        assert theirs
        with ImageLock().acquire(file.fileno(), mode):
            assert locks_on(image) == theirs
        assert locks_on(image) == []

    def test_on_a_block_device(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk.raw"
        disk.write_bytes(bytes(4 << 20))
        with loop_device(disk) as device:
            qemu_img("create", "-q", "-f", "qcow2", device, "1M")
            with open_local(device) as file:
                with ImageLock().acquire(file.fileno(), LockMode.READER):
                    assert qemu_writes(device)[0] == 1
                with io_session(device):
                    assert probe(file.fileno()).writer
                    with pytest.raises(LockedError):
                        ImageLock().acquire(file.fileno(), LockMode.READER)


class TestTheLockItself:
    def test_nobody(self, file: LocalFile) -> None:
        assert probe(file.fileno()) == NOBODY

    def test_snoop_asks_nothing(self, file: LocalFile, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*given: object) -> bytes:
            raise AssertionError("snoop called fcntl")

        monkeypatch.setattr("qcow.storage.locks.fcntl.fcntl", never)
        with ImageLock().acquire(file.fileno(), LockMode.SNOOP) as lock:
            assert lock.effective

    def test_own_locks_do_not_count_but_those_of_a_second_descriptor_do(
        self, image: Path, file: LocalFile
    ) -> None:
        with (
            open_local(image) as second,
            ImageLock().acquire(second.fileno(), LockMode.READER),
        ):
            assert probe(second.fileno()) == NOBODY
            assert probe(file.fileno()) == READING

    def test_changing_the_mode_keeps_what_stays(self, image: Path, file: LocalFile) -> None:
        lock = ImageLock().acquire(file.fileno(), LockMode.FORCE_SHARE)
        assert locks_on(image) == ["100"]
        assert lock.acquire(file.fileno(), LockMode.READER) is lock
        assert locks_on(image) == ["100", "201", "203"]
        lock.acquire(file.fileno(), LockMode.SNOOP)
        assert locks_on(image) == []

    @pytest.mark.oracle
    def test_a_refused_change_keeps_the_mode_held(self, image: Path, file: LocalFile) -> None:
        with nbd_server(image):
            lock = ImageLock().acquire(file.fileno(), LockMode.FORCE_SHARE)
            with pytest.raises(LockedError):
                lock.acquire(file.fileno(), LockMode.READER)
            assert lock.mode is LockMode.FORCE_SHARE
        assert locks_on(image) == ["100"]

    def test_releasing_twice_or_after_closing_is_harmless(self, image: Path) -> None:
        file = open_local(image)
        lock = ImageLock().acquire(file.fileno(), LockMode.READER)
        lock.release()
        lock.release()
        assert lock.mode is None
        lock.acquire(file.fileno(), LockMode.READER)
        file.close()
        lock.release()
        assert locks_on(image) == []

    def test_one_lock_one_descriptor(self, image: Path, file: LocalFile) -> None:
        lock = ImageLock().acquire(file.fileno(), LockMode.READER)
        with open_local(image) as second, pytest.raises(ValueError):
            lock.acquire(second.fileno(), LockMode.READER)
        assert locks_on(image) == ["100", "201", "203"]

    def test_a_closed_descriptor(self, image: Path) -> None:
        file = open_local(image)
        descriptor = file.fileno()
        file.close()
        with pytest.raises(StorageError, match="Bad file descriptor"):
            ImageLock().acquire(descriptor, LockMode.READER)
        with pytest.raises(StorageError, match="Bad file descriptor"):
            probe(descriptor)

    def test_hostile_names_are_shown_as_text(self, tmp_path: Path) -> None:
        path = tmp_path / "a\x1b[31m"
        path.write_bytes(b"abc")
        with open_local(path) as file, open_local(path) as other:
            place_lock(other.fileno(), fcntl.F_RDLCK, 101)
            with pytest.raises(LockedError) as caught:
                ImageLock().acquire(file.fileno(), LockMode.READER, file.name)
        assert "\x1b" not in str(caught.value)
        assert "a\\x1b[31m" in str(caught.value)


def place_lock(fd: int, kind: int, byte: int) -> None:
    """Lock one byte for an open file description, as any program could."""
    flock = struct.pack("@hhqqi0q", kind, os.SEEK_SET, byte, 1, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, flock)


class TestOtherPrograms:
    @pytest.mark.parametrize("byte", [0, 1])
    def test_libvirt(self, image: Path, file: LocalFile, byte: int) -> None:
        # virtlockd takes a POSIX write lock, from a process of its own.
        code = (
            "import fcntl, sys; f = open(sys.argv[1], 'r+b'); "
            f"fcntl.lockf(f, fcntl.LOCK_EX, 1, {byte}); print('held', flush=True); input()"
        )
        daemon = subprocess.Popen(
            [sys.executable, "-c", code, str(image)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == b"held\n"
            state = probe(file.fileno())
            assert state == LockState(
                frozenset(), frozenset(), writer=False, in_use=True, libvirt=True
            )
            ImageLock().acquire(file.fileno(), LockMode.READER)
        finally:
            daemon.kill()
            daemon.communicate()
        assert probe(file.fileno()) == NOBODY

    @pytest.mark.parametrize(
        ("byte", "used", "denied"),
        [
            (102, {"write unchanged"}, set()),
            (104, {"change children"}, set()),
            (200, set(), {"consistent read"}),
            (204, set(), {"change children"}),
        ],
    )
    def test_each_byte_has_its_name(
        self, image: Path, file: LocalFile, byte: int, used: set[str], denied: set[str]
    ) -> None:
        with open_local(image) as other:
            place_lock(other.fileno(), fcntl.F_RDLCK, byte)
            state = probe(file.fileno())
            assert state == LockState(
                frozenset(used), frozenset(denied), writer=False, in_use=True, libvirt=False
            )

    def test_whoever_denies_reading_stops_force_share(self, image: Path, file: LocalFile) -> None:
        with open_local(image) as other:
            place_lock(other.fileno(), fcntl.F_RDLCK, 200)
            with pytest.raises(LockedError, match='Failed to get "consistent read" lock'):
                ImageLock().acquire(file.fileno(), LockMode.FORCE_SHARE)
            assert locks_on(image) == ["200"]

    def test_an_exclusive_lock_on_a_byte(self, image: Path, file: LocalFile) -> None:
        writer = os.open(image, os.O_RDWR)
        try:
            place_lock(writer, fcntl.F_WRLCK, 203)
            with pytest.raises(LockedError, match="Failed to lock byte 203"):
                ImageLock().acquire(file.fileno(), LockMode.READER)
            assert locks_on(image) == ["203"]
        finally:
            os.close(writer)

    @pytest.mark.parametrize("answer", [errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP])
    def test_where_there_are_no_locks_reading_goes_on(
        self, file: LocalFile, monkeypatch: pytest.MonkeyPatch, answer: int
    ) -> None:
        def unsupported(*given: object) -> bytes:
            raise OSError(answer, os.strerror(answer))

        with monkeypatch.context() as patch:
            patch.setattr("qcow.storage.locks.fcntl.fcntl", unsupported)
            lock = ImageLock().acquire(file.fileno(), LockMode.READER)
            assert not lock.effective
            assert not probe(file.fileno()).supported
        assert lock.acquire(file.fileno(), LockMode.READER).effective
