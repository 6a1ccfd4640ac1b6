"""What a leaked cluster can be."""

from __future__ import annotations

from enum import IntEnum


class LeakClass(IntEnum):
    """Numbers are small and stable: they fit a uint8 for each leaked cluster."""

    UNKNOWN = 0  # anything, guest data too
    EMPTY = 1  # zeros, or a hole of the file
    GARBAGE = 2  # one value throughout, and nothing of the disk is missing
    OLD_REFCOUNT_BLOCK = 3
    OLD_REFCOUNT_TABLE = 4
    OLD_L1 = 5  # names L2 tables that are in use
    OLD_L2 = 6  # names clusters that are in use
    OLD_SNAPSHOT_TABLE = 7
    SNAPSHOT_REMNANT = 8  # an L1 table whose tables are leaked with it, and all that it reaches
    ORPHAN_L2 = 9  # an L2 table that lost its L1 entry
    GUEST_DATA = 10  # named by an orphan L2 table
    HOLE_DATA = 11  # fits exactly into a hole of the mapping
    COMPRESSED = 12  # unpacks to whole clusters

    @property
    def label(self) -> str:
        return _LABELS[self]

    @property
    def may_be_guest_data(self) -> bool:
        """Whether freeing it could lose what a guest wrote, or the way to it."""
        return self not in _HARMLESS


_LABELS = {
    LeakClass.UNKNOWN: "unknown content",
    LeakClass.EMPTY: "empty",
    LeakClass.GARBAGE: "garbage",
    LeakClass.OLD_REFCOUNT_BLOCK: "old refcount block",
    LeakClass.OLD_REFCOUNT_TABLE: "old refcount table",
    LeakClass.OLD_L1: "old L1 table",
    LeakClass.OLD_L2: "old L2 table",
    LeakClass.OLD_SNAPSHOT_TABLE: "old snapshot table",
    LeakClass.SNAPSHOT_REMNANT: "remnant of a snapshot",
    LeakClass.ORPHAN_L2: "lost L2 table",
    LeakClass.GUEST_DATA: "lost guest data",
    LeakClass.HOLE_DATA: "guest data whose table entry was lost",
    LeakClass.COMPRESSED: "compressed data",
}
_HARMLESS = frozenset(
    {
        LeakClass.EMPTY,
        LeakClass.GARBAGE,
        LeakClass.OLD_REFCOUNT_BLOCK,
        LeakClass.OLD_REFCOUNT_TABLE,
        LeakClass.OLD_L1,
        LeakClass.OLD_L2,
        LeakClass.OLD_SNAPSHOT_TABLE,
    }
)
