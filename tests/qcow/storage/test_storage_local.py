"""Reading regular files and block devices of this machine."""

from __future__ import annotations

import errno
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcow.errors import NotRegularFile, StorageError
from qcow.storage.base import Storage
from qcow.storage.local import OPEN_FLAGS, LocalFile, open_local
from qcow.storage.memory import MemoryStorage
from tests.support.devices import is_real, loop_device
from tests.support.opens import opened_files
from tests.support.qemu import parsed, qemu_img

MIB = 1 << 20
CONTENT = random.Random(11).randbytes(100_003)


@pytest.fixture(params=["file", "memory"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """The same bytes in every kind of storage."""
    if request.param == "memory":
        return MemoryStorage(CONTENT)
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return open_local(path)


class TestReading:
    def test_any_place(self, stored: Storage) -> None:
        with stored:
            assert stored.size() == len(CONTENT)
            for offset, length in [(0, 16), (99_990, 100), (0, 100_003), (7, 0), (100_003, 1)]:
                assert stored.read(offset, length) == CONTENT[offset : offset + length]

    @pytest.mark.parametrize("offset", [100_004, 1 << 40, (1 << 63) - 3, 1 << 63, (1 << 64) - 1])
    def test_beyond_the_end_there_is_nothing(self, stored: Storage, offset: int) -> None:
        buffer = bytearray(b"x" * 16)
        with stored:
            assert stored.read(offset, 16) == b""
            assert stored.read_into(offset, buffer) == 0
            assert list(stored.extents(offset, 16)) == []
        assert buffer == b"x" * 16

    def test_a_false_length_costs_no_memory(self, stored: Storage) -> None:
        with stored:
            assert stored.read(100_000, 1 << 62) == CONTENT[100_000:]

    def test_negative_places_are_a_mistake_of_the_caller(self, stored: Storage) -> None:
        with stored:
            for read in (
                lambda: stored.read(-1, 4),
                lambda: stored.read(0, -4),
                lambda: stored.read_into(-4, bytearray(4)),
            ):
                with pytest.raises(ValueError):
                    read()

    def test_into_a_buffer(self, stored: Storage) -> None:
        buffer = bytearray(200)
        with stored:
            assert stored.read_into(50, memoryview(buffer)[10:60]) == 50
            assert stored.read_into(100_000, memoryview(buffer)[100:150]) == 3
        assert buffer[10:60] == CONTENT[50:100]
        assert buffer[100:103] == CONTENT[100_000:]
        assert not any(buffer[:10] + buffer[60:100] + buffer[103:])

    def test_threads_share_it(self, stored: Storage) -> None:
        wrong: list[int] = []

        def work(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(300):
                offset = chance.randrange(len(CONTENT))
                if stored.read(offset, 999) != CONTENT[offset : offset + 999]:
                    wrong.append(offset)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        with stored:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert wrong == []


class TestPieces:
    @settings(max_examples=60, deadline=None)
    @given(
        piece=st.sampled_from([1, 8, 512, 4096]),
        places=st.lists(st.integers(0, 220), max_size=40),
        shift=st.sampled_from([0, 3]),
    )
    def test_any_order_with_zeros_beyond_the_end(
        self, tmp_path_factory: pytest.TempPathFactory, piece: int, places: list[int], shift: int
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "pieces"
        if not path.exists():
            path.write_bytes(CONTENT)
        offsets = [place * piece + shift for place in places]
        expected = b"".join(
            CONTENT[offset : offset + piece].ljust(piece, b"\0") for offset in offsets
        )
        for storage in (open_local(path), MemoryStorage(CONTENT)):
            buffer = bytearray(b"\xff" * (len(expected) + 5))
            with storage:
                storage.read_pieces(offsets, piece, memoryview(buffer))
            assert buffer[: len(expected)] == expected
            assert buffer[len(expected) :] == b"\xff" * 5

    def test_neighbours_become_one_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "content"
        path.write_bytes(CONTENT)
        lengths: list[int] = []
        real = os.preadv

        def counting(fd: int, buffers: tuple[memoryview, ...], offset: int) -> int:
            lengths.append(len(buffers[0]))
            return real(fd, buffers, offset)

        monkeypatch.setattr("qcow.storage.local.os.preadv", counting)
        buffer = memoryview(bytearray(8 * 512))
        with open_local(path) as file:
            file.read_pieces([0, 512, 1024, 9216, 9728, 512, 512, 1024], 512, buffer)
        assert lengths == [1536, 1024, 512, 1024]

    @pytest.mark.parametrize("beyond", [200_000, (1 << 63) - 4, 1 << 63, (1 << 64) - 512])
    def test_places_that_cannot_be(self, stored: Storage, beyond: int) -> None:
        buffer = memoryview(bytearray(b"\xff" * 1536))
        with stored:
            stored.read_pieces([512, beyond, 0], 512, buffer)
        assert bytes(buffer) == CONTENT[512:1024] + bytes(512) + CONTENT[:512]

    def test_the_buffer_must_hold_them(self, tmp_path: Path) -> None:
        path = tmp_path / "content"
        path.write_bytes(CONTENT)
        with open_local(path) as file, pytest.raises(ValueError):
            file.read_pieces([0, 512], 512, memoryview(bytearray(1023)))


class TestShortReads:
    """The kernel may give less than was asked for, at any time; only 0 is the end."""

    def test_they_are_continued(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "content"
        path.write_bytes(CONTENT)
        pread, preadv = os.pread, os.preadv
        monkeypatch.setattr(
            "qcow.storage.local.os.pread",
            lambda fd, length, offset: pread(fd, min(length, 1000), offset),
        )
        monkeypatch.setattr(
            "qcow.storage.local.os.preadv",
            lambda fd, buffers, offset: preadv(fd, [buffers[0][:1000]], offset),
        )
        buffer = bytearray(4096)
        pieces = bytearray(6 * 2048)
        with open_local(path) as file:
            assert file.read(5, 99_000) == CONTENT[5:99_005]
            assert file.read_into(77, buffer) == 4096
            file.read_pieces([0, 2048, 8192, 4096, 98_304, 99_000], 2048, memoryview(pieces))
        assert buffer == CONTENT[77 : 77 + 4096]
        expected = [CONTENT[at : at + 2048] for at in (0, 2048, 8192, 4096, 98_304, 99_000)]
        assert pieces == b"".join(part.ljust(2048, b"\0") for part in expected)


class TestChangingFiles:
    def test_a_file_that_shrinks_while_open(self, tmp_path: Path) -> None:
        path = tmp_path / "content"
        path.write_bytes(CONTENT)
        with open_local(path) as file:
            before = file.modified()
            runs = file.extents()
            os.truncate(path, 10)
            assert file.size() == 10
            assert file.read(0, 100) == CONTENT[:10]
            assert file.read(50_000, 100) == b""
            assert sum(length for _, length, _ in runs) <= len(CONTENT)
            assert file.modified() != before

    def test_every_write_changes_the_stamp(self, tmp_path: Path) -> None:
        path = tmp_path / "content"
        path.write_bytes(CONTENT)
        os.utime(path, ns=(1, 1))  # the clock of the file system is coarse
        with open_local(path) as file:
            before = file.modified()
            assert before == (len(CONTENT), 1)
            assert file.modified() == before
            with path.open("r+b") as writer:
                writer.write(b"!")
            assert file.modified() != before


class TestExtents:
    def test_holes(self, tmp_path: Path) -> None:
        path = tmp_path / "sparse"
        with path.open("wb") as file:
            os.truncate(path, 8 * MIB)
            os.pwrite(file.fileno(), b"x" * 4096, 2 * MIB)
            os.pwrite(file.fileno(), b"x" * 4096, 6 * MIB)
        with open_local(path) as storage:
            runs = list(storage.extents())
            assert runs == [
                (0, 2 * MIB, False),
                (2 * MIB, 4096, True),
                (2 * MIB + 4096, 4 * MIB - 4096, False),
                (6 * MIB, 4096, True),
                (6 * MIB + 4096, 2 * MIB - 4096, False),
            ]
            assert storage.allocated_bytes() == 8192
            assert list(storage.extents(2 * MIB + 100, 5000)) == [
                (2 * MIB + 100, 3996, True),
                (2 * MIB + 4096, 1004, False),
            ]
            assert list(storage.extents(6 * MIB)) == runs[3:]
            assert list(storage.extents(8 * MIB - 10, 4096)) == [(8 * MIB - 10, 10, False)]
            assert list(storage.extents(8 * MIB)) == list(storage.extents(0, 0)) == []

    @pytest.mark.oracle
    def test_as_qemu_sees_them(self, tmp_path: Path) -> None:
        path = tmp_path / "sparse.raw"
        chance = random.Random(5)
        with path.open("wb") as file:
            os.truncate(path, 4 * MIB)
            for _ in range(60):
                os.pwrite(file.fileno(), b"x" * 4096, chance.randrange(1024) * 4096)
            os.posix_fallocate(file.fileno(), 3 * MIB, 8192)
        mapped = parsed(qemu_img("map", "-f", "raw", "--output=json", path).stdout)
        expected = [(run["start"], run["length"], run["data"]) for run in map(dict, mapped)]
        with open_local(path) as storage:
            assert list(storage.extents()) == expected

    def test_where_the_system_cannot_tell_all_is_data(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "sparse"
        path.touch()
        os.truncate(path, MIB)
        real = os.lseek

        def without_holes(fd: int, offset: int, whence: int) -> int:
            if whence in (os.SEEK_DATA, os.SEEK_HOLE):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return real(fd, offset, whence)

        with open_local(path) as storage:
            assert list(storage.extents()) == [(0, MIB, False)]
            monkeypatch.setattr("qcow.storage.local.os.lseek", without_holes)
            assert list(storage.extents()) == [(0, MIB, True)]
            assert list(storage.extents(10, 20)) == [(10, 20, True)]

    def test_data_discarded_while_looking(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "disk"
        path.write_bytes(CONTENT)
        real = os.lseek
        discarded: list[int] = []

        def discarding(fd: int, offset: int, whence: int) -> int:
            if whence == os.SEEK_HOLE and not discarded:
                os.truncate(path, 0)
                os.truncate(path, len(CONTENT))
                discarded.append(real(fd, offset, whence))
                return discarded[0]
            return real(fd, offset, whence)

        monkeypatch.setattr("qcow.storage.local.os.lseek", discarding)
        with open_local(path) as storage:
            assert list(storage.extents()) == [(0, len(CONTENT), False)]
        assert discarded == [0]

    @pytest.mark.oracle
    def test_allocated_bytes_are_those_of_qemu(self, tmp_path: Path) -> None:
        path = tmp_path / "a.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", "-o", "preallocation=falloc", path, "3M")
        info = dict(parsed(qemu_img("info", "--output=json", path).stdout))
        with open_local(path) as storage:
            assert storage.allocated_bytes() == info["actual-size"]
        assert MemoryStorage(b"abc").allocated_bytes() is None


class TestOpening:
    @pytest.mark.parametrize("kind", ["str", "bytes", "path"])
    def test_any_spelling_of_a_path(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "disk.img"
        path.write_bytes(b"abc")
        given: dict[str, str | bytes | Path] = {
            "str": str(path),
            "bytes": os.fsencode(path),
            "path": path,
        }
        with open_local(given[kind]) as file:
            assert file.name == file.path == str(path)
            found = path.stat()
            assert file.identity() == (found.st_dev, found.st_ino)
            assert not file.is_device

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        path = os.fsencode(tmp_path) + b"/\xff\x1b[31m"
        with open(path, "wb") as file:
            file.write(b"abc")
        with open_local(path) as storage:
            assert os.fsencode(storage.name) == path
            assert storage.read(0, 9) == b"abc"
            assert "\x1b" not in repr(storage)

    def test_two_names_of_one_file_are_one_identity(self, tmp_path: Path) -> None:
        path, linked, other = (tmp_path / name for name in ("a", "b", "c"))
        path.write_bytes(b"abc")
        other.write_bytes(b"abc")
        linked.hardlink_to(path)
        (tmp_path / "d").symlink_to(path)
        with (
            open_local(path) as a,
            open_local(linked) as b,
            open_local(other) as c,
            open_local(tmp_path / "d") as d,
        ):
            assert a.identity() == b.identity() == d.identity() != c.identity()
        assert MemoryStorage(b"").identity() is None

    @pytest.mark.parametrize(
        ("make", "word"),
        [
            (os.mkfifo, "FIFO"),
            (lambda path: path.mkdir(), "directory"),
            (lambda path: path.symlink_to("/dev/zero"), "character device"),
            (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "socket"),
        ],
    )
    def test_what_is_no_file_is_never_opened(
        self, tmp_path: Path, make: Callable[[Path], None], word: str
    ) -> None:
        path = tmp_path / "odd"
        make(path)
        with opened_files() as opened, pytest.raises(NotRegularFile, match=word):
            open_local(path)
        assert opened.paths == []

    def test_a_file_exchanged_for_a_fifo_is_found_out(self, tmp_path: Path) -> None:
        path = tmp_path / "fifo"
        os.mkfifo(path)
        descriptor = os.open(path, OPEN_FLAGS)  # returns at once, nobody writes
        with pytest.raises(NotRegularFile, match="FIFO"):
            LocalFile(descriptor, str(path))
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("nothing", "Could not open '{}/nothing': No such file or directory"),
            ("loop", "Could not open '{}/loop': Too many levels of symbolic links"),
            ("file/", "Could not open '{}/file/': Not a directory"),
            ("a\0b", "Could not open '{}/a\\x00b': it is no file name"),
            ("\x1b]0;x\x07", "Could not open '{}/\\x1b]0;x\\x07': No such file or directory"),
            ("x" * 300, "Could not open '{}/" + "x" * 300 + "': File name too long"),
        ],
    )
    def test_failures_say_what_and_why(self, tmp_path: Path, name: str, message: str) -> None:
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError) as caught:
            open_local(f"{tmp_path}/{name}")
        assert str(caught.value) == message.format(tmp_path)

    def test_it_is_opened_for_reading_only_and_not_inherited(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(b"abc")
        with open_local(path) as file:
            with pytest.raises(OSError) as caught:
                os.pwrite(file.fileno(), b"x", 0)
            assert caught.value.errno == errno.EBADF
            assert not os.get_inheritable(file.fileno())

    def test_after_closing(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(b"abc")
        file = open_local(path)
        descriptor = file.fileno()
        file.close()
        file.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        for ask in (
            file.size,
            file.modified,
            file.allocated_bytes,
            lambda: file.read(0, 1),
            lambda: file.read_into(0, bytearray(1)),
            lambda: file.read_pieces([0], 1, memoryview(bytearray(1))),
            lambda: list(file.extents()),
        ):
            with pytest.raises(StorageError, match=r"Could not .*Bad file descriptor"):
                ask()

    def test_a_forgotten_file_is_closed(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(b"abc")
        descriptor = open_local(path).fileno()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


class TestBadSectors:
    def test_an_input_output_error_names_file_and_place(self) -> None:
        # Address 0 of this process is not mapped: a regular file that truly answers EIO there.
        with open_local("/proc/self/mem") as file:
            for read in (
                lambda: file.read(0, 16),
                lambda: file.read_into(0, bytearray(16)),
                lambda: file.read_pieces([0], 16, memoryview(bytearray(16))),
            ):
                with pytest.raises(StorageError) as caught:
                    read()
                assert str(caught.value) == (
                    "Could not read 16 bytes at offset 0 of '/proc/self/mem': Input/output error"
                )


@pytest.fixture(params=["real", "pretended"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A block device of 1 MiB that begins with CONTENT.

    Where no loop device can be had both are pretended; the pretence is tested against the truth
    wherever there is one.
    """
    path = tmp_path / "disk.raw"
    path.write_bytes(CONTENT + bytes(MIB - len(CONTENT)))
    with loop_device(path, real=request.param == "real") as found:
        yield found


class TestBlockDevices:
    def test_a_device_is_read_like_a_file(self, device: Path) -> None:
        with open_local(device) as file:
            assert file.is_device
            assert file.size() == MIB
            assert file.read(1000, 99_000) == CONTENT[1000:100_000]
            assert file.read(MIB - 4, 100) == bytes(4)
            assert file.read(0, 1 << 50)[: len(CONTENT)] == CONTENT
            pieces = memoryview(bytearray(1024))
            file.read_pieces([MIB, 512], 512, pieces)
            assert bytes(pieces) == bytes(512) + CONTENT[512:1024]
            assert list(file.extents()) == [(0, MIB, True)]
            found = os.stat(device)
            assert file.identity() == (found.st_dev, found.st_ino)

    @pytest.mark.oracle
    def test_it_occupies_what_qemu_says(self, device: Path) -> None:
        info = dict(parsed(qemu_img("info", "--output=json", device).stdout))
        with open_local(device) as file:
            assert file.allocated_bytes() == (info["actual-size"] if is_real(device) else 0)
            assert file.size() == info["virtual-size"]

    def test_writing_to_it_changes_the_stamp(self, device: Path) -> None:
        with open_local(device) as file:
            before = file.modified()
            assert file.modified() == before
            writer = os.open(device, os.O_WRONLY)
            os.pwrite(writer, b"x", 0)
            os.close(writer)
            assert file.modified() != before


def test_reading_needs_no_heavy_module() -> None:
    code = (
        "import sys, qcow.storage.local, qcow.storage.memory, qcow.storage.locks, "
        "qcow.storage.holders, qcow.storage.gate; "
        "print(sorted({'numpy', 'rich', 'textual', 'qcow.layout'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert shown.decode().strip() == "[]"
