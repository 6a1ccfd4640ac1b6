"""A second qcow2 reader and checker, for tiny images: it shares nothing with the engine.

Plain Python over ``bytes``, written from the qcow2 spec.  It judges crash states, many thousands of
them, so it is quick on images of some hundred clusters and of no use for others.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

OFFSET = 0x00FFFFFFFFFFFE00
COPIED = 1 << 63
COMPRESSED = 1 << 62
#: The largest disk, in bytes, that is read as a whole; damage makes much larger ones.
_TINY = 1 << 26
#: (number, word, subcluster bitmap) of the entries that say anything.
Entries = tuple[tuple[int, int, int], ...]
NOTHING_BELOW: Mapping[bytes, bytes] = {}


class Broken(Exception):
    """The image cannot be read as the spec says."""


class Verdict(NamedTuple):
    """``errors``: what qemu-img check counts as corruption; ``leaks``: clusters counted too high"""

    errors: tuple[str, ...]
    leaks: int


class SnapshotSeen(NamedTuple):
    id: bytes
    name: bytes
    size: int
    content: str
    state: str  # digest of everything its L1 table reaches beyond the disk


class View(NamedTuple):
    """All that a user of the image sees."""

    size: int
    content: str
    snapshots: tuple[SnapshotSeen, ...]
    backing: tuple[bytes, bytes] | None
    bitmaps: tuple[tuple[bytes, int, int, str], ...]
    extensions: tuple[tuple[int, bytes], ...]
    settings: tuple[int, ...]  # version, refcount order, features that describe the image


class TinyImage:
    """``file`` as a qcow2 image.  Raises Broken when its roots cannot be read.

    ``below``: the flat guest bytes of backing files by their names (none: nothing is below);
    ``data``: the external data file.
    """

    def __init__(
        self, file: bytes, below: Mapping[bytes, bytes] = NOTHING_BELOW, data: bytes = b""
    ) -> None:
        self.file = file
        self._data = data
        if file[:4] != b"QFI\xfb" or len(file) < 104:
            raise Broken("no header")
        (
            self.version,
            self.name_at,
            self.name_length,
            self.bits,
            self.size,
            self.crypt,
            self.l1_size,
            self.l1_at,
            self.table_at,
            self.table_clusters,
            self.snapshot_count,
            self.snapshots_at,
        ) = struct.unpack_from(">IQIIQIIQQIIQ", file, 4)
        self.incompatible = self.compatible = self.autoclear = 0
        self.order, self.header_length = 4, 72
        if self.version == 3:
            (
                self.incompatible,
                self.compatible,
                self.autoclear,
                self.order,
                self.header_length,
            ) = struct.unpack_from(">QQQII", file, 72)
        if self.version not in (2, 3) or not 9 <= self.bits <= 21 or self.order > 6:
            raise Broken("header fields")
        self.cluster = 1 << self.bits
        self.zstd = self.header_length > 104 and file[104] == 1
        self.extended = bool(self.incompatible & 16)
        self.external = bool(self.incompatible & 4)
        self.extensions = tuple(self._read_extensions())
        name = file[self.name_at : self.name_at + self.name_length] if self.name_at else b""
        self._backing = below.get(name, b"")
        self.l1 = self._words(self.l1_at, self.l1_size, "L1 table")
        self.snapshots = list(self._read_snapshots())
        self.bitmaps = list(self._read_bitmaps())

    # ---- reading

    def _words(self, at: int, count: int, what: str) -> tuple[int, ...]:
        if at % 8 or at + count * 8 > len(self.file):
            raise Broken(f"the {what} lies outside of the file")
        return struct.unpack_from(f">{count}Q", self.file, at)

    def _read_extensions(self) -> Iterator[tuple[int, bytes]]:
        at = self.header_length
        end = self.name_at or self.cluster
        while at + 8 <= end:
            magic, length = struct.unpack_from(">II", self.file, at)
            if not magic:
                return
            if at + 8 + length > end:
                raise Broken("an extension is too long")
            yield magic, self.file[at + 8 : at + 8 + length]
            at += 8 + (length + 7) // 8 * 8

    def _read_snapshots(self) -> Iterator[tuple[bytes, bytes, int, int, int, int, int]]:
        """(id, name, disk size, L1 offset, L1 size, entry start, entry end)."""
        at = self.snapshots_at
        for _ in range(self.snapshot_count):
            try:
                l1_at, l1_size, id_length, name_length = struct.unpack_from(">QIHH", self.file, at)
                extra = struct.unpack_from(">I", self.file, at + 36)[0]
                size = self.size
                if extra >= 16:
                    size = struct.unpack_from(">Q", self.file, at + 48)[0]
            except struct.error as error:
                raise Broken("the snapshot table is cut off") from error
            name_at = at + 40 + extra
            id_ = self.file[name_at : name_at + id_length]
            name = self.file[name_at + id_length : name_at + id_length + name_length]
            end = name_at + id_length + name_length
            if end > len(self.file):
                raise Broken("the snapshot table is cut off")
            yield id_, name, size, l1_at, l1_size, at, end
            at = (end + 7) // 8 * 8

    def _read_bitmaps(self) -> Iterator[tuple[bytes, int, int, int, int]]:
        """(name, table offset, table size, flags, granularity bits)."""
        found = dict(self.extensions).get(0x23852875)
        if found is None or not self.autoclear & 1:
            return
        count, _, length, at = struct.unpack(">IIQQ", found)
        end = at + length
        for _ in range(count):
            if at + 24 > len(self.file):
                raise Broken("the bitmap directory is cut off")
            table, size, flags, _, granularity, name_length, extra = struct.unpack_from(
                ">QIIBBHI", self.file, at
            )
            name = self.file[at + 24 + extra : at + 24 + extra + name_length]
            yield name, table, size, flags, granularity
            at = (at + 24 + extra + name_length + 7) // 8 * 8
        if at != end:
            raise Broken("the bitmap directory has another length")

    def _tables(self, l1: tuple[int, ...]) -> Iterator[tuple[int, int, bytes]]:
        """(L1 index, L1 entry, its L2 table)."""
        for index, entry in enumerate(l1):
            at = entry & OFFSET
            if at:
                table = self.file[at : at + self.cluster]
                if at % 8 or len(table) < self.cluster:
                    raise Broken("an L2 table lies outside of the file")
                yield index, entry, table

    # ---- checking

    def check(self) -> Verdict:
        """Counts, flags and alignment, as ``qemu-img check`` judges them."""
        errors: list[str] = []
        counts: Counter[int] = Counter()

        def claim(at: int, length: int, what: str) -> None:
            if not length:
                return
            if at + length > len(self.file) + self.cluster - 1:
                errors.append(f"{what} at {at:#x} lies beyond the end")
            for cluster in range(at >> self.bits, ((at + length - 1) >> self.bits) + 1):
                counts[cluster] += 1

        if self.incompatible & 3:
            errors.append("marked dirty or corrupt")
        span = self.cluster * self.cluster // (16 if self.extended else 8)
        if self.l1_size * span < self.size:
            errors.append("the L1 table is too small")
        claim(0, self.cluster, "the header")
        claim(self.l1_at, self.l1_size * 8, "the L1 table")
        claim(self.table_at, self.table_clusters << self.bits, "the refcount table")
        if self.snapshots:
            claim(self.snapshots_at, self.snapshots[-1][6] - self.snapshots_at, "snapshots")
        for _, _, _, l1_at, l1_size, _, _ in self.snapshots:
            claim(l1_at, l1_size * 8, "a snapshot's L1 table")
        self._claim_bitmaps(claim)
        crypto = dict(self.extensions).get(0x0537BE77)
        if crypto is not None:
            claim(*struct.unpack(">QQ", crypto), "the LUKS header")
        blocks = self._words(self.table_at, self.table_clusters * self.cluster // 8, "refcounts")
        for block in blocks:
            if block:
                claim(block, self.cluster, "a refcount block")
        self._claim_trees(claim, counts, errors)
        on_disk = self._refcounts(blocks, errors)
        leaks = 0
        for cluster in {one for one, _ in counts.items() ^ on_disk.items()}:
            found, wanted = on_disk.get(cluster, 0), counts[cluster]
            if found < wanted:
                errors.append(f"cluster {cluster:#x} has refcount {found} instead of {wanted}")
            elif found > wanted:
                leaks += 1
        self._check_copied(on_disk, errors)
        return Verdict(tuple(errors), leaks)

    def _claim_bitmaps(self, claim) -> None:  # type: ignore[no-untyped-def]
        found = dict(self.extensions).get(0x23852875)
        if found is None or not self.autoclear & 1:
            return
        _, _, length, at = struct.unpack(">IIQQ", found)
        claim(at, length, "the bitmap directory")
        for _, table, size, _, _ in self.bitmaps:
            claim(table, size * 8, "a bitmap table")
            for word in self._words(table, size, "bitmap table"):
                if word & OFFSET:
                    claim(word & OFFSET, self.cluster, "bitmap data")

    def _claim_trees(self, claim, counts: Counter[int], errors: list[str]) -> None:  # type: ignore[no-untyped-def]
        for l1 in (self.l1, *(self._words(s[3], s[4], "snapshot L1") for s in self.snapshots)):
            for _, entry, table in self._tables(l1):
                if (entry & OFFSET) % self.cluster:
                    errors.append(f"L2 table at {entry & OFFSET:#x} is not aligned")
                claim(entry & OFFSET, self.cluster, "an L2 table")
                claims = _claims(table, self.bits, self.extended, self.external)
                counts.update(claims.clusters)
                errors.extend(claims.errors)
                if claims.end > len(self.file) + self.cluster - 1:
                    errors.append(f"what the table {entry & OFFSET:#x} names lies beyond the end")

    def _refcounts(self, blocks: tuple[int, ...], errors: list[str]) -> dict[int, int]:
        found: dict[int, int] = {}
        per = self.cluster * 8 >> self.order
        for index, block in enumerate(blocks):
            if not block:
                continue
            if block % self.cluster or block + self.cluster > len(self.file):
                errors.append(f"refcount block at {block:#x} is misplaced")
                continue
            data = self.file[block : block + self.cluster]
            found.update(_counts(data, self.order, index * per))
        return found

    def _check_copied(self, counts: dict[int, int], errors: list[str]) -> None:
        for _, entry, table in self._tables(self.l1):
            if bool(entry & COPIED) != (counts.get((entry & OFFSET) >> self.bits, 0) == 1):
                errors.append(f"COPIED of L1 entry {entry:#x}")
            for cluster, copied in _claims(table, self.bits, self.extended, self.external).copied:
                if copied != (counts.get(cluster, 0) == 1):
                    errors.append(f"COPIED of the L2 entry for {cluster:#x}")

    # ---- what is seen

    def view(self) -> View:
        """Digests of all guest contents, and the settings."""
        seen = []
        for id_, name, size, l1_at, l1_size, _, _ in self.snapshots:
            l1 = self._words(l1_at, l1_size, "snapshot L1")
            content, rest = self._contents(l1, size)
            seen.append(SnapshotSeen(id_, name, size, content, rest))
        backing = None
        if self.name_at:
            name = self.file[self.name_at : self.name_at + self.name_length]
            backing = name, dict(self.extensions).get(0xE2792ACA, b"")
        bitmaps = tuple(
            (name, flags, granularity, self._bits(table, size))
            for name, table, size, flags, granularity in self.bitmaps
        )
        # The feature name table says nothing about the image, and the directory's place moves.
        extensions = tuple(e for e in self.extensions if e[0] not in (0x6803F857, 0x23852875))
        settings = (self.version, self.order, self.incompatible, self.compatible, self.autoclear)
        content = self._contents(self.l1, self.size)[0]
        return View(self.size, content, tuple(seen), backing, bitmaps, extensions, settings)

    def disk(self, number: int | None = None) -> bytes:
        """The whole guest disk of a snapshot, by its place in the table, or the active one."""
        size, pieces = self.pieces(number)
        if size > _TINY:
            raise ValueError(f"a disk of {size} bytes is none of a tiny image")
        disk = bytearray(size)
        for at, data in pieces.items():
            disk[at : at + len(data)] = data
        return bytes(disk)

    def pieces(self, number: int | None = None) -> tuple[int, dict[int, bytes]]:
        """The size of a disk as of :meth:`disk`, and its clusters that are not all zeros."""
        l1, size = self.l1, self.size
        if number is not None:
            _, _, size, l1_at, l1_size, _, _ = self.snapshots[number]
            l1 = self._words(l1_at, l1_size, "snapshot L1")
        found = {
            at: self._below(at, size)
            for at in range(0, min(size, len(self._backing)), self.cluster)
        }
        found |= {at: data[: size - at] for at, data in self._clusters(l1, size) if at < size}
        return size, {at: data for at, data in found.items() if data != bytes(len(data))}

    def _bits(self, table: int, size: int) -> str:
        digest = hashlib.blake2b(digest_size=12)
        for word in self._words(table, size, "bitmap table"):
            at = word & OFFSET
            digest.update(
                self.file[at : at + self.cluster] if at else bytes([255 * (word & 1)]) * 64
            )
        return digest.hexdigest()

    def _contents(self, l1: tuple[int, ...], size: int) -> tuple[str, str]:
        disk = dict(_tokens(self._backing[:size], self.cluster))
        beyond = []
        for at, data in self._clusters(l1, size):
            if at >= size:
                beyond.append((at, _token(data)))
            else:
                disk[at] = _token(data[: size - at] if at + self.cluster > size else data)
        # Where zeros are read it is all one how they are stored.
        content = sorted((at, token) for at, token in disk.items() if token)
        return _digest(repr(content).encode()), _digest(repr(beyond).encode())

    def _clusters(self, l1: tuple[int, ...], size: int) -> Iterator[tuple[int, bytes]]:
        """(guest offset, content) of every guest cluster that the tables say something about."""
        per = self.cluster // (16 if self.extended else 8)
        for index, _, table in self._tables(l1):
            for number, word, bitmap in _entries(table, self.extended):
                at = (index * per + number) << self.bits
                yield at, self._cluster(word, bitmap, at, size)

    def _below(self, at: int, size: int) -> bytes:
        return self._backing[at : max(at, min(at + self.cluster, size))]

    def _cluster(self, word: int, bitmap: int, guest: int, size: int) -> bytes:
        """The bytes of one cluster, at ``guest`` of a disk of ``size`` bytes."""
        if word & COMPRESSED:
            return self._unpack(*packed(word, self.bits))
        at = word & OFFSET
        source = self._data if self.external else self.file
        data = source[at : at + self.cluster].ljust(self.cluster, b"\0")
        if self.extended:
            below = self._below(guest, size).ljust(self.cluster, b"\0")
            part = self.cluster // 32
            pieces = []
            for number in range(32):
                piece = slice(number * part, (number + 1) * part)
                if bitmap >> (32 + number) & 1:
                    pieces.append(bytes(part))
                else:
                    pieces.append(data[piece] if bitmap >> number & 1 else below[piece])
            return b"".join(pieces)
        if word & 1 and self.version == 3:
            return bytes(self.cluster)
        if at or (self.external and word & COPIED):
            return data
        return self._below(guest, size).ljust(self.cluster, b"\0")

    def _unpack(self, at: int, length: int) -> bytes:
        return _unpacked(self.file[at : at + length], self.cluster, self.zstd)


# Crash states differ in few places, so that most tables of one were in the last one as well.


@lru_cache(maxsize=1 << 12)
def _entries(table: bytes, extended: bool) -> Entries:
    words = struct.unpack(f">{len(table) // 8}Q", table)
    if not extended:
        return tuple((number, word, 0) for number, word in enumerate(words) if word)
    pairs = zip(words[::2], words[1::2], strict=True)
    return tuple((n, word, bits) for n, (word, bits) in enumerate(pairs) if word or bits)


class Claims(NamedTuple):
    """What an L2 table lays claim to: clusters of the file, with the end of the last byte.

    ``copied``: (cluster, COPIED) of each entry that names one as a whole.
    """

    clusters: tuple[int, ...]
    end: int
    copied: tuple[tuple[int, bool], ...]
    errors: tuple[str, ...]


@lru_cache(maxsize=1 << 12)
def _claims(table: bytes, bits: int, extended: bool, external: bool) -> Claims:
    clusters: list[int] = []
    copied: list[tuple[int, bool]] = []
    errors: list[str] = []
    last = 0
    for _, word, _ in _entries(table, extended):
        if word & COMPRESSED:
            if word & COPIED:
                errors.append("COPIED on a compressed cluster")
            at, length = packed(word, bits)
        elif word & OFFSET:
            at, length = word & OFFSET, 1 << bits
            if at % length:
                errors.append(f"data at {at:#x} is not aligned")
            if external:
                continue
            copied.append((at >> bits, bool(word & COPIED)))
        else:
            continue
        clusters.extend(range(at >> bits, ((at + length - 1) >> bits) + 1))
        last = max(last, at + length)
    return Claims(tuple(clusters), last, tuple(copied), tuple(errors))


def packed(word: int, bits: int) -> tuple[int, int]:
    """(offset, bytes) of a compressed entry."""
    shift = 62 - (bits - 8)
    offset = word & ((1 << shift) - 1)
    sectors = (word >> shift & ((1 << (bits - 8)) - 1)) + 1
    return offset, sectors * 512 - offset % 512


@lru_cache(maxsize=1 << 12)
def _counts(block: bytes, order: int, first: int) -> tuple[tuple[int, int], ...]:
    """(cluster, count) of every count that is not 0; ``first``: the cluster of the first one."""
    if order >= 3:
        width = 1 << order >> 3
        values = [int.from_bytes(block[at : at + width]) for at in range(0, len(block), width)]
    else:
        bits = 1 << order
        values = [
            byte >> shift & ((1 << bits) - 1) for byte in block for shift in range(0, 8, bits)
        ]
    return tuple((cluster, value) for cluster, value in enumerate(values, first) if value)


@lru_cache(maxsize=1 << 14)
def _token(data: bytes) -> str:
    """Stands for the bytes of a guest cluster; "" for zeros."""
    return _digest(data.rstrip(b"\0")) if any(data) else ""


@lru_cache(maxsize=16)
def _tokens(disk: bytes, cluster: int) -> tuple[tuple[int, str], ...]:
    """(offset, token) of the clusters of a flat disk that are not zeros."""
    pieces = ((at, _token(disk[at : at + cluster])) for at in range(0, len(disk), cluster))
    return tuple((at, token) for at, token in pieces if token)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()


@lru_cache(maxsize=1 << 12)
def _unpacked(packed: bytes, length: int, zstd: bool) -> bytes:
    try:
        if zstd:
            return _unzstd(packed)[:length]
        return zlib.decompressobj(-12).decompress(packed, length)
    except Exception as error:
        raise Broken("compressed data cannot be unpacked") from error


def _unzstd(packed: bytes) -> bytes:
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd.ZstdDecompressor().decompress(packed)
