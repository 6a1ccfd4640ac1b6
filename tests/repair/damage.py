"""Every kind of damage of the matrix, done to bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.crash.oracle import COMPRESSED, COPIED, OFFSET, packed
from tests.support.images import noise

from .poking import BITMAPS, ZERO_FLAG, Entry, NotHere, Poked

FAR = 0x0000_7000_0000_0000


class Damage(NamedTuple):
    """``unseen``: why no check can find it, "" when it can: the tables look as if all were well."""

    name: str
    group: str
    do: Callable[[Poked], None]
    unseen: str = ""

    def done(self, file: bytes) -> bytes:
        """The damaged file.  Raises NotHere."""
        poked = Poked(file)
        self.do(poked)
        if bytes(poked.file) == file:
            raise NotHere
        return bytes(poked.file)


DAMAGES: list[Damage] = []
_CLEAN = "The tables it leaves are sound."
_PACKED = "Only unpacking all compressed data would tell."


def _damage(
    name: str, group: str, unseen: str = ""
) -> Callable[[Callable[[Poked], None]], Callable[[Poked], None]]:
    def note(do: Callable[[Poked], None]) -> Callable[[Poked], None]:
        DAMAGES.append(Damage(name, group, do, unseen))
        return do

    return note


def _middle(entries: list[Entry]) -> Entry:
    return entries[len(entries) // 2]


def _misaligned(p: Poked, place: int) -> None:
    """Move the offset at ``place`` by half a cluster, which needs clusters beyond 512 bytes."""
    p.require(p.size > 512)
    p.set(place, p.get(place) + p.size // 2)


# ---- refcounts


@_damage("refcount of data is 0", "refcounts")
def _(p: Poked) -> None:
    p.set_refcount(_middle(p.data()).host // p.size, 0)


@_damage("refcounts of all data are 0", "refcounts")
def _(p: Poked) -> None:
    for entry in p.data():
        p.set_refcount(entry.host // p.size, 0)


@_damage("refcount of shared data is 1", "refcounts")
def _(p: Poked) -> None:
    p.set_refcount(_middle(p.data(shared=True)).host // p.size, 1)


@_damage("refcount of data is too high", "refcounts")
def _(p: Poked) -> None:
    cluster = _middle(p.data()).host // p.size
    p.set_refcount(cluster, p.get_refcount(cluster) + 1)


@_damage("refcount of an L2 table is 0", "refcounts")
def _(p: Poked) -> None:
    p.set_refcount((p.get(p.l1_places()[0]) & OFFSET) // p.size, 0)


@_damage("refcounts of the header and the L1 table are 0", "refcounts")
def _(p: Poked) -> None:
    p.set_refcount(0, 0)
    p.set_refcount(p.seen.l1_at // p.size, 0)


@_damage("refcount table entry is zero", "refcounts")
def _(p: Poked) -> None:
    p.set(p.seen.table_at, 0)


@_damage("refcount table entry is misaligned", "refcounts")
def _(p: Poked) -> None:
    _misaligned(p, p.seen.table_at)


@_damage("refcount table entry has reserved bits", "refcounts")
def _(p: Poked) -> None:
    p.set(p.seen.table_at, p.get(p.seen.table_at) | 5)


@_damage("refcount table entry lies outside", "refcounts")
def _(p: Poked) -> None:
    p.set(p.seen.table_at, FAR)


@_damage("refcount table entry names the table itself", "refcounts")
def _(p: Poked) -> None:
    p.set(p.seen.table_at, p.seen.table_at)


@_damage("two refcount table entries name one block", "refcounts")
def _(p: Poked) -> None:
    p.set(p.seen.table_at + 8, p.get(p.seen.table_at))


@_damage("refcount block is zeroed", "refcounts")
def _(p: Poked) -> None:
    at = p.get(p.seen.table_at)
    p.file[at : at + p.size] = bytes(p.size)


@_damage("refcount block is garbage", "refcounts")
def _(p: Poked) -> None:
    at = p.get(p.seen.table_at)
    p.file[at : at + p.size] = noise(1, p.size)


@_damage("refcount table is zeroed", "refcounts")
def _(p: Poked) -> None:
    p.file[p.seen.table_at : p.seen.table_at + p.size] = bytes(p.size)


@_damage("refcount table offset lies outside", "header")
def _(p: Poked) -> None:
    p.set_header("refcount_table_offset", (len(p.file) + (1 << 30)) // p.size * p.size)


@_damage("refcount table offset is misaligned", "header")
def _(p: Poked) -> None:
    p.set_header("refcount_table_offset", p.seen.table_at + 8)


@_damage("refcount table has no clusters", "header")
def _(p: Poked) -> None:
    p.set_header("refcount_table_clusters", 0)


# ---- COPIED


@_damage("COPIED is missing on data", "COPIED")
def _(p: Poked) -> None:
    place = _middle(p.data(shared=False)).at
    p.set(place, p.get(place) & ~COPIED)


@_damage("COPIED is set on shared data", "COPIED")
def _(p: Poked) -> None:
    place = _middle(p.data(shared=True)).at
    p.set(place, p.get(place) | COPIED)


@_damage("COPIED of an L2 table is wrong", "COPIED")
def _(p: Poked) -> None:
    place = p.l1_places()[0]
    p.set(place, p.get(place) ^ COPIED)


@_damage("COPIED is wrong everywhere", "COPIED")
def _(p: Poked) -> None:
    for place in (*p.l1_places(), *(entry.at for entry in p.data())):
        p.set(place, p.get(place) ^ COPIED)


@_damage("COPIED is set on compressed data", "L2")
def _(p: Poked) -> None:
    place = _middle(p.packed()).at
    p.set(place, p.get(place) | COPIED)


# ---- L1


@_damage("L1 entry is zeroed", "L1")
def _(p: Poked) -> None:
    p.set(p.l1_places()[0], 0)


@_damage("L1 table is zeroed", "L1")
def _(p: Poked) -> None:
    p.file[p.seen.l1_at : p.seen.l1_at + 8 * p.seen.l1_size] = bytes(8 * p.seen.l1_size)


@_damage("L1 entry is misaligned", "L1")
def _(p: Poked) -> None:
    _misaligned(p, p.l1_places()[0])


@_damage("L1 entry lies outside", "L1")
def _(p: Poked) -> None:
    p.set(p.l1_places()[0], COPIED | FAR)


@_damage("L1 entry has reserved bits", "L1")
def _(p: Poked) -> None:
    place = p.l1_places()[0]
    p.set(place, p.get(place) | 1 << 58 | 3)


@_damage("two L1 entries name one table", "L1")
def _(p: Poked) -> None:
    places = p.l1_places()
    p.require(len(places) > 1)
    p.set(places[1], p.get(places[0]))


@_damage("two L1 entries are swapped", "L1", _CLEAN)
def _(p: Poked) -> None:
    places = p.l1_places()
    p.require(len(places) > 1)
    first, second = p.get(places[0]), p.get(places[1])
    p.set(places[0], second)
    p.set(places[1], first)


@_damage("L1 table offset lies outside", "header")
def _(p: Poked) -> None:
    p.set_header("l1_table_offset", (len(p.file) + (1 << 30)) // p.size * p.size)


@_damage("L1 table offset is misaligned", "header")
def _(p: Poked) -> None:
    p.set_header("l1_table_offset", p.seen.l1_at + 8)


# ---- L2


@_damage("L2 entries have reserved bits", "L2")
def _(p: Poked) -> None:
    for entry in p.data()[:3]:
        p.set(entry.at, entry.word | 1 << 57 | 1 << 3)


@_damage("L2 entries are misaligned", "L2")
def _(p: Poked) -> None:
    for entry in p.data(shared=False)[:2]:
        _misaligned(p, entry.at)


@_damage("L2 entry of shared data is misaligned", "L2")
def _(p: Poked) -> None:
    _misaligned(p, _middle(p.data(shared=True)).at)


@_damage("L2 entry lies outside", "L2")
def _(p: Poked) -> None:
    p.set(_middle(p.data()).at, COPIED | FAR)


@_damage("L2 entry lies just behind the end", "L2")
def _(p: Poked) -> None:
    p.set(_middle(p.data()).at, COPIED | -(-len(p.file) // p.size) * p.size + 3 * p.size)


@_damage("L2 entry of data is zeroed", "L2", _CLEAN)
def _(p: Poked) -> None:
    p.set(_middle(p.data(shared=False)).at, 0)


@_damage("two L2 entries are swapped", "L2", _CLEAN)
def _(p: Poked) -> None:
    first, second = p.data(shared=False)[:2]
    p.set(first.at, second.word)
    p.set(second.at, first.word)


@_damage("compressed entry lies outside", "L2")
def _(p: Poked) -> None:
    entry = _middle(p.packed())
    shift = 62 - (p.seen.bits - 8)
    offset = entry.word & ((1 << shift) - 1)
    p.set(entry.at, entry.word - offset + (len(p.file) | 1 << 30))


@_damage("compressed entry names other bytes", "L2", _PACKED)
def _(p: Poked) -> None:
    entry = _middle(p.packed())
    p.set(entry.at, entry.word + 7)


@_damage("compressed data is garbage", "L2", _PACKED)
def _(p: Poked) -> None:
    at, length = packed(_middle(p.packed()).word, p.seen.bits)
    p.file[at : at + min(length, 40)] = noise(2, min(length, 40))


@_damage("zero flag in version 2", "L2")
def _(p: Poked) -> None:
    p.require(p.seen.version == 2)
    for entry in p.data()[:2]:
        p.set(entry.at, entry.word | ZERO_FLAG)


@_damage("zero flag with extended L2", "L2")
def _(p: Poked) -> None:
    p.require(p.seen.extended)
    entry = _middle(p.data())
    p.set(entry.at, entry.word | ZERO_FLAG)


@_damage("subclusters are data and zero", "L2")
def _(p: Poked) -> None:
    p.require(p.seen.extended)
    p.set(_middle(p.data()).at + 8, (1 << 64) - 1)


@_damage("zero cluster keeps a place outside", "L2")
def _(p: Poked) -> None:
    p.require(p.seen.version == 3 and not p.seen.extended)
    zeros = [e for e in p.entries() if not e.word & COMPRESSED and e.word & ZERO_FLAG]
    p.require(zeros)
    p.set(zeros[0].at, FAR | ZERO_FLAG)


@_damage("L2 table is zeroed", "L2", _CLEAN)
def _(p: Poked) -> None:
    at = p.get(p.l1_places()[0]) & OFFSET
    p.file[at : at + p.size] = bytes(p.size)


@_damage("L2 table is garbage", "L2")
def _(p: Poked) -> None:
    at = p.get(p.l1_places()[-1]) & OFFSET
    p.file[at : at + p.size] = noise(3, p.size)


# ---- overlaps


@_damage("two guest clusters name one cluster", "overlaps")
def _(p: Poked) -> None:
    first, second = p.data(shared=False)[:2]
    p.set(first.at, second.word)


@_damage("data over the L1 table", "overlaps")
def _(p: Poked) -> None:
    p.set(p.data(shared=False)[0].at, p.seen.l1_at | COPIED)


@_damage("data over a refcount block", "overlaps")
def _(p: Poked) -> None:
    p.set(p.data(shared=False)[0].at, p.get(p.seen.table_at) | COPIED)


@_damage("data over the refcount table", "overlaps")
def _(p: Poked) -> None:
    p.set(p.data(shared=False)[0].at, p.seen.table_at | COPIED)


@_damage("data over its own L2 table", "overlaps")
def _(p: Poked) -> None:
    p.set(p.data(shared=False)[0].at, p.get(p.l1_places()[0]) & OFFSET | COPIED)


@_damage("data over the snapshot table", "overlaps")
def _(p: Poked) -> None:
    p.require(p.seen.snapshots)
    p.set(p.data(shared=False)[0].at, p.seen.snapshots_at | COPIED)


@_damage("L1 entry names data", "overlaps")
def _(p: Poked) -> None:
    p.set(p.l1_places()[-1], p.data(shared=False)[0].host | COPIED)


# ---- leaks and marks


@_damage("leaked clusters behind the end", "leaks")
def _(p: Poked) -> None:
    first = -(-len(p.file) // p.size)
    p.require(p.refcount(first + 3)[0] and p.refcount(first + 3)[1])
    p.file += bytes(first * p.size - len(p.file)) + noise(4, 3 * p.size)
    for cluster in range(first, first + 3):
        p.set_refcount(cluster, 1)


@_damage("leaked clusters in a hole", "leaks")
def _(p: Poked) -> None:
    free = [n for n in range(len(p.file) // p.size) if not p.get_refcount(n)]
    p.require(free)
    for cluster in free[:2]:
        p.set_refcount(cluster, 1)


@_damage("marked dirty", "marks")
def _(p: Poked) -> None:
    p.require(p.seen.version == 3)
    p.set_header("incompatible_features", p.seen.incompatible | 1)


@_damage("marked dirty, refcounts stale", "marks")
def _(p: Poked) -> None:
    p.require(p.seen.version == 3)
    p.set_header("incompatible_features", p.seen.incompatible | 1)
    for entry in p.data()[::2]:
        p.set_refcount(entry.host // p.size, 0)


@_damage("marked corrupt", "marks")
def _(p: Poked) -> None:
    p.require(p.seen.version == 3)
    p.set_header("incompatible_features", p.seen.incompatible | 2)


@_damage("marked dirty and corrupt", "marks")
def _(p: Poked) -> None:
    p.require(p.seen.version == 3)
    p.set_header("incompatible_features", p.seen.incompatible | 3)


# ---- snapshots


@_damage("snapshot table offset lies outside", "snapshots")
def _(p: Poked) -> None:
    p.snapshot()
    p.set_header("snapshots_offset", (len(p.file) + (1 << 30)) // p.size * p.size)


@_damage("one snapshot too many is counted", "snapshots")
def _(p: Poked) -> None:
    p.set_header("nb_snapshots", len(p.seen.snapshots) + 1)
    p.snapshot()


@_damage("snapshot's extra data is too long", "snapshots")
def _(p: Poked) -> None:
    p.set(p.snapshot() + 36, 0x4000_0000, 4)


@_damage("snapshot's name is too long", "snapshots")
def _(p: Poked) -> None:
    p.set(p.snapshot() + 14, 0xFFFF, 2)


@_damage("snapshot's L1 table lies outside", "snapshots")
def _(p: Poked) -> None:
    p.set(p.snapshot(), (len(p.file) + (1 << 30)) // p.size * p.size)


@_damage("snapshot's L1 table is misaligned", "snapshots")
def _(p: Poked) -> None:
    p.set(p.snapshot(), p.get(p.snapshot()) + 8)


@_damage("snapshot's L1 table is too long", "snapshots")
def _(p: Poked) -> None:
    p.set(p.snapshot() + 8, 0x7FFF_FFFF, 4)


@_damage("snapshot's L1 entry is zeroed", "snapshots", _CLEAN)
def _(p: Poked) -> None:
    p.set(p.get(p.snapshot()), 0)


@_damage("snapshot's L1 entry lies outside", "snapshots")
def _(p: Poked) -> None:
    p.set(p.get(p.snapshot()), FAR)


# ---- bitmaps and extensions


@_damage("bitmap directory lies outside", "bitmaps")
def _(p: Poked) -> None:
    p.directory()
    p.set(p.extension(BITMAPS) + 16, (len(p.file) + (1 << 30)) // p.size * p.size)


@_damage("bitmap directory is garbage", "bitmaps")
def _(p: Poked) -> None:
    at = p.directory()
    p.file[at : at + 48] = noise(5, 48)


@_damage("bitmaps are counted wrong", "bitmaps")
def _(p: Poked) -> None:
    p.directory()
    p.set(p.extension(BITMAPS), len(p.seen.bitmaps) + 1, 4)


@_damage("bitmap table lies outside", "bitmaps")
def _(p: Poked) -> None:
    p.set(p.directory(), (len(p.file) + (1 << 30)) // p.size * p.size)


@_damage("bitmap is in use", "bitmaps")
def _(p: Poked) -> None:
    at = p.directory() + 12
    p.set(at, p.get(at, 4) | 1, 4)


@_damage("bitmaps are not marked consistent", "bitmaps", "Such bitmaps are to be ignored.")
def _(p: Poked) -> None:
    p.directory()
    p.set_header("autoclear_features", 0)


@_damage("header extension is too long", "header")
def _(p: Poked) -> None:
    p.require(p.seen.version == 3 and p.seen.extensions)
    p.set(p.seen.header_length + 4, 0x00FF_FFFF, 4)


# ---- the file and the header


@_damage("last cluster is cut off", "truncation")
def _(p: Poked) -> None:
    del p.file[(len(p.file) - 1) // p.size * p.size :]


@_damage("last third is cut off", "truncation")
def _(p: Poked) -> None:
    del p.file[len(p.file) * 2 // 3 // p.size * p.size :]


@_damage("cut within a cluster", "truncation")
def _(p: Poked) -> None:
    del p.file[len(p.file) - p.size - p.size // 3 :]


@_damage("size is too small", "header", _CLEAN)
def _(p: Poked) -> None:
    p.set_header("size", p.seen.size // 4 & ~511)


@_damage("size is too large for the L1 table", "header")
def _(p: Poked) -> None:
    p.set_header("size", p.seen.size << 12)


@_damage("L1 table has no entries", "header")
def _(p: Poked) -> None:
    p.set_header("l1_size", 0)


@_damage("L1 table is too long", "header")
def _(p: Poked) -> None:
    p.set_header("l1_size", 0x7FFF_FFFF)


@_damage("cluster size is impossible", "header")
def _(p: Poked) -> None:
    p.set_header("cluster_bits", 40)


@_damage("refcount width is impossible", "header")
def _(p: Poked) -> None:
    p.require(p.seen.version == 3)
    p.set_header("refcount_order", 9)


@_damage("refcount width is another one", "header")
def _(p: Poked) -> None:
    p.require(p.seen.version == 3)
    p.set_header("refcount_order", 3 if p.seen.order != 3 else 4)


@_damage("unknown feature bit", "header")
def _(p: Poked) -> None:
    p.require(p.seen.version == 3)
    p.set_header("incompatible_features", p.seen.incompatible | 1 << 40)


@_damage("version is impossible", "header")
def _(p: Poked) -> None:
    p.set_header("version", 77)


@_damage("header is zeroed", "header")
def _(p: Poked) -> None:
    p.file[:512] = bytes(512)


# ---- flags and pointers that are sound by themselves, and wrong


@_damage("COMPRESSED is set on plain data", "L2")
def _(p: Poked) -> None:
    entry = _middle(p.data(shared=False))
    p.set(entry.at, entry.word | COMPRESSED)


@_damage("feature bit for extended L2 is lost", "header")
def _(p: Poked) -> None:
    p.require(p.seen.extended)
    p.set_header("incompatible_features", p.seen.incompatible & ~16)


@_damage("L1 table offset names an empty table", "header")
def _(p: Poked) -> None:
    p.require(8 * p.seen.l1_size <= p.size)
    cluster = -(-len(p.file) // p.size)
    p.require(p.refcount(cluster)[0])
    p.file += bytes((cluster + 1) * p.size - len(p.file))
    p.set_refcount(cluster, 1)
    p.set_header("l1_table_offset", cluster * p.size)


def damages(group: str | None = None) -> Iterator[Damage]:
    """All of them, or those of a group."""
    for damage in DAMAGES:
        if group is None or damage.group == group:
            yield damage
