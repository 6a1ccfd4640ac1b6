"""How much room a compaction may take meanwhile, and how much the image takes on its host."""

from __future__ import annotations

from ...storage.base import Storage

#: What a compaction needs at most (or what the tables of one round need, if that is more).
LEAST = 8 << 20
#: What it takes where there is plenty: rounds are large then, and it is faster.
MOST = 1 << 30
#: File systems give and take space in blocks of this many bytes.
_BLOCK = 4096


def spare_for(room: int | None) -> int:
    """Bytes a round may take, for the ``room`` there is on the file system (None: unknown).

    Coarse steps, so that a plan and carrying it out come to the same.
    """
    if room is None:
        return LEAST
    spare = MOST
    while spare > LEAST and spare * 8 > room:
        spare = max(LEAST, spare >> 2)
    while spare > 1 << 16 and spare * 2 > room:
        spare >>= 1
    return spare


def occupied(storage: Storage) -> int:
    """Bytes of all blocks of the host that hold any of the file."""
    total = 0
    counted = 0  # blocks below this one
    for start, length, is_data in storage.extents():
        if is_data:
            first = max(counted, start // _BLOCK)
            counted = max(counted, -(-(start + length) // _BLOCK))
            total += counted - first
    return total * _BLOCK
