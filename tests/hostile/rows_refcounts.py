"""R01..R18: the refcount table and its blocks."""

from __future__ import annotations

from .bases import CLUSTER, DATA, L1, REFCOUNT_BLOCK, REFCOUNT_TABLE
from .model import Build, clear, on, raw, u16, u32, u64

_TABLE_OFFSET, _TABLE_CLUSTERS = 48, 56


def _count(cluster: int) -> int:
    """Where the 16-bit refcount of a cluster lies."""
    return REFCOUNT_BLOCK + 2 * cluster


REFCOUNTS: dict[str, Build] = {
    "R01": on("v3", u32(_TABLE_CLUSTERS, 0xFFFFFFFF)),
    "R02": on("v3", u32(_TABLE_CLUSTERS, (8 << 20) // CLUSTER + 1)),
    "R03": on("v3", u32(_TABLE_CLUSTERS, 0)),
    "R04": on("v3", u64(_TABLE_OFFSET, REFCOUNT_TABLE + 512)),
    "R05": on("v3", u64(_TABLE_OFFSET, 1 << 63)),
    "R06": on("v3", u64(_TABLE_OFFSET, 0)),
    "R07": on("v3", u64(REFCOUNT_TABLE, 0)),
    "R08": on("v3", u64(REFCOUNT_TABLE, REFCOUNT_BLOCK + 512)),
    "R09": on("v3", u64(REFCOUNT_TABLE + 8, 1 << 40)),
    "R10": on("v3", u64(REFCOUNT_TABLE + 8, REFCOUNT_BLOCK)),
    "R11": on("v3", u64(REFCOUNT_TABLE, REFCOUNT_TABLE)),
    "R12": on("v3", u64(REFCOUNT_TABLE, 0), u64(REFCOUNT_TABLE + 8, REFCOUNT_BLOCK)),
    "R13": on("v3", u16(_count(0), 0)),
    "R14": on("v3", raw(_count(DATA // CLUSTER), bytes(8))),
    "R15": on("v3", u16(_count(9), 1), u16(_count(1000), 7), u16(_count(32767), 1)),
    "R16": on("v3", u16(_count(DATA // CLUSTER), 0xFFFF)),
    "R17": on("v3", u64(REFCOUNT_TABLE, REFCOUNT_BLOCK | 0x1FF)),
    "R18": on("v3", clear(REFCOUNT_BLOCK, L1)),
}
