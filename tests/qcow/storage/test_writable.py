"""Writing to regular files, block devices and memory."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcow.errors import NoSpaceError, NotRegularFile, StorageError
from qcow.storage import writable
from qcow.storage.base import WritableStorage
from qcow.storage.local import open_local
from qcow.storage.memory import MemoryStorage, WritableMemory
from qcow.storage.writable import WritableFile, open_local_writable, reopen_writable
from tests.support.devices import loop_device

KIB, MIB = 1 << 10, 1 << 20
CONTENT = random.Random(5).randbytes(300_001)


def new_file(path: Path, content: bytes = CONTENT) -> WritableFile:
    path.write_bytes(content)
    return open_local_writable(path)


@pytest.fixture(params=["file", "memory"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WritableStorage]:
    """The same bytes in every kind of storage that grows."""
    if request.param == "memory":
        yield WritableMemory(CONTENT)
        return
    with new_file(tmp_path / "content") as file:
        yield file


def everything(storage: WritableStorage) -> bytes:
    return storage.read(0, storage.size())


class TestOpening:
    def test_bytes_and_paths(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        with new_file(path) as file:
            assert (file.name, file.path, file.size()) == (str(path), str(path), len(CONTENT))
        with open_local_writable(os.fsencode(path)) as file:
            file.write(0, b"x")
        assert path.read_bytes() == b"x" + CONTENT[1:]

    def test_nothing_is_created(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match=r"open for writing '.*/no': No such file"):
            open_local_writable(tmp_path / "no")
        assert list(tmp_path.iterdir()) == []

    def test_other_kinds_of_file_are_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        for name in ("fifo", ""):
            with pytest.raises(NotRegularFile):
                open_local_writable(tmp_path / name)

    def test_a_name_is_shown_as_text(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match=r"a\\x1b") as caught:
            open_local_writable(tmp_path / "a\x1b")
        assert "\x1b" not in str(caught.value)

    def test_the_same_file_whatever_its_name_leads_to(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(CONTENT)
        with open_local(path) as reader:
            path.rename(tmp_path / "b")
            path.write_bytes(b"another")
            with reopen_writable(reader) as file:
                assert file.identity() == reader.identity()
                assert file.name == str(path)
                file.write(0, b"x")
            assert reader.read(0, 1) == b"x"
        assert path.read_bytes() == b"another"


class TestChanging:
    def test_a_write_anywhere(self, stored: WritableStorage) -> None:
        model = bytearray(CONTENT)
        for offset, data in [(0, b"a"), (299_999, b"bcde"), (17, b""), (400_000, b"far")]:
            stored.write(offset, data)
            if data:
                model.extend(bytes(max(0, offset - len(model))))
                model[offset : offset + len(data)] = data
        stored.write(5, memoryview(b"view"))
        stored.write(50, bytearray(b"array"))
        model[5:9], model[50:55] = b"view", b"array"
        stored.flush()
        assert everything(stored) == bytes(model)

    def test_a_length(self, stored: WritableStorage) -> None:
        stored.truncate(1000)
        assert everything(stored) == CONTENT[:1000]
        stored.truncate(2000)
        assert everything(stored) == CONTENT[:1000] + bytes(1000)

    @pytest.mark.parametrize(
        ("offset", "length"), [(4096, 65536), (1, 3), (299_000, MIB), (400_000, 5), (7, 0)]
    )
    def test_a_punched_range_reads_zeros(
        self, stored: WritableStorage, offset: int, length: int
    ) -> None:
        stored.punch(offset, length)
        end = min(offset + length, len(CONTENT))
        zeros = bytes(max(0, end - offset))
        assert everything(stored) == CONTENT[:offset] + zeros + CONTENT[offset + len(zeros) :]

    def test_a_reservation_changes_no_byte(self, stored: WritableStorage) -> None:
        stored.allocate(100_000, 500_000)
        stored.allocate(0, 0)
        assert everything(stored) == CONTENT

    def test_no_such_place(self, stored: WritableStorage) -> None:
        calls: list[Callable[[], None]] = [
            lambda: stored.write(-1, b"x"),
            lambda: stored.truncate(-1),
            lambda: stored.punch(-1, 5),
            lambda: stored.allocate(-1, 5),
        ]
        for call in calls:
            with pytest.raises(ValueError):
                call()
        assert everything(stored) == CONTENT

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("w"), st.integers(0, 20_000), st.binary(max_size=6000)),
                st.tuples(st.just("t"), st.integers(0, 20_000)),
                st.tuples(st.just("p"), st.integers(0, 20_000), st.integers(0, 9000)),
                st.tuples(st.just("a"), st.integers(0, 20_000), st.integers(0, 9000)),
                st.tuples(
                    st.just("c"),
                    st.integers(0, 20_000),
                    st.integers(0, 20_000),
                    st.integers(0, 9000),
                ),
            ),
            max_size=12,
        )
    )
    def test_file_and_memory_agree(
        self, tmp_path_factory: pytest.TempPathFactory, ops: list[tuple[object, ...]]
    ) -> None:
        source = MemoryStorage(CONTENT[:10_000])
        path = tmp_path_factory.mktemp("both") / "file"
        with new_file(path, b"") as file:
            memory = WritableMemory()
            calls = {"w": "write", "t": "truncate", "p": "punch", "a": "allocate"}
            for kind, *given_ in ops:
                for storage in (file, memory):
                    if kind == "c":
                        storage.copy(source, *given_)  # type: ignore[arg-type]
                    else:
                        getattr(storage, calls[str(kind)])(*given_)
            assert everything(file) == memory.contents()


class TestOnTheHost:
    """What a file system does beside the bytes."""

    def test_a_punched_range_is_given_back(self, tmp_path: Path) -> None:
        with new_file(tmp_path / "a", bytes(b"x" * MIB)) as file:
            before = file.allocated_bytes()
            file.punch(0, MIB // 2)
            assert before is not None
            assert (file.allocated_bytes() or 0) <= before - MIB // 2
            assert file.size() == MIB

    def test_where_it_cannot_be_zeros_are_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _no_fallocate(monkeypatch, errno.EOPNOTSUPP)
        with new_file(tmp_path / "a", b"x" * (3 * MIB)) as file:
            file.punch(5, 2 * MIB)
            file.punch(3 * MIB - 1, 100)
            assert everything(file) == b"x" * 5 + bytes(2 * MIB) + b"x" * (MIB - 6) + b"\0"
            file.allocate(0, 10 * MIB)
            assert file.size() == 3 * MIB

    def test_a_reservation_holds_blocks_in_holes_and_beyond_the_end(self, tmp_path: Path) -> None:
        with new_file(tmp_path / "a", b"") as file:
            file.truncate(MIB)
            file.allocate(MIB // 2, MIB)
            assert file.size() == MIB
            assert (file.allocated_bytes() or 0) >= MIB

    def test_a_refused_reservation_ends_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with new_file(tmp_path / "a") as file:
            with monkeypatch.context() as patch:
                _no_fallocate(patch, errno.EDQUOT)
                with pytest.raises(NoSpaceError, match="reserve 5 bytes at offset 7 of"):
                    file.allocate(7, 5)
            file.write(0, b"x")
            assert everything(file) == b"x" + CONTENT[1:]

    def test_more_than_there_is(self, tmp_path: Path) -> None:
        with new_file(tmp_path / "a") as file:
            room = file.room()
            assert room is not None
            held = file.allocated_bytes()
            with pytest.raises(NoSpaceError):
                file.allocate(0, room + (1 << 40))
            assert file.size() == len(CONTENT)
            assert file.allocated_bytes() == held

    def test_the_time_of_the_last_change(self, tmp_path: Path) -> None:
        with new_file(tmp_path / "a") as file:
            file.set_modified(1_234_567_890_123_456_789)
            assert file.modified() == (len(CONTENT), 1_234_567_890_123_456_789)

    def test_short_writes_go_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:1000], offset))
        with new_file(tmp_path / "a", b"") as file:
            file.write(3, CONTENT)
            assert everything(file) == bytes(3) + CONTENT


def _no_fallocate(patch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*given: object) -> None:
        raise OSError(number, os.strerror(number))

    patch.setattr(writable, "fallocate", refuse)


class TestCopying:
    @pytest.fixture
    def sparse(self, tmp_path: Path) -> Iterator[WritableFile]:
        """Data, a hole of 1 MiB, data, and a hole of 1 MiB at the end."""
        with new_file(tmp_path / "sparse", CONTENT[: 256 * KIB]) as file:
            file.write(1280 * KIB, CONTENT[:10_000])
            file.truncate(2304 * KIB)
            yield file

    @pytest.mark.parametrize("full", [False, True])
    @pytest.mark.parametrize("kind", ["file", "memory"])
    @pytest.mark.parametrize(
        ("source_offset", "offset", "length"),
        [
            (0, 0, 2304 * KIB),
            (0, 64 * KIB, 3 * MIB),
            (100, 77, 300_000),
            (1000 * KIB, 0, 1300 * KIB),
            (2 * MIB, 5 * MIB, 64 * KIB),
            (9 * MIB, 64 * KIB, 64 * KIB),
            (0, 0, 0),
        ],
    )
    def test_reads_as_the_source(
        self,
        sparse: WritableFile,
        tmp_path: Path,
        kind: str,
        full: bool,
        source_offset: int,
        offset: int,
        length: int,
    ) -> None:
        whole = everything(sparse)
        before = b"old" * MIB if full else b""
        source = sparse if kind == "file" else MemoryStorage(whole)
        with new_file(tmp_path / "to", before) as target:
            target.copy(source, source_offset, offset, length)
            expected = bytearray(before)
            if length:
                expected.extend(bytes(max(0, offset + length - len(expected))))
                expected[offset : offset + length] = whole[
                    source_offset : source_offset + length
                ].ljust(length, b"\0")
            assert everything(target) == bytes(expected)

    def test_holes_stay_holes(self, sparse: WritableFile, tmp_path: Path) -> None:
        with new_file(tmp_path / "to", b"") as target:
            target.copy(sparse, 0, 0, sparse.size())
            assert list(target.extents()) == list(sparse.extents())
            target.write(0, b"x" * sparse.size())
            target.copy(sparse, 0, 0, sparse.size())
            assert list(target.extents()) == list(sparse.extents())

    @pytest.mark.parametrize("number", [errno.EXDEV, errno.EOPNOTSUPP, errno.EIO])
    def test_without_help_of_the_kernel(
        self,
        sparse: WritableFile,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
    ) -> None:
        real, calls = os.copy_file_range, []

        def at_first(fd: int, to: int, count: int, *places: int) -> int:
            calls.append(count)
            if len(calls) == 1:
                return real(fd, to, min(count, 5000), *places)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "copy_file_range", at_first)
        with new_file(tmp_path / "to", b"") as target:
            target.copy(sparse, 0, 0, sparse.size())
            assert everything(target) == everything(sparse)
        assert len(calls) >= 2

    def test_within_one_file(self, sparse: WritableFile) -> None:
        whole = everything(sparse)
        sparse.copy(sparse, 0, 3 * MIB, 2 * MIB)
        assert everything(sparse) == whole.ljust(3 * MIB, b"\0") + whole[: 2 * MIB]
        with pytest.raises(ValueError, match="overlap"):
            sparse.copy(sparse, 0, 10, 11)

    def test_a_source_that_cannot_be_read_ends_nothing(self, tmp_path: Path) -> None:
        class Bad(MemoryStorage):
            def read_into(self, offset: int, buffer: bytearray | memoryview) -> int:
                raise StorageError("bad sector")

        with new_file(tmp_path / "to") as target:
            with pytest.raises(StorageError, match="bad sector"):
                target.copy(Bad(CONTENT), 0, 0, 100)
            target.write(0, b"x")


CHANGES: dict[str, Callable[[WritableFile], None]] = {
    "write": lambda file: file.write(0, b"x"),
    "flush": lambda file: file.flush(),
    "truncate": lambda file: file.truncate(5),
    "punch": lambda file: file.punch(0, 5),
    "copy": lambda file: file.copy(MemoryStorage(b"x"), 0, 0, 1),
    "allocate": lambda file: file.allocate(0, 1),
}


class TestTheFirstFailure:
    @pytest.mark.parametrize(
        ("number", "kind"),
        [(errno.EIO, StorageError), (errno.ENOSPC, NoSpaceError), (errno.EDQUOT, NoSpaceError)],
    )
    @pytest.mark.parametrize("failing", ["write", "flush", "truncate", "punch"])
    def test_ends_all_changes_but_no_reading(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        failing: str,
        number: int,
        kind: type[StorageError],
    ) -> None:
        def fail(*given: object) -> None:
            raise OSError(number, os.strerror(number))

        calls = {"write": "pwrite", "flush": "fdatasync", "truncate": "ftruncate"}
        with new_file(tmp_path / "a") as file:
            with monkeypatch.context() as patch:
                if failing == "punch":
                    patch.setattr(writable, "fallocate", fail)
                else:
                    patch.setattr(os, calls[failing], fail)
                with pytest.raises(StorageError) as caught:
                    CHANGES[failing](file)
                assert type(caught.value) is kind
                assert str(caught.value).endswith(os.strerror(number))
            for change in CHANGES.values():
                with pytest.raises(StorageError, match="not changed any more"):
                    change(file)
            assert everything(file) == CONTENT

    def test_a_real_limit(self, tmp_path: Path) -> None:
        """A process that may not make larger files: the write stops halfway, and that was it."""
        path = tmp_path / "a"
        path.write_bytes(b"")
        code = (
            "import resource, sys; from qcow.storage.writable import open_local_writable\n"
            "from qcow.errors import StorageError\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
            "file = open_local_writable(sys.argv[1])\n"
            "for data in (b'x' * 150000, b'y'):\n"
            "    try: file.write(0, data); print('written')\n"
            "    except StorageError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
        first, second = done.stdout.splitlines()
        assert first == f"Could not write 50000 bytes at offset 100000 of '{path}': File too large"
        assert second == f"'{path}' is not changed any more: {first}"
        assert path.read_bytes() == b"x" * 100_000

    def test_beyond_any_position(self, tmp_path: Path) -> None:
        with new_file(tmp_path / "a") as file, pytest.raises(StorageError, match="too large"):
            file.write(1 << 64, b"x")

    def test_memory_that_is_full(self) -> None:
        memory = WritableMemory(b"abc", limit=4)
        memory.write(3, b"d")
        with pytest.raises(NoSpaceError):
            memory.write(2, b"xyz")
        assert memory.contents() == b"abcd"


class TestDevices:
    @pytest.fixture(params=[True, False], ids=["real if possible", "pretended"])
    def device(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WritableFile]:
        disk = tmp_path / "disk.raw"
        disk.write_bytes(b"x" * (2 * MIB))
        with (
            loop_device(disk, real=request.param) as path,
            open_local_writable(path) as file,
        ):
            yield file

    def test_bytes(self, device: WritableFile) -> None:
        assert device.is_device
        device.write(5, b"hello")
        device.punch(4096, MIB)
        device.punch(MIB + 8191, 3)
        device.allocate(0, 10 * MIB)
        device.copy(MemoryStorage(b"copied"), 0, 100, 8)
        device.flush()
        model = bytearray(b"x" * (2 * MIB))
        model[5:10], model[100:108] = b"hello", b"copied\0\0"
        model[4096 : 4096 + MIB] = bytes(MIB)
        model[MIB + 8191 : MIB + 8194] = bytes(3)
        assert everything(device) == bytes(model)
        assert device.room() is None

    def test_its_length_stays(self, device: WritableFile) -> None:
        with pytest.raises(ValueError):
            device.truncate(5)
        device.write(0, b"still")
        assert device.size() == 2 * MIB
