"""What the kernel itself does with a block device: device mappers, RAID, mounts, swap.

None of it shows among the open files of processes, nor in QEMU's locks.
"""

from __future__ import annotations

import os
import re
import stat

from ..text import safe

#: How the kernel writes blanks and backslashes in its tables of mounts and swaps.
_OCTAL = re.compile(rb"\\([0-7]{3})")


def kernel_users(device: int) -> list[str]:
    """What sits on the block device number ``device`` or on a partition of it; safe to show.

    ``/dev/dm-3 (vg-root)``, ``/mnt (mounted)``, ``/dev/sda2 (swap)``; sorted.
    """
    root = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    numbers, users = {device}, set(_stacked(root))
    for name in _names(root):
        number = _number(f"{root}/{name}/dev")
        if number is not None:  # a partition
            numbers.add(number)
            users.update(_stacked(f"{root}/{name}"))
    users.update(_mounts(numbers))
    users.update(_swaps(numbers))
    return sorted(users)


def _stacked(folder: str) -> list[str]:
    found = []
    for name in _names(f"{folder}/holders"):
        called = _contents(f"{folder}/holders/{name}/dm/name").strip()
        found.append(safe(f"/dev/{name} ({os.fsdecode(called)})" if called else f"/dev/{name}"))
    return found


def _mounts(numbers: set[int]) -> list[str]:
    found = []
    for line in _contents("/proc/self/mountinfo").splitlines():
        mount, _, source = line.partition(b" - ")
        fields, origin = mount.split(b" "), source.split(b" ")
        if len(fields) < 5 or len(origin) < 2:
            continue
        # Some file systems have a device number of their own and name the device as the source.
        if _parsed(fields[2]) in numbers or _device_of(_plain(origin[1])) in numbers:
            found.append(safe(os.fsdecode(_plain(fields[4]) + b" (mounted)")))
    return found


def _swaps(numbers: set[int]) -> list[str]:
    lines = _contents("/proc/swaps").splitlines()[1:]
    paths = [_plain(line.split(b" ")[0].split(b"\t")[0]) for line in lines]
    return [safe(os.fsdecode(path + b" (swap)")) for path in paths if _device_of(path) in numbers]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _contents(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _number(path: str) -> int | None:
    return _parsed(_contents(path).strip())


def _parsed(text: bytes) -> int | None:
    major, _, minor = text.partition(b":")
    return os.makedev(int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _plain(text: bytes) -> bytes:
    return _OCTAL.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), text)


def _device_of(path: bytes) -> int | None:
    if not path.startswith(b"/dev/"):
        return None
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_rdev if stat.S_ISBLK(found.st_mode) else None
