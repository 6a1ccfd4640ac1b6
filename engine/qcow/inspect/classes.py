"""The class of a host cluster: what a cell of the allocation map means."""

from __future__ import annotations

from enum import IntEnum


class ClusterClass(IntEnum):
    """Numbers are stable and small (they fit a uint8 map and a 32-bit mask).

    The order is the order of *attention*: from LEAKED on a class marks a problem, and where a cell
    of the map stands for many clusters a problem wins over everything else, the largest number
    first, so damage is never hidden by what surrounds it.
    """

    UNREAD = 0  # not scanned yet
    FREE = 1  # refcount 0, nothing refers to it
    BEYOND_END = 2  # in the file, behind the last used cluster
    ZERO_ALLOCATED = 3  # space reserved for a cluster that reads as zeros
    DATA = 4
    COMPRESSED = 5
    SHARED = 6  # data referred to more than once (snapshots, or several compressed clusters)
    VM_STATE = 7
    BITMAP = 8  # bitmap directory, table or data
    SNAPSHOT_L1 = 9
    SNAPSHOT_TABLE = 10
    LUKS_HEADER = 11
    REFCOUNT_BLOCK = 12
    REFCOUNT_TABLE = 13
    L2 = 14
    L1 = 15
    HEADER = 16
    LEAKED = 17  # counted, but nothing refers to it
    CORRUPT = 18  # counted less often than it is referred to, or a pointer that cannot be right
    OVERLAPPING = 19  # two owners that can never share, such as a table and guest data

    @property
    def label(self) -> str:
        return _LABELS[self]

    @property
    def is_metadata(self) -> bool:
        return self in _METADATA

    @property
    def is_problem(self) -> bool:
        return self >= ClusterClass.LEAKED


_LABELS = {
    ClusterClass.UNREAD: "not read yet",
    ClusterClass.FREE: "free",
    ClusterClass.BEYOND_END: "beyond the image end",
    ClusterClass.ZERO_ALLOCATED: "zero (allocated)",
    ClusterClass.DATA: "data",
    ClusterClass.COMPRESSED: "compressed",
    ClusterClass.SHARED: "shared",
    ClusterClass.VM_STATE: "VM state",
    ClusterClass.BITMAP: "bitmap",
    ClusterClass.SNAPSHOT_L1: "snapshot L1 table",
    ClusterClass.SNAPSHOT_TABLE: "snapshot table",
    ClusterClass.LUKS_HEADER: "LUKS header",
    ClusterClass.REFCOUNT_BLOCK: "refcount block",
    ClusterClass.REFCOUNT_TABLE: "refcount table",
    ClusterClass.L2: "L2 table",
    ClusterClass.L1: "L1 table",
    ClusterClass.HEADER: "header",
    ClusterClass.LEAKED: "leaked",
    ClusterClass.CORRUPT: "corrupt",
    ClusterClass.OVERLAPPING: "overlapping",
}
_METADATA = frozenset(
    {
        ClusterClass.BITMAP,
        ClusterClass.SNAPSHOT_L1,
        ClusterClass.SNAPSHOT_TABLE,
        ClusterClass.LUKS_HEADER,
        ClusterClass.REFCOUNT_BLOCK,
        ClusterClass.REFCOUNT_TABLE,
        ClusterClass.L2,
        ClusterClass.L1,
        ClusterClass.HEADER,
    }
)
