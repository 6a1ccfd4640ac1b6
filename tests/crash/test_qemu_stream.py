"""The positive control: QEMU's own ``snapshot -a`` is not safe in a crash, which must be found.

QEMU copies the snapshot's L1 table over the active one in place, so there are moments in which both
refer to clusters that the refcounts and COPIED flags give to one of them alone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from qcow.image.image import Image
from qcow.inspect.check import check
from qcow.opening import open_storage
from qcow.storage.memory import MemoryStorage
from tests.support.qemu import guest_bytes, qemu_img, qemu_io

from .enumerate import Op, replay, states
from .recording import record_program

View = tuple[str, ...]


def contents(file: bytes) -> View:
    """Digests of what the guest reads: the active disk, then each snapshot."""
    image = open_storage(MemoryStorage(file))
    assert isinstance(image, Image)
    return tuple(
        hashlib.sha256(state.read(0, state.virtual_size)).hexdigest() for state in image.states()
    )


def corruptions(file: bytes) -> int:
    image = open_storage(MemoryStorage(file))
    assert isinstance(image, Image)
    result = check(image, decode=False)
    return result.corruptions + result.extra_corruptions


def image_with_snapshot(path: Path, cluster_size: int, size: int) -> None:
    """A disk written at its start and in its second half, a snapshot, and both overwritten."""
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster_size}", path, str(size))
    places = (0, size // 2 + 8192)
    qemu_io(path, *(f"write -P 1 {place} 16k" for place in places))
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, *(f"write -P 2 {place} 16k" for place in places))


def recorded(path: Path, *command: str) -> tuple[bytes, list[Op]]:
    before = path.read_bytes()
    ops = record_program(["qemu-img", *command, path], path)
    assert replay(before, ops) == path.read_bytes()
    assert [op for op in ops if op[0] == "b"]
    return before, ops


@pytest.mark.oracle
class TestSnapshotApply:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "disk.qcow2"

    def test_it_is_flagged(self, path: Path) -> None:
        image_with_snapshot(path, 4096, 1 << 20)
        before, ops = recorded(path, "snapshot", "-a", "first")
        assert corruptions(before) == corruptions(path.read_bytes()) == 0
        flagged = [label for label, file in states(before, ops) if corruptions(file)]
        assert flagged

    def test_a_flagged_state_does_harm_under_qemu(self, path: Path) -> None:
        """In one of them a guest that writes to its disk changes the snapshot."""
        image_with_snapshot(path, 4096, 1 << 20)
        before, ops = recorded(path, "snapshot", "-a", "first")
        snapshot = contents(before)[1]
        harmed = []
        for label, file in states(before, ops):
            if not corruptions(file):
                continue
            assert contents(file)[1] == snapshot
            path.write_bytes(file)
            qemu_io(path, "write -P 7 0 16k")
            if hashlib.sha256(guest_bytes(path, "1")).hexdigest() != snapshot:
                harmed.append(label)
        assert harmed

    def test_half_a_table_shows_as_a_mixed_view(self, path: Path) -> None:
        """With an L1 table of two sectors a torn write makes a disk that never was."""
        image_with_snapshot(path, 512, 4 << 20)
        before, ops = recorded(path, "snapshot", "-a", "first")
        whole = {contents(before), contents(path.read_bytes())}
        assert len(whole) == 2
        mixed = [label for label, file in states(before, ops) if contents(file) not in whole]
        assert mixed
        assert all("torn" in label for label in mixed)


@pytest.mark.oracle
def test_an_orderly_stream_is_not_flagged(tmp_path: Path) -> None:
    """Growing a disk within its L1 table is one write: every state is the old or the new image."""
    path = tmp_path / "disk.qcow2"
    image_with_snapshot(path, 4096, 1 << 20)
    before = path.read_bytes()
    ops = record_program(["qemu-img", "resize", "-q", path, "+64k"], path)
    assert replay(before, ops) == path.read_bytes()
    whole = {contents(before), contents(path.read_bytes())}
    found = list(states(before, ops))
    assert len(found) >= 2
    for _, file in found:
        assert corruptions(file) == 0
        assert contents(file) in whole
