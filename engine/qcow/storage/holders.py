"""Who has a file open: found by its inode in ``/proc/*/fd``, and among the kernel's own users.

QEMU's locks tell *that* an image is in use but carry no process id; an opener with locking switched
off, a migration target, a loop device, a mounted file system or a device mapper on the device hold
no lock at all.  Needs Linux; elsewhere nobody is found.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from ..errors import StorageError
from ..record import record
from ..text import safe
from .device_users import kernel_users
from .local import reason

#: The length the kernel cuts a process's ``comm`` to.
_COMM_LENGTH = 15
_KERNEL_THREAD = 0x0020_0000  # PF_KTHREAD among the flags in /proc/PID/stat


@record
class Holder:
    """One process that has the file open; ``pid`` 0 is the kernel, for what it does with it."""

    pid: int
    command: str  # safe to show: the program's name; of the kernel, the device or mount point
    writing: bool  # it is open for writing


@record
class _Wanted:
    """The file looked for: by inode, and a block device (which has many nodes) by number too."""

    identity: tuple[int, int]
    device: int | None = None

    def is_it(self, found: os.stat_result) -> bool:
        if (found.st_dev, found.st_ino) == self.identity:
            return True
        return stat.S_ISBLK(found.st_mode) and found.st_rdev == self.device


def holders(
    target: str | bytes | os.PathLike[str] | tuple[int, int],
) -> tuple[list[Holder], int]:
    """``(who, hidden)``: the other processes that have ``target`` open, by pid.

    ``target`` is a path or a :meth:`~qcow.storage.base.Storage.identity`.  ``hidden`` counts the
    processes whose open files this user may not see: with it above 0 the list may be incomplete.
    This process is never listed.  Raises StorageError for a path that does not exist.
    """
    wanted = _wanted(target)
    found = list(_loop_devices(wanted))
    if wanted.device is not None:
        found += [Holder(0, user, True) for user in kernel_users(wanted.device)]
    hidden = 0
    for pid in _processes():
        try:
            writing = _opened(pid, wanted)
        except PermissionError:
            hidden += _has_files(pid)
            continue
        except OSError:  # it ended meanwhile
            continue
        if writing is not None:
            found.append(Holder(pid, _command(pid), writing))
    return sorted(found, key=lambda holder: (holder.pid, holder.command)), hidden


def _wanted(target: str | bytes | os.PathLike[str] | tuple[int, int]) -> _Wanted:
    if isinstance(target, tuple):
        return _Wanted(target)
    try:
        found = os.stat(target)
    except (OSError, ValueError) as error:
        shown = safe(os.fsdecode(target))
        raise StorageError(f"Could not look at '{shown}': {reason(error)}") from error
    device = found.st_rdev if stat.S_ISBLK(found.st_mode) else None
    return _Wanted((found.st_dev, found.st_ino), device)


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _processes() -> list[int]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    return [int(name) for name in names if name.isdigit() and int(name) != os.getpid()]


def _opened(pid: int, wanted: _Wanted) -> bool | None:
    """Whether process ``pid`` has the file open for writing; None when it has not opened it."""
    opened: bool | None = None
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            if not wanted.is_it(os.stat(f"/proc/{pid}/fd/{number}")):
                continue
            flags = _open_flags(pid, number)
        except PermissionError:
            raise
        except OSError:  # closed meanwhile
            continue
        opened = bool(opened) or flags & os.O_ACCMODE != os.O_RDONLY
    return opened


def _open_flags(pid: int, number: str) -> int:
    for line in _contents(f"/proc/{pid}/fdinfo/{number}").splitlines():
        if line.startswith(b"flags:"):
            return int(line.split()[1], 8)
    return os.O_RDONLY


def _has_files(pid: int) -> bool:
    """Whether a process we may not look into can have files open at all."""
    try:
        status = _contents(f"/proc/{pid}/stat")
    except OSError:
        return False
    state, *numbers = status[status.rindex(b")") + 1 :].split()
    return state not in (b"Z", b"X") and not int(numbers[5]) & _KERNEL_THREAD


def _command(pid: int) -> str:
    try:
        name = _contents(f"/proc/{pid}/comm").rstrip(b"\n")
        if len(name) == _COMM_LENGTH:  # perhaps cut short: the command line has the whole of it
            program = _contents(f"/proc/{pid}/cmdline").partition(b"\0")[0]
            whole = os.path.basename(program)
            if whole.startswith(name):
                name = whole
    except OSError:
        return "?"
    return safe(name, 64)


def _loop_devices(wanted: _Wanted) -> Iterator[Holder]:
    """Loop devices over the file: the kernel holds it, no process need to."""
    try:
        devices = [name for name in os.listdir("/sys/block") if name.startswith("loop")]
    except OSError:
        return
    for device in devices:
        try:
            backing = _contents(f"/sys/block/{device}/loop/backing_file").removesuffix(b"\n")
            if wanted.is_it(os.stat(backing)):
                writing = _contents(f"/sys/block/{device}/ro").strip() == b"0"
                yield Holder(0, f"/dev/{safe(device)}", writing)
        except OSError:  # not set up, or its file is not visible from here
            continue
