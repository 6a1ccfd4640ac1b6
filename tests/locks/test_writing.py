"""What a lock for writing is beside QEMU's bytes: this process's own files, crashes, places."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcow.chain.following import open_chain
from qcow.edit import locking
from qcow.edit.locking import lock_for_writing
from qcow.errors import ChangedError, EditRefused, LockedError, StorageError
from qcow.opening import open as open_image
from qcow.storage.gate import Gate
from qcow.storage.holders import Holder
from qcow.storage.local import LocalFile, open_local
from qcow.storage.locks import ImageLock, LockMode, ReadersAside, locked_bytes, probe
from qcow.storage.writable import open_local_writable
from tests.support.devices import is_real, loop_device
from tests.support.images import small_builder, small_image

READER = frozenset({100, 201, 203})
WRITER = frozenset({100, 101, 103, 200, 201, 202, 203})


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(b"x" * 4096)
    return path


@contextlib.contextmanager
def reading(path: Path, mode: LockMode = LockMode.READER) -> Iterator[LocalFile]:
    """A reader in this process, as the image on the screen is one."""
    with open_local(path) as file:
        ImageLock().acquire(file.fileno(), mode)
        yield file


def may_write(path: Path) -> bool:
    """Whether a stranger (another open file) would get the writer's locks now."""
    with open_local_writable(path) as file:
        try:
            ImageLock().acquire(file.fileno(), LockMode.WRITER)
        except LockedError:
            return False
        return True


class TestTheBytes:
    def test_as_written_down(self, image: Path) -> None:
        with lock_for_writing(str(image)) as access:
            assert locked_bytes(access.file.fileno()) == WRITER
            assert not may_write(image)
            with open_local(image) as file:
                state = probe(file.fileno())
                assert state.writer
                assert state.denied == {"consistent read", "write", "write unchanged", "resize"}
                with pytest.raises(LockedError, match="consistent read"):
                    ImageLock().acquire(file.fileno(), LockMode.FORCE_SHARE)
        assert may_write(image)

    def test_what_is_kept_is_kept_without_asking(self, image: Path) -> None:
        """Stepping down cannot fail, though an opener about to be refused holds bytes just now."""
        with open_local_writable(image) as file, open_local(image) as other:
            lock = ImageLock().acquire(file.fileno(), LockMode.WRITER)
            fcntl_lock(other.fileno(), 101)
            lock.acquire(file.fileno(), LockMode.READER)
            assert locked_bytes(file.fileno()) == READER

    def test_no_locks_no_bytes(self, image: Path) -> None:
        with open_local(image) as file:
            assert locked_bytes(file.fileno()) == frozenset()
        assert locked_bytes(-1) == frozenset()


