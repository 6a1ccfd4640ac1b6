"""Story S10: an image is compacted in place where there is hardly any room, and killed meanwhile.

The room is that of a real, small ext4 on a loop device, or where nothing may be mounted from a file
a tmpfs in a namespace of the test's own; the kills are SIGKILL.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import qemu_check, sha256
from tests.support.qemu import guest_raw, qemu_img, qemu_io

pytestmark = pytest.mark.oracle

MIB = 1 << 20
#: What the file system has left beside the image.
ROOM = 7 * MIB
_SIZE = 128 * MIB


class SmallDisk:
    """A file system of 128 MiB, seen from here at ``path`` and by its own processes at ``where``.

    ``enter``: what makes a command such a process.
    """

    def __init__(self, path: Path, where: Path, enter: tuple[str, ...]) -> None:
        self.path = path
        self.where = where
        self.enter = enter

    def free(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self) -> None:
        """Leave ROOM bytes."""
        ballast = self.path / "ballast"
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.free() - ROOM - MIB)
            while self.free() > ROOM:
                file.seek(0, os.SEEK_END)
                file.write(bytes(64 << 10))
                file.flush()
                os.fsync(file.fileno())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    where = tmp_path / "small"
    where.mkdir()
    # A namespace ends with the test, whatever happens; the mount is seen through its process.
    alone: tuple[str, ...] = () if os.geteuid() == 0 else ("--user",)
    unshare = ["unshare", "--mount", *alone, *(("--map-root-user",) if alone else ())]
    image = tmp_path / "small.ext4"
    with open(image, "wb") as file:
        file.truncate(_SIZE)
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    ext4 = f"{mkfs} -q -m 0 -O ^has_journal {image} && mount -o loop {image} {where}"
    tmpfs = f"mount -t tmpfs -o size={_SIZE} none {where}"
    script = f"{{ {ext4}; }} 2>/dev/null || {tmpfs}; echo mounted; exec sleep 1000"
    holder = subprocess.Popen(
        [*unshare, "sh", "-c", script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mounted\n"
        seen = Path(f"/proc/{holder.pid}/root{where}")
        assert os.statvfs(seen).f_blocks * os.statvfs(seen).f_frsize <= _SIZE
        alone = (*alone, "--preserve-credentials") if alone else ()
        yield SmallDisk(seen, where, ("nsenter", f"--target={holder.pid}", "--mount", *alone))
    finally:
        holder.kill()
        holder.wait()


def make(path: Path) -> None:
    """89 MiB of which 10 MiB were discarded and some belonged to a snapshot that is deleted."""
    qemu_img("create", "-q", "-f", "qcow2", path, "256M")
    qemu_io(path, *(f"write -P {n + 1} {n * 8}M 4M" for n in range(8)))
    qemu_img("snapshot", "-c", "clean-install", path)
    qemu_io(path, *(f"write -P {n + 50} {n * 8 + 1}M 3M" for n in range(5)))
    qemu_img("snapshot", "-c", "before-update", path)
    qemu_io(path, *(f"write -P {n + 100} {n * 8 + 1}M 3M" for n in range(5)))
    qemu_img("snapshot", "-c", "after-update", path)
    qemu_io(path, *(f"write -P {n + 150} {100 + n * 8}M 4M" for n in range(4)))
    qemu_img("snapshot", "-d", "before-update", path)
    qemu_io(path, "discard 100M 4M", "discard 108M 4M", "discard 116M 2M")


def contents(path: Path, scratch: Path) -> list[str]:
    """What QEMU reads of the active state and of both snapshots."""
    found = []
    for name in (None, "1", "3"):
        raw = scratch / "read.raw"
        guest_raw(path, raw, name)
        found.append(sha256(raw))
        raw.unlink()
    return found


def compact(*options: str, disk: SmallDisk, state: Path) -> subprocess.Popen[bytes]:
    path = disk.where / "s10-compact.qcow2"
    return subprocess.Popen(
        [*disk.enter, sys.executable, "-m", "qcowtui", "compact", *options, str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "XDG_STATE_HOME": str(state)},
    )


def kill_after_a_switch(
    running: subprocess.Popen[bytes], path: Path, randomly: random.Random
) -> bool:
    """Kill the program at any moment after it changed the header; False when it came to its end."""
    with open(path, "rb", buffering=0) as file:
        header = os.pread(file.fileno(), 512, 0)
        while os.pread(file.fileno(), 512, 0) == header and running.poll() is None:
            time.sleep(0.001)
    time.sleep(randomly.random() * 0.03)
    if running.poll() is None:
        os.kill(running.pid, signal.SIGKILL)
    _, said = running.communicate(timeout=60)
    assert running.returncode in (0, -signal.SIGKILL), said
    return running.returncode != 0


def test_compact_in_place_with_no_spare_room(disk: SmallDisk, tmp_path: Path) -> None:
    path, state = disk.path / "s10-compact.qcow2", tmp_path / "state"
    make(path)
    before, length = contents(path, tmp_path), path.stat().st_size
    disk.fill()
    assert disk.free() <= ROOM
    # QEMU's way needs a second file, and leaves the snapshots behind.
    copy = qemu_img("convert", "-O", "qcow2", path, disk.path / "copy.qcow2", check=False)
    assert copy.returncode != 0
    (disk.path / "copy.qcow2").unlink(missing_ok=True)

    planning = compact("--dry-run", "--output=json", disk=disk, state=state)
    told, said = planning.communicate(timeout=60)
    assert planning.returncode == 0, said
    plan = _first(json.loads(told))
    assert plan["saved-length"] >= 10 * MIB
    assert plan["extra-space"] < 8 * MIB
    assert path.stat().st_size == length

    randomly = random.Random(10)
    killed = 0
    while kill_after_a_switch(compact("-y", disk=disk, state=state), path, randomly):
        killed += 1
        assert qemu_check(path).code == 0, "neither errors nor leaks"
        if killed % 3 == 0:
            assert contents(path, tmp_path) == before
    assert killed >= 3, plan["switches"]

    assert qemu_check(path).code == 0
    assert contents(path, tmp_path) == before
    assert path.stat().st_size == plan["file-length-after"] <= length - 10 * MIB
    names = qemu_img("snapshot", "-l", path).stdout
    assert b"clean-install" in names
    assert b"after-update" in names
    assert b"before-update" not in names


def _first(told: object) -> dict[str, int]:
    found = told[0] if isinstance(told, list) else told
    assert isinstance(found, dict)
    plans = found.get("plans")
    return dict(plans[0]) if plans else dict(found)
