"""The options that give QEMU a larger L2 cache for one image, ready to be pasted into a shell."""

from __future__ import annotations

import os
import shlex

from ..record import record
from ..storage.gate import has_protocol

#: Stands for a path that cannot be shown.
_PLACEHOLDER = "FILE"


@record
class CacheOptions:
    """Both are one option with its argument, quoted for a shell and safe to show."""

    blockdev: str
    drive: str


def l2_cache_options(path: str, size: int) -> CacheOptions:
    """Options for the image at ``path`` with an L2 cache of ``size`` bytes."""
    shown = path if path.isprintable() else _PLACEHOLDER
    local = f"./{shown}" if has_protocol(os.fsencode(shown)) else shown
    file, disk = (name.replace(",", ",,") for name in (shown, local))
    blockdev = (
        f"driver=qcow2,node-name=disk0,file.driver=file,file.filename={file},l2-cache-size={size}"
    )
    drive = f"file={disk},format=qcow2,l2-cache-size={size}"
    return CacheOptions(
        f"-blockdev {shlex.quote(blockdev)}",
        f"-drive {shlex.quote(drive)}",
    )