def fcntl_lock(fd: int, byte: int) -> None:
    import struct

    flock = struct.pack("@hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, flock)


class TestOurOwnReaders:
    def test_a_stranger_in_this_process_is_in_the_way(self, image: Path) -> None:
        with reading(image), pytest.raises(LockedError):
            lock_for_writing(str(image))

    @pytest.mark.parametrize("mode", LockMode)
    def test_they_step_aside_and_come_back(self, image: Path, mode: LockMode) -> None:
        if mode is LockMode.WRITER:
            with reading_as_writer(image) as file:
                with pytest.raises(LockedError, match="changing the image already"):
                    lock_for_writing(str(image), own=[file])
                assert locked_bytes(file.fileno()) == WRITER
            return
        with reading(image, mode) as one, reading(image) as two:
            before = locked_bytes(one.fileno())
            with lock_for_writing(str(image), own=[one, two]) as access:
                assert locked_bytes(one.fileno()) == locked_bytes(two.fileno()) == frozenset()
                access.file.write(0, b"y")
                assert one.read(0, 1) == b"y"
            assert locked_bytes(one.fileno()) == before
            assert locked_bytes(two.fileno()) == READER

    def test_they_come_back_when_the_writer_is_refused(self, image: Path) -> None:
        with reading(image) as mine, reading(image):
            with pytest.raises(LockedError):
                lock_for_writing(str(image), own=[mine])
            assert locked_bytes(mine.fileno()) == READER

    def test_one_that_was_closed_meanwhile(self, image: Path) -> None:
        with reading(image) as mine, lock_for_writing(str(image), own=[mine]):
            mine.close()
        assert may_write(image)

    def test_readers_of_other_files_are_left_alone(self, image: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.write_bytes(b"x")
        with reading(other) as mine, lock_for_writing(str(image), own=[mine]):
            assert locked_bytes(mine.fileno()) == READER

    def test_nobody_gets_in_between(self, image: Path) -> None:
        """From the reader's lock to the writer's and back there is no moment without one."""
        code = (
            "import sys; from qcow.storage.writable import open_local_writable\n"
            "from qcow.storage import locks\n"
            "from qcow.errors import LockedError\n"
            "locks._TRIES = 1; won = tries = 0\n"
            "print('started', flush=True)\n"
            "with open_local_writable(sys.argv[1]) as file:\n"
            "    import select\n"
            "    while not select.select([sys.stdin], [], [], 0)[0]:\n"
            "        tries += 1\n"
            "        try: lock = locks.ImageLock().acquire(file.fileno(), locks.LockMode.WRITER)\n"
            "        except LockedError: continue\n"
            "        won += 1; lock.release()\n"
            "print(won, tries)\n"
        )
        with reading(image) as mine:
            rival = subprocess.Popen(
                [sys.executable, "-c", code, image],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert rival.stdout is not None
            assert rival.stdout.readline() == "started\n"
            written = 0
            for _ in range(100):
                aside = ReadersAside([mine])
                with open_local_writable(image) as file:
                    lock = ImageLock().share(file.fileno(), aside)
                    aside.step_aside()
                    with contextlib.suppress(LockedError):  # the rival was just asking
                        lock.acquire(file.fileno(), LockMode.WRITER)
                        written += 1
                        lock.acquire(file.fileno(), LockMode.READER)
                    aside.come_back()
            won, tries = map(int, rival.communicate("\n")[0].split())
        assert won == 0
        assert tries > 100
        assert written > 0

    @pytest.mark.oracle
    def test_a_chain_on_the_screen(self, tmp_path: Path) -> None:
        from tests.support.qemu import qemu_img

        base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", base, "1M")
        qemu_img("create", "-q", "-f", "qcow2", "-b", base.name, "-F", "qcow2", top)
        with (
            contextlib.closing(open_image(top)) as shown,
            open_chain(shown, Gate.own_folder()) as chain,
        ):
            with lock_for_writing(str(top), chain=chain) as access:
                assert set(access.layers) == {0}
                with open_local(base) as file:
                    assert probe(file.fileno()).denied == {"write", "resize"}
            with lock_for_writing(str(top), chain=chain, also=[1]) as access:
                assert access.layers[1].name == str(base)
                assert locked_bytes(access.layers[1].fileno()) == WRITER
                access.check_place()
            for layer in chain.layers:
                assert layer.image is not None
                assert isinstance(layer.image.storage, LocalFile)
                assert locked_bytes(layer.image.storage.fileno()) == READER
        assert may_write(base)
        assert may_write(top)

    def test_a_base_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        builder = small_builder()
        builder.backing("gone.qcow2")
        path = builder.write(tmp_path / "top.qcow2")
        with (
            contextlib.closing(open_image(path)) as shown,
            open_chain(shown, Gate.own_folder()) as chain,
        ):
            with lock_for_writing(str(path), chain=chain) as access:
                assert len(access.report.unlocked) == 1
                assert "gone.qcow2" in access.report.unlocked[0]
            with pytest.raises(EditRefused, match=r"gone\.qcow2"):
                lock_for_writing(str(path), chain=chain, also=[1])

    def test_further_files_below(self, image: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.write_bytes(b"x")
        with (
            open_local(other) as base,
            open_local(image) as same,
            lock_for_writing(str(image), below=[base, same]),
        ):
            assert not may_write(other)
            base.close()
            assert not may_write(other)
        assert may_write(other)


@contextlib.contextmanager
def reading_as_writer(path: Path) -> Iterator[LocalFile]:
    with open_local_writable(path) as file:
        ImageLock().acquire(file.fileno(), LockMode.WRITER)
        yield file


_HOLD = (
    "import sys, time; from qcow.edit.locking import lock_for_writing\n"
    "access = lock_for_writing(sys.argv[1]); print('held', flush=True); time.sleep(60)\n"
)


class TestHowItEnds:
    def test_a_killed_writer_holds_nothing(self, image: Path) -> None:
        holder = subprocess.Popen([sys.executable, "-c", _HOLD, image], stdout=subprocess.PIPE)
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            assert not may_write(image)
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            assert may_write(image)
        finally:
            holder.kill()
            holder.communicate()

    def test_closing_another_descriptor_ends_nothing(self, image: Path) -> None:
        with lock_for_writing(str(image)):
            open_local(image).close()
            with image.open("r+b"):
                pass
            assert not may_write(image)

    def test_a_child_that_ends_takes_nothing_along(self, image: Path) -> None:
        with lock_for_writing(str(image)):
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)
            assert not may_write(image)
            subprocess.run([sys.executable, "-c", ""], check=True)
            assert not may_write(image)
        assert may_write(image)

    def test_a_child_that_lives_on_holds_nothing(self, image: Path) -> None:
        """It has the descriptor too, so that closing ours would not be enough."""
        with lock_for_writing(str(image)):
            child = os.fork()
            if not child:
                signal.pause()
                os._exit(0)
        try:
            assert may_write(image)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def test_closing_twice(self, image: Path) -> None:
        access = lock_for_writing(str(image))
        access.close()
        access.close()
        with pytest.raises(StorageError):
            access.file.write(0, b"x")

    def test_no_descriptor_is_left_behind(self, image: Path) -> None:
        before = sorted(os.listdir("/proc/self/fd"))
        with reading(image):
            for _ in range(3):
                with pytest.raises(LockedError):
                    lock_for_writing(str(image))
        with lock_for_writing(str(image)):
            pass
        assert sorted(os.listdir("/proc/self/fd")) == before


class TestWhereItLies:
    def test_a_file_that_was_replaced(self, image: Path) -> None:
        with lock_for_writing(str(image)) as access:
            access.check_place()
            image.rename(image.with_name("moved"))
            with pytest.raises(ChangedError, match="moved or replaced"):
                access.check_place()
            image.write_bytes(b"another")
            with pytest.raises(ChangedError, match="moved or replaced"):
                access.check_place()

    def test_another_file_than_was_looked_at(self, tmp_path: Path) -> None:
        path = small_image(tmp_path)
        with (
            contextlib.closing(open_image(path)) as shown,
            open_chain(shown, Gate.closed()) as chain,
        ):
            path.rename(tmp_path / "moved")
            small_image(tmp_path)
            with pytest.raises(ChangedError, match="another file"):
                lock_for_writing(str(path), chain=chain)

    def test_exchanged_while_it_was_locked(
        self, image: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locking, "identity_of", lambda path: (1, 2))
        with pytest.raises(ChangedError):
            lock_for_writing(str(image))
        monkeypatch.undo()
        assert may_write(image)

    def test_a_network_file_system(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locking, "network_file_system", lambda fd: "NFS")
        with pytest.raises(EditRefused, match=r"network file system \(NFS\)"):
            lock_for_writing(str(image))
        with lock_for_writing(str(image), allow_network=True) as access:
            assert access.report.network == ("NFS",)

    def test_a_file_system_without_locks(
        self, image: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*given: object) -> bytes:
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr("qcow.storage.locks.fcntl.fcntl", refuse)
        with pytest.raises(EditRefused, match="can only be read: its file system has no locks"):
            lock_for_writing(str(image))

    def test_a_file_that_may_not_be_written(self, image: Path) -> None:
        with pytest.raises(StorageError, match="open for writing"):
            lock_for_writing(str(image.with_name("no")))


class TestWhoHoldsNoLock:
    def test_a_program_that_has_it_open_for_writing(self, image: Path) -> None:
        with image.open("r+b") as file:
            program = subprocess.Popen(["sleep", "60"], stdin=file)
        try:
            with pytest.raises(LockedError, match=rf"by sleep \(process {program.pid}\)"):
                lock_for_writing(str(image))
        finally:
            program.kill()
            program.wait()
        lock_for_writing(str(image)).close()

    def test_a_program_that_reads_is_reported(self, image: Path) -> None:
        with image.open("rb") as file:
            program = subprocess.Popen(["sleep", "60"], stdin=file)
        try:
            with lock_for_writing(str(image)) as access:
                assert access.report.readers == (Holder(program.pid, "sleep", writing=False),)
        finally:
            program.kill()
            program.wait()

    def test_hidden_processes_are_reported(
        self, image: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locking, "holders", lambda target: ([], 7))
        with lock_for_writing(str(image)) as access:
            assert access.report.hidden == 7

    def test_libvirt(self, image: Path) -> None:
        code = (
            "import fcntl, sys, time; f = open(sys.argv[1], 'rb+'); "
            "fcntl.lockf(f, fcntl.LOCK_EX, 1, 0); print('held', flush=True); time.sleep(60)"
        )
        daemon = subprocess.Popen([sys.executable, "-c", code, image], stdout=subprocess.PIPE)
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == b"held\n"
            with pytest.raises(LockedError, match="libvirt"):
                lock_for_writing(str(image))
        finally:
            daemon.kill()
            daemon.communicate()

    @pytest.mark.parametrize("writable", [True, False])
    def test_a_loop_device(self, tmp_path: Path, writable: bool) -> None:
        disk = tmp_path / "disk"
        disk.write_bytes(bytes(1 << 20))
        with loop_device(disk, writable=writable) as device:
            if not (is_real(device) and writable):
                lock_for_writing(str(disk)).close()
                return
            with pytest.raises(LockedError, match=r"by /dev/loop\d+ \(the system\)"):
                lock_for_writing(str(disk))

    def test_a_device_itself(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.write_bytes(bytes(1 << 20))
        with loop_device(disk) as device, lock_for_writing(str(device)) as access:
            access.file.write(0, b"x")
            assert access.file.is_device
            access.check_place()
