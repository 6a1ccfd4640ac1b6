"""What QEMU does with an image whose switch through the journal was cut short, and afterwards."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from qcow.edit.journal_place import pending, places_of
from qcow.edit.journal_switch import Outcome, recover, switch_through_journal
from qcow.edit.patch import Patch
from qcow.storage.base import ReadableBuffer
from qcow.storage.writable import WritableFile, open_local_writable
from tests.support.qemu import guest_bytes, qemu_img, qemu_io, run

pytestmark = pytest.mark.oracle


def _patches(image: Path) -> list[Patch]:
    """Another backing file name, longer than sector 0 has room for."""
    data = image.read_bytes()[:65536]
    start = int.from_bytes(data[8:16])
    length = int.from_bytes(data[16:20])
    name = b"./" * 240 + data[start : start + length]
    return [
        Patch(16, data[16:20], len(name).to_bytes(4)),
        Patch(start, data[start : start + len(name)], name),
    ]


def _killed_after(writes: int, image: Path) -> None:
    """Begin the switch in a process that kills itself before write number ``writes``."""
    child = os.fork()
    if not child:
        left = writes

        class Fatal(WritableFile):
            def write(self, offset: int, data: ReadableBuffer) -> None:
                nonlocal left
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                super().write(offset, data)

        try:
            storage = open_local_writable(image)
            storage.__class__ = Fatal
            switch_through_journal(storage, places_of(str(image))[0], _patches(image), "test")
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_killed_switch_is_completed(tmp_path: Path, writes: int) -> None:
    base, image = tmp_path / "base.qcow2", tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", base, "1M")
    qemu_io(base, "write -P 7 0 64k")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", image)
    qemu_io(image, "write -P 9 128k 64k")
    guest = guest_bytes(image)
    _killed_after(writes, image)

    assert pending(str(image)) is not None
    if writes:
        refused = run("qemu-io", "-c", "write 0 512", image, check=False)
        assert b"corrupt" in refused.stdout + refused.stderr
        assert qemu_img("info", image).returncode == 0

    with open_local_writable(image) as storage:
        result = recover(storage, places_of(str(image))[0])
    assert result.outcome is Outcome.ROLLED_FORWARD
    assert pending(str(image)) is None
    assert qemu_img("check", image, check=False).returncode == 0
    assert guest_bytes(image) == guest
    assert b"././" in qemu_img("info", image).stdout
    qemu_io(image, "write -P 3 0 64k")
    assert qemu_img("check", image, check=False).returncode == 0
