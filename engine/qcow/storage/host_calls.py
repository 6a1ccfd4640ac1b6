"""System calls of Linux that Python's ``os`` does not offer, by way of the C library."""

from __future__ import annotations

import errno
import os

#: ``fallocate(2)``
KEEP_SIZE = 0x01
PUNCH_HOLE = 0x02
ZERO_RANGE = 0x10

#: What a kernel, file system or device answers to a request that it cannot do at all.
UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL, errno.EPERM})

#: ``f_type`` of statfs(2), for the file systems where a lock may be known to this machine only.
_NETWORK = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB",
    0x01021997: "9p",
    0x65735546: "FUSE",
    0x5346414F: "AFS",
    0x00C36400: "Ceph",
    0x73757245: "Coda",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x786F4256: "vboxsf",
}
#: Longer than ``struct statfs`` of any machine; its first word is the type on all of them.
_STATFS_LENGTH = 256


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """``fallocate(2)``; OSError as the system gives it, EOPNOTSUPP where there is no such call.

    Not ``posix_fallocate``: where the file system cannot do it, that one writes every block.
    """
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    if call is None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while call(fd, mode, offset, length) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def network_file_system(fd: int) -> str | None:
    """The kind of network or user-space file system that the file of ``fd`` lies on, else None.

    OSError as the system gives it.
    """
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "fstatfs", None)
    if call is None:
        return None
    buffer = ctypes.create_string_buffer(_STATFS_LENGTH)
    if call(ctypes.c_int(fd), buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    kind = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_long)).contents.value
    return _NETWORK.get(kind & 0xFFFF_FFFF)
