"""Block devices for tests: a real loop device where this user may set one up, else a pretended one.

Either way the same assertions run; :func:`is_real` tells the two apart where QEMU is asked too.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock


def is_real(device: Path) -> bool:
    """Whether the kernel agrees that this is a block device."""
    done = subprocess.run(["test", "-b", str(device)])
    return done.returncode == 0


@contextmanager
def loop_device(file: Path, *, writable: bool = True, real: bool = True) -> Iterator[Path]:
    """A block device over ``file``, whose length is a multiple of 512; ``real`` if there can be."""
    device = _set_up(file, writable) if real else None
    if device is None:
        with _pretended(file):
            yield file
        return
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=True)


def _set_up(file: Path, writable: bool) -> Path | None:
    options = [] if writable else ["--read-only"]
    try:
        done = subprocess.run(
            ["losetup", "--find", "--show", *options, str(file)], capture_output=True
        )
    except FileNotFoundError:
        return None
    return Path(os.fsdecode(done.stdout).strip()) if done.returncode == 0 else None


@contextmanager
def _pretended(file: Path) -> Iterator[None]:
    """Make this process see ``file`` as a block device, in the ways that devices differ."""
    inode = file.stat().st_ino
    real_stat, real_lstat, real_fstat, real_lseek = os.stat, os.lstat, os.fstat, os.lseek

    def as_device(found: os.stat_result) -> os.stat_result:
        if found.st_ino != inode:
            return found
        shown = list(found)
        shown[stat.ST_MODE] = stat.S_IFBLK | stat.S_IMODE(found.st_mode)
        shown[stat.ST_SIZE] = 0
        named = {name: getattr(found, name) for name in ("st_mtime_ns", "st_atime_ns")}
        return os.stat_result(shown, {**named, "st_blocks": 0, "st_rdev": os.makedev(7, 255)})

    def without_holes(fd: int, offset: int, whence: int) -> int:
        if whence in (os.SEEK_DATA, os.SEEK_HOLE) and real_fstat(fd).st_ino == inode:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real_lseek(fd, offset, whence)

    with ExitStack() as patches:
        for name, pretend in (
            ("stat", lambda *given, **options: as_device(real_stat(*given, **options))),
            ("lstat", lambda *given, **options: as_device(real_lstat(*given, **options))),
            ("fstat", lambda fd: as_device(real_fstat(fd))),
            ("lseek", without_holes),
        ):
            patches.enter_context(mock.patch.object(os, name, pretend))
        yield
