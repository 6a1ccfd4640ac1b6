"""An image as bytes to be damaged: where its structures lie, found without the engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.crash.oracle import COMPRESSED, COPIED, OFFSET, TinyImage

ZERO_FLAG = 1
HEADER = {
    "version": (4, 4),
    "cluster_bits": (20, 4),
    "size": (24, 8),
    "crypt_method": (32, 4),
    "l1_size": (36, 4),
    "l1_table_offset": (40, 8),
    "refcount_table_offset": (48, 8),
    "refcount_table_clusters": (56, 4),
    "nb_snapshots": (60, 4),
    "snapshots_offset": (64, 8),
    "incompatible_features": (72, 8),
    "compatible_features": (80, 8),
    "autoclear_features": (88, 8),
    "refcount_order": (96, 4),
    "header_length": (100, 4),
}
BITMAPS = 0x23852875


class NotHere(Exception):
    """The image has nothing of the kind that was to be damaged."""


class Entry(NamedTuple):
    """An L2 entry of the active state: ``at`` in the file, ``guest`` cluster, the ``word``."""

    at: int
    guest: int
    word: int

    @property
    def host(self) -> int:
        return self.word & OFFSET


class Poked:
    """``file``: the bytes, changed in place; ``seen``: what was there before any damage."""

    def __init__(self, file: bytes) -> None:
        self.file = bytearray(file)
        self.seen = TinyImage(file)
        self.size = self.seen.cluster

    def get(self, at: int, length: int = 8) -> int:
        return int.from_bytes(self.file[at : at + length], "big")

    def set(self, at: int, value: int, length: int = 8) -> None:
        self.file[at : at + length] = value.to_bytes(length, "big")

    def header(self, name: str) -> int:
        return self.get(*HEADER[name])

    def set_header(self, name: str, value: int) -> None:
        at, length = HEADER[name]
        self.set(at, value, length)

    # ---- where things are

    def require(self, fact: object) -> None:
        """Raise NotHere unless ``fact`` holds."""
        if not fact:
            raise NotHere

    def l1_places(self) -> list[int]:
        """Where the used entries of the active L1 table lie in the file."""
        image = self.seen
        return [image.l1_at + 8 * n for n, entry in enumerate(image.l1) if entry & OFFSET]

    def entries(self) -> Iterator[Entry]:
        """Every L2 entry of the active state that is not zero."""
        image = self.seen
        per = 2 if image.extended else 1
        for index, entry in enumerate(image.l1):
            table = entry & OFFSET
            if not table:
                continue
            for number in range(self.size // 8 // per):
                at = table + 8 * number * per
                word = self.get(at)
                if word:
                    yield Entry(at, index * (self.size // 8 // per) + number, word)

    def data(self, shared: bool | None = None) -> list[Entry]:
        """The entries of plain data: those that a snapshot shares, those it does not, or all."""
        image = self.seen
        found = [
            entry
            for entry in self.entries()
            if entry.host
            and not entry.word & (COMPRESSED | ZERO_FLAG)
            and (not image.extended or self.get(entry.at + 8) & 0xFFFFFFFF == 0xFFFFFFFF)
            and (shared is None or shared != bool(entry.word & COPIED))
        ]
        self.require(found)
        return found

    def packed(self) -> list[Entry]:
        found = [entry for entry in self.entries() if entry.word & COMPRESSED]
        self.require(found)
        return found

    def refcount(self, cluster: int) -> tuple[int, int]:
        """(block, bit) of a host cluster's count: offset of its block, first bit within."""
        width = 1 << self.seen.order
        per = self.size * 8 // width
        block = self.get(self.seen.table_at + 8 * (cluster // per))
        return block, cluster % per * width

    def set_refcount(self, cluster: int, value: int) -> None:
        block, bit = self.refcount(cluster)
        self.require(block)
        width = 1 << self.seen.order
        if width >= 8:
            self.set(block + bit // 8, value, width // 8)
            return
        # Within a byte the lowest bits are the first.
        self.require(value < 1 << width)
        at, mask = block + bit // 8, ((1 << width) - 1) << bit % 8
        self.file[at] = self.file[at] & ~mask | value << bit % 8

    def get_refcount(self, cluster: int) -> int:
        block, bit = self.refcount(cluster)
        width = 1 << self.seen.order
        if width >= 8:
            return self.get(block + bit // 8, width // 8)
        return self.file[block + bit // 8] >> bit % 8 & ((1 << width) - 1)

    def snapshot(self, number: int = 0) -> int:
        """Where the entry of a snapshot lies in the file."""
        self.require(len(self.seen.snapshots) > number)
        return self.seen.snapshots[number][5]

    def extension(self, magic: int) -> int:
        """Where the data of a header extension lies in the file."""
        at = self.seen.header_length
        for found, data in self.seen.extensions:
            if found == magic:
                return at + 8
            at += 8 + (len(data) + 7) // 8 * 8
        raise NotHere

    def directory(self) -> int:
        """Where the bitmap directory lies in the file."""
        self.require(self.seen.bitmaps)
        return self.get(self.extension(BITMAPS) + 16)
