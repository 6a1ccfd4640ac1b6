"""Cluster compression as QEMU does it."""

from __future__ import annotations

import sys
import zlib

# What QEMU passes to zlib: a raw stream with a window of 4 KiB.
_WINDOW_BITS = -12
_MEMORY_LEVEL = 9
_ZSTD_LEVEL = 3


def compress_cluster(kind: str, content: bytes) -> bytes | None:
    """``content``, one whole cluster, compressed with ``kind`` (``zlib`` or ``zstd``).

    None when that saves nothing: such a cluster is stored plainly.
    """
    if kind == "zlib":
        deflate = zlib.compressobj(-1, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL)
        packed = deflate.compress(content) + deflate.flush()
    else:
        packed = _zstd(content)
    return packed if len(packed) < len(content) else None


def _zstd(content: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    packed: bytes = zstd.compress(content, level=_ZSTD_LEVEL)
    return packed
