"""Smaller PNG files: a picture of a terminal has few colours, and needs one byte a pixel."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGBA, _INDEXED = 6, 3
#: Colours that one byte can name; those that fill most of a picture, and the others are those
#: that would be missed most.
_MOST, _COMMONEST = 256, 160

Pixels = NDArray[np.uint8]
_Signed = NDArray[np.int16]


def smaller(png: bytes) -> bytes:
    """The picture with a palette; ``png`` has 8 bits a channel, alpha and no interlacing.

    Beyond 256 colours some rare ones, which smooth the edges of letters, become the nearest of the
    others.  Raises ValueError for any other kind of PNG.
    """
    pixels = decoded(png)
    colours, indices = _palette(pixels)
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + width), dtype=np.uint8)  # the first byte: no filter
    rows[:, 1:] = indices
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _INDEXED, 0, 0, 0)),
            _chunk(b"PLTE", colours[:, :3].tobytes()),
            _chunk(b"tRNS", colours[:, 3].tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _palette(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """At most 256 colours (uint8[n, 4]), and which each pixel has (uint8[height, width])."""
    words = np.ascontiguousarray(pixels).view(np.uint32)[..., 0]
    found, place, times = np.unique(words, return_inverse=True, return_counts=True)
    every = found.view(np.uint8).reshape(-1, 4).astype(np.int32)
    kept = np.argsort(-times, kind="stable")[:_COMMONEST]
    squares = ((every[:, np.newaxis] - every[kept]) ** 2).sum(axis=2)
    while len(kept) < min(_MOST, len(every)):
        farthest = int(squares.min(axis=1).argmax())
        kept = np.append(kept, farthest)
        squares = np.column_stack((squares, ((every - every[farthest]) ** 2).sum(axis=1)))
    nearest = squares.argmin(axis=1).astype(np.uint8)
    return every[kept].astype(np.uint8), nearest[place].reshape(words.shape)


def decoded(png: bytes) -> Pixels:
    """The pixels: uint8[height, width, 4], red, green, blue, alpha (PNG spec, sections 9 and 11).

    A pixel is told as the difference to what those to the left, above and above to the left predict
    for it, so that all pixels of one diagonal can be worked out together.
    """
    chunks = list(_chunks(png))
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[0][1])
    if kind != [8, _RGBA, 0, 0, 0]:
        raise ValueError("a PNG with 8 bits a channel and alpha is needed, without interlacing")
    data = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    lines = np.frombuffer(data, dtype=np.uint8).reshape(height, 1 + 4 * width)
    ways = lines[:, 0]
    told = lines[:, 1:].reshape(height, width, 4).astype(np.int16)
    made = np.zeros((height + 1, width + 1, 4), dtype=np.int16)  # zeros above and to the left
    for diagonal in range(height + width - 1):
        y = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        x = diagonal - y
        left, above, corner = made[y + 1, x], made[y, x + 1], made[y, x]
        way = ways[y][:, np.newaxis]
        guess = np.select(
            [way == 1, way == 2, way == 3, way == 4],
            [left, above, (left + above) >> 1, _paeth(left, above, corner)],
            0,
        )
        made[y + 1, x + 1] = (told[y, x] + guess) & 0xFF
    return made[1:, 1:].astype(np.uint8)


def _paeth(left: _Signed, above: _Signed, corner: _Signed) -> _Signed:
    """Whichever is nearest to left + above - corner."""
    to_left, to_above = np.abs(above - corner), np.abs(left - corner)
    to_corner = np.abs(left + above - 2 * corner)
    first = (to_left <= to_above) & (to_left <= to_corner)
    return np.where(first, left, np.where(to_above <= to_corner, above, corner))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents; checksums are not looked at."""
    at = len(_SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
