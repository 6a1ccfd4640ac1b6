"""What the kernel does with a device, from its tables (made up: tests mount nothing)."""

from __future__ import annotations

import os

import pytest

from qcow.storage import device_users
from qcow.storage.device_users import kernel_users

DISK, PART = os.makedev(240, 16), os.makedev(240, 17)

FILES = {
    "/sys/dev/block/240:16/xda1/dev": b"240:17\n",
    "/sys/dev/block/240:16/holders/dm-3/dm/name": b"vg-\x1broot\n",
    "/proc/self/mountinfo": (
        b"22 1 240:17 / / rw,relatime shared:1 - ext4 /dev/xda1 rw\n"
        b"23 1 0:44 / /with\\040blank rw - btrfs /dev/xda1 rw\n"
        b"24 1 0:45 / /proc rw - proc proc rw\n"
        b"25 1 240:1 / /other rw - ext4 /dev/xdb rw\n"
        b"cut short\n"
    ),
    "/proc/swaps": b"Filename\tType\tSize\n/dev/xda1 partition 5 0 -2\n/swapfile file 1 0 0\n",
}
FOLDERS = {
    "/sys/dev/block/240:16": ["holders", "xda1", "ro"],
    "/sys/dev/block/240:16/holders": ["dm-3"],
    "/sys/dev/block/240:16/xda1/holders": ["md0"],
}


@pytest.fixture(autouse=True)
def _tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_users, "_contents", lambda path: FILES.get(path, b""))
    monkeypatch.setattr(device_users, "_names", lambda path: FOLDERS.get(path, []))
    monkeypatch.setattr(
        device_users, "_device_of", lambda path: PART if path == b"/dev/xda1" else None
    )


def test_all_that_sits_on_a_disk_or_its_partitions() -> None:
    assert kernel_users(DISK) == [
        "/ (mounted)",
        "/dev/dm-3 (vg-\\x1broot)",
        "/dev/md0",
        "/dev/xda1 (swap)",
        "/with blank (mounted)",
    ]


def test_a_partition_alone() -> None:
    assert "/ (mounted)" in kernel_users(PART)
    assert "/dev/dm-3 (vg-\\x1broot)" not in kernel_users(PART)


def test_a_device_nobody_uses() -> None:
    assert kernel_users(os.makedev(240, 99)) == []


def test_the_tables_of_this_machine_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mounted file system with a device of its own is found by it, where there is one."""
    monkeypatch.undo()
    with open("/proc/self/mountinfo", "rb") as file:
        lines = [line.split() for line in file]
    for fields in lines:
        major, minor = map(int, fields[2].split(b":"))
        if major:
            found = kernel_users(os.makedev(major, minor))
            assert any(user.endswith("(mounted)") for user in found)
