"""Random faults in the metadata of tiny images."""

from __future__ import annotations

import random
from functools import lru_cache

from tests.crash.oracle import OFFSET, TinyImage
from tests.crash.variants import VARIANTS, Variant

from .poking import BITMAPS, Poked

#: Small files, so that thousands can be tried.
TINY: tuple[Variant, ...] = tuple(
    variant
    for variant in VARIANTS
    if variant.name
    in (
        "v3-512",
        "v2-512",
        "no-snapshot",
        "three-snapshots",
        "vm-state",
        "refcount-1",
        "refcount-2",
        "refcount-64",
        "zstd",
        "backing",
        "v2-backing",
        "bitmaps",
        "4k",
    )
)


@lru_cache
def metadata(name: str) -> tuple[bytes, tuple[tuple[int, int], ...], int]:
    """(file, (start, end) of each piece of metadata, cluster size) of an image."""
    file = next(variant for variant in TINY if variant.name == name).make()
    poked, image = Poked(file), TinyImage(file)
    size = image.cluster
    pieces = [(4, 104 if image.version == 3 else 72), (4, size)]
    l1_tables = [(image.l1_at, image.l1_size), *((s[3], s[4]) for s in image.snapshots)]
    for at, count in l1_tables:
        pieces.append((at, at + 8 * count))
        for number in range(count):
            table = poked.get(at + 8 * number) & OFFSET
            if table:
                pieces.append((table, table + size))
    pieces.append((image.table_at, image.table_at + size))
    for number in range(size // 8):
        block = poked.get(image.table_at + 8 * number)
        if block:
            pieces.append((block, block + size))
    if image.snapshots:
        pieces.append((image.snapshots_at, image.snapshots[-1][6]))
    if image.bitmaps:
        pieces.append((poked.directory(), poked.directory() + 64))
        pieces.append((poked.extension(BITMAPS), poked.extension(BITMAPS) + 24))
        pieces += [(entry[1], entry[1] + 8 * entry[2]) for entry in image.bitmaps]
    return file, tuple(pieces), size


def damaged(seed: int) -> tuple[Variant, bytes, list[str]]:
    """The image of a seed, with one to five faults, and what they are."""
    dice = random.Random(seed)
    variant = TINY[seed % len(TINY)]
    original, pieces, size = metadata(variant.name)
    file = bytearray(original)
    done = []
    for _ in range(dice.randint(1, 5)):
        kind = dice.choices(_KINDS, _WEIGHTS)[0]
        start, end = dice.choice(pieces)
        at = dice.randrange(start, end)
        done.append(f"{kind} at {at:#x}")
        if kind == "truncate":
            del file[dice.randrange(len(file) // 2, len(file)) :]
            continue
        if kind == "byte":
            file[at : at + 1] = dice.randbytes(1)
        elif kind == "bit" and at < len(file):
            file[at] ^= 1 << dice.randrange(8)
        elif kind == "cluster":
            at -= at % size
            file[at + 4 * (not at) : at + size] = dice.randbytes(size - 4 * (not at))
        elif kind == "zero":
            length = dice.choice((1, 8, 8, 64))
            file[at : at + length] = bytes(length)
        elif kind == "swap":
            other = dice.randrange(*dice.choice(pieces)) & ~7
            at &= ~7
            one, two = bytes(file[at : at + 8]), bytes(file[other : other + 8])
            if min(at, other) >= 8 and len(one) == len(two) == 8:
                file[at : at + 8], file[other : other + 8] = two, one
        elif kind == "entry":
            at &= ~7
            if at >= 8:
                word = int.from_bytes(file[at : at + 8], "big") ^ (1 << dice.randrange(64))
                file[at : at + 8] = word.to_bytes(8, "big")
    return variant, bytes(file), done


_KINDS = ("byte", "bit", "entry", "zero", "swap", "cluster", "truncate")
_WEIGHTS = (5, 5, 5, 4, 4, 2, 1)
