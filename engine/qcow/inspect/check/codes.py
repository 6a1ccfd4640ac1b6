"""What the comparison says about one host cluster, as bits of a uint8; 0: nothing uses it."""

from __future__ import annotations

from typing import Final

#: The refcount on disk is 1, so OFLAG_COPIED has to be set in what refers to the cluster.
ONE: Final = 1 << 0
#: It is referred to exactly once: what the refcount should be.
TRUE_ONE: Final = 1 << 1
#: Something refers to it.
USED: Final = 1 << 2
#: Compressed data lies in it.
PACKED: Final = 1 << 3
#: The refcount on disk cannot be read.
UNKNOWN: Final = 1 << 4
#: Three bits: why the owners are to be looked up; 0 when they are not.
CAUSE_SHIFT: Final = 5
CAUSE_ZERO: Final = 1 << CAUSE_SHIFT
CAUSE_LOW: Final = 2 << CAUSE_SHIFT
CAUSE_HIGH: Final = 3 << CAUSE_SHIFT
CAUSE_OVERLAP: Final = 4 << CAUSE_SHIFT
CAUSE_STALE: Final = 5 << CAUSE_SHIFT
CAUSE_OVERFLOW: Final = 6 << CAUSE_SHIFT
CAUSE: Final = 7 << CAUSE_SHIFT
