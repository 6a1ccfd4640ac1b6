"""Compressed clusters: raw deflate and zstd, bounded in output and in memory."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: The largest zstd window that is accepted: 2**23 = 8 MiB, four times the largest cluster.
_MAX_WINDOW_LOG = 23

Decompress = Callable[[bytes, int], bytes]


class DecodeError(Exception):
    """A compressed cluster does not decode to exactly one cluster; the message says why."""


def decompressor(name: str) -> Decompress:
    """The function ``(data, cluster_size) -> bytes`` for ``name``, "zlib" or "zstd".

    ``data`` may be longer than the stream (it is padded to sectors); the result has exactly
    ``cluster_size`` bytes or DecodeError is raised.
    """
    return {"zlib": _inflate, "zstd": _unzstd}[name]


def _inflate(data: bytes, cluster_size: int) -> bytes:
    # Window 2**12 as QEMU writes it; streams with larger back references are refused, as there.
    decoder = zlib.decompressobj(-12)
    try:
        cluster = decoder.decompress(data, cluster_size)
    except zlib.error as error:
        raise DecodeError("the deflate stream is invalid") from error
    if len(cluster) != cluster_size:
        raise DecodeError(f"the deflate stream ends after {len(cluster)} bytes")
    return cluster


def _unzstd(data: bytes, cluster_size: int) -> bytes:
    parts: list[bytes] = []
    have = 0
    rest = data
    while have < cluster_size and rest:
        # A cluster may hold several frames one after the other (qcow2 spec, compression type 1).
        decoder = zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
        )
        try:
            part = decoder.decompress(rest, cluster_size - have)
        except zstd.ZstdError as error:
            raise DecodeError("the zstd stream is invalid") from error
        if not part and not decoder.eof:
            break
        parts.append(part)
        have += len(part)
        rest = decoder.unused_data if decoder.eof else b""
    if have != cluster_size:
        raise DecodeError(f"the zstd stream ends after {have} bytes")
    return parts[0] if len(parts) == 1 else b"".join(parts)
