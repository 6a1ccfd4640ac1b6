"""Deliberate damage to an image in memory, and what ``qemu-img check`` must count for it.

Each function expects that the structures it touches are still in order, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qcow.layout.constants import (
    CORRUPT,
    DIRTY,
    LAZY_REFCOUNTS,
    OFFSET_MASK,
    OFLAG_COMPRESSED,
    OFLAG_COPIED,
)

from .built import BuiltImage
from .model import entry_clusters


@dataclass(frozen=True)
class Damage:
    """How many corruptions and leaks more a check finds."""

    corruptions: int = 0
    leaks: int = 0

    def __add__(self, other: Damage) -> Damage:
        return Damage(self.corruptions + other.corruptions, self.leaks + other.leaks)


def leak_clusters(image: BuiltImage, count: int, at: int | None = None) -> Damage:
    """Count ``count`` adjacent unused host clusters as used: from ``at``, or behind the end.

    Raises ValueError when one of them is in use, or not covered by a refcount block.
    """
    first = image.nb_clusters if at is None else at
    for cluster in range(first, first + count):
        if image.refcount(cluster):
            raise ValueError(f"cluster {cluster} is in use")
        image.set_refcount(cluster, 1)
    image.nb_clusters = max(image.nb_clusters, first + count)
    return Damage(leaks=count)


def lower_refcounts(image: BuiltImage, guest_clusters: Iterable[int]) -> Damage:
    """Take one from the refcount of each guest cluster's host cluster (stored plainly)."""
    corruptions = 0
    for guest in guest_clusters:
        _, entry = _plain_entry(image, guest)
        cluster = _host(image, entry)
        count = image.refcount(cluster)
        image.set_refcount(cluster, count - 1)
        # The COPIED flag said whether the count is 1; for these counts it is wrong now, too.
        corruptions += 2 if count in (1, 2) else 1
    return Damage(corruptions)


def flip_copied(image: BuiltImage, guest_clusters: Iterable[int]) -> Damage:
    """Turn the COPIED flag of L2 entries (stored plainly) into its opposite."""
    corruptions = 0
    for guest in guest_clusters:
        offset, entry = _plain_entry(image, guest)
        image.set_u64(offset, entry ^ OFLAG_COPIED)
        corruptions += 1
    return Damage(corruptions)


def overlap_l1_table(image: BuiltImage, guest: int) -> Damage:
    """Let a guest cluster (stored plainly) be the first cluster of the active L1 table."""
    offset, _ = _plain_entry(image, guest)
    image.set_u64(offset, image.header("l1_table_offset") | OFLAG_COPIED)
    return Damage(corruptions=1, leaks=1)


def cross_link(image: BuiltImage, guest: int, other: int) -> Damage:
    """Let one guest cluster be stored where another one is (both stored plainly)."""
    offset, _ = _plain_entry(image, guest)
    _, entry = _plain_entry(image, other)
    image.set_u64(offset, entry)
    return Damage(corruptions=1, leaks=1)


def point_past_end(image: BuiltImage, guest: int, distance: int = 16) -> Damage:
    """Let a guest cluster (stored plainly) be that many clusters behind the end of the file."""
    offset, _ = _plain_entry(image, guest)
    image.set_u64(offset, image.length + (distance << image.geometry.cluster_bits))
    return Damage(corruptions=1, leaks=1)


def lose_l1_entry(image: BuiltImage, index: int) -> Damage:
    """Zero an entry of the active L1 table: its L2 table and all that hangs on it is lost."""
    geometry = image.geometry
    table = image.u64(image.l1_offset(index)) & OFFSET_MASK
    if not table:
        raise ValueError(f"L1 entry {index} is empty")
    lost = {table >> geometry.cluster_bits}
    span = range(index * geometry.l2_entries, (index + 1) * geometry.l2_entries)
    for guest, _, entry in image.l2_entries():
        if guest in span:
            lost.update(entry_clusters(geometry, entry))
    image.set_u64(image.l1_offset(index), 0)
    return Damage(leaks=len(lost))


def mark_dirty(image: BuiltImage) -> Damage:
    """Set the dirty bit (and lazy refcounts), as a crash of QEMU leaves it."""
    image.set_header("incompatible_features", image.header("incompatible_features") | DIRTY)
    image.set_header("compatible_features", image.header("compatible_features") | LAZY_REFCOUNTS)
    return Damage()


def mark_corrupt(image: BuiltImage) -> Damage:
    """Set the corrupt bit, as QEMU does when a write would have hit metadata."""
    image.set_header("incompatible_features", image.header("incompatible_features") | CORRUPT)
    return Damage()


def _plain_entry(image: BuiltImage, guest: int) -> tuple[int, int]:
    """(offset, entry) of a guest cluster stored plainly; ValueError for any other."""
    offset = image.l2_offset(guest)
    entry = image.u64(offset) if offset is not None else 0
    if offset is None or not entry & OFFSET_MASK or entry & OFLAG_COMPRESSED:
        raise ValueError(f"guest cluster {guest} is not stored plainly")
    return offset, entry


def _host(image: BuiltImage, entry: int) -> int:
    return (entry & OFFSET_MASK) >> image.geometry.cluster_bits
