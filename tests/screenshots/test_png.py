"""The writer of the README's pictures: smaller files, and the same picture."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from screenshots.png import decoded, smaller

Pixels = NDArray[np.uint8]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(pixels: Pixels, filters: list[int]) -> bytes:
    """A PNG with alpha, its rows filtered in the given ways in turn, written pixel by pixel."""
    height, width, _ = pixels.shape
    rows = bytearray()
    grown = np.zeros((height + 1, width + 1, 4), dtype=int)
    grown[1:, 1:] = pixels
    for y in range(height):
        way = filters[y % len(filters)]
        rows.append(way)
        for x in range(width):
            for channel in range(4):
                a, b = int(grown[y + 1, x, channel]), int(grown[y, x + 1, channel])
                c = int(grown[y, x, channel])
                nearest = min((a, b, c), key=lambda one: abs(a + b - c - one))
                guess = (0, a, b, (a + b) // 2, nearest)[way]
                rows.append((int(pixels[y, x, channel]) - guess) % 256)
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    data = zlib.compress(bytes(rows))
    half = len(data) // 2
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", data[:half])
        + chunk(b"IDAT", data[half:])
        + chunk(b"IEND", b"")
    )


def looked_up(data: bytes) -> Pixels:
    """The pixels of a PNG with a palette and no filters."""
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert data[at : at + 12 + length] == chunk(name, body)
        chunks[name] = body
        at += 12 + length
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert kind == [8, 3, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8)
    rows = rows.reshape(height, 1 + width)
    assert not rows[:, 0].any()
    colours = np.frombuffer(chunks[b"PLTE"], dtype=np.uint8).reshape(-1, 3)
    alpha = np.frombuffer(chunks[b"tRNS"], dtype=np.uint8)
    assert len(colours) == len(alpha) <= 256
    return np.column_stack((colours, alpha))[rows[:, 1:]]


@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [4, 0, 3, 1, 2]])
@pytest.mark.parametrize("size", [(13, 7), (5, 19), (1, 1)])
def test_every_filter_is_undone(filters: list[int], size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 4), dtype=np.uint8)
    assert (decoded(png(pixels, filters)) == pixels).all()


def test_few_colours_are_kept_as_they_are() -> None:
    random = np.random.default_rng(2)
    colours = random.integers(0, 256, (256, 4), dtype=np.uint8)
    pixels = colours[random.integers(0, 256, (40, 60))]
    assert (looked_up(smaller(png(pixels, [0]))) == pixels).all()


def test_of_many_colours_the_rare_ones_come_near() -> None:
    """A gradient, much background, and one pixel of a colour that nothing else has."""
    pixels = np.full((60, 60, 4), 255, dtype=np.uint8)
    pixels[:10, :, :3] = np.arange(600).reshape(10, 60, 1) // 3
    pixels[10:20, :, 0] = np.arange(600).reshape(10, 60) // 3
    pixels[30, 30] = (255, 0, 0, 255)
    made = looked_up(smaller(png(pixels, [4])))
    assert (made[30, 30] == (255, 0, 0, 255)).all()
    assert (made[40:] == 255).all()
    apart = np.abs(made.astype(int) - pixels)
    assert 0 < apart.max() < 8


def test_another_kind_of_png_is_refused() -> None:
    data = bytearray(png(np.zeros((2, 2, 4), dtype=np.uint8), [0]))
    data[25] = 2  # without alpha
    with pytest.raises(ValueError, match="alpha is needed"):
        smaller(bytes(data))
