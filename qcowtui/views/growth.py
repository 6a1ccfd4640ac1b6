"""How long an image file can become: the worst case that users plan their storage by."""

from __future__ import annotations

from qcow.layout.geometry import Geometry


def largest_length(
    geometry: Geometry, virtual_size: int, *, kept: int = 0, external_data: bool = False
) -> int:
    """Bytes of the file once every guest cluster of the active disk has space of its own.

    ``kept`` are bytes that stay in use besides the active disk (what snapshots refer to, bitmaps).
    With ``external_data`` guest data lies in another file and only tables grow here.
    """
    data = 0 if external_data else geometry.clusters(virtual_size)
    l1_entries = geometry.l1_entries(virtual_size)
    used = 1 + data + l1_entries + geometry.clusters(l1_entries * 8) + geometry.clusters(kept)
    refcounts = 0
    while True:  # refcount blocks and their table are counted, too
        blocks = -(-(used + refcounts) // geometry.refcount_block_entries)
        needed = blocks + geometry.clusters(blocks * 8)
        if needed <= refcounts:
            return (used + refcounts) * geometry.cluster_size
        refcounts = needed
