"""The storages that record and that fail, on their own."""

from __future__ import annotations

import pytest

from qcow.errors import NoSpaceError, StorageError
from qcow.storage.base import WritableStorage
from qcow.storage.memory import MemoryStorage, WritableMemory
from tests.support.storages import Fault, FaultyStorage, Killed, RecordingStorage

from .enumerate import Op, replay

BASE = bytes(range(256)) * 8
KILLS = (Fault.KILL, Fault.KILL_HALFWAY, Fault.KILL_AFTER)


def work(storage: WritableStorage) -> None:
    """One call of each kind that changes something, and a read between."""
    storage.allocate(3000, 100)
    storage.write(100, b"0123456789")
    storage.flush()
    storage.read(100, 10)
    storage.punch(200, 60)
    storage.copy(MemoryStorage(b"copied"), 0, 1500, 8)
    storage.truncate(3000)
    storage.flush()


def test_what_was_recorded_leads_to_the_same_file() -> None:
    memory = WritableMemory(BASE)
    recording = RecordingStorage(memory)
    work(recording)
    assert replay(BASE, recording.ops) == memory.contents() != BASE
    assert [op[0] for op in recording.ops] == ["w", "b", "p", "w", "t", "b"]
    assert recording.read(1500, 8) == b"copied\0\0"


def test_two_files_share_one_record() -> None:
    shared: list[tuple[int, Op]] = []
    one = RecordingStorage(WritableMemory(BASE), shared=shared, file=0)
    two = RecordingStorage(WritableMemory(BASE), shared=shared, file=1)
    one.write(0, b"a")
    two.flush()
    one.flush()
    assert shared == [(0, ("w", 0, b"a")), (1, ("b",)), (0, ("b",))]


def test_what_failed_is_not_recorded() -> None:
    recording = RecordingStorage(FaultyStorage(WritableMemory(BASE), 0, Fault.EIO))
    with pytest.raises(StorageError):
        recording.write(0, b"a")
    assert recording.ops == []


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("fault", Fault)
def test_every_call_fails_once(fault: Fault, reads: bool) -> None:
    struck = []
    for at in range(100):
        memory = WritableMemory(BASE)
        faulty = FaultyStorage(memory, at, fault, reads=reads)
        raised: type[BaseException] | None = None
        try:
            work(faulty)
        except (StorageError, Killed) as error:
            raised = type(error)
        assert (raised is Killed) == (faulty.struck and fault in KILLS)
        assert (raised is None) == (not faulty.struck)
        if raised is None:
            break
        struck.append(faulty.struck_at)
        ended = faulty.struck_at not in ("read", "allocate")
        if ended and fault not in KILLS:
            with pytest.raises(StorageError, match="not changed any more"):
                faulty.write(0, b"x")
        assert faulty.read(0, 1) == b"\0"
    read = ["read"] if reads else []
    expected = ["allocate", "write", "flush", *read, "punch", "write", "truncate", "flush"]
    assert struck == expected


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        (Fault.EIO, b"\0\0\0\0"),
        (Fault.ENOSPC, b"\0\0\0\0"),
        (Fault.SHORT, b"ab\0\0"),
        (Fault.KILL, b"\0\0\0\0"),
        (Fault.KILL_HALFWAY, b"ab\0\0"),
        (Fault.KILL_AFTER, b"abcd"),
    ],
)
def test_what_a_failed_write_leaves(fault: Fault, left: bytes) -> None:
    memory = WritableMemory(bytes(4))
    with pytest.raises((StorageError, Killed)) as caught:
        FaultyStorage(memory, 0, fault).write(0, b"abcd")
    assert memory.contents() == left
    assert isinstance(caught.value, NoSpaceError) == (fault is Fault.ENOSPC)
