"""Where the guest data ends that the tables map, whatever the header says of the disk's size."""

from __future__ import annotations

import numpy as np

from ..image.image import Image
from ..image.tables import l2_tables, read_l1
from ..layout.tables import OFFSETS


def mapped_end(image: Image, vm_state: bool) -> int:
    """Guest clusters up to the end of the last one that the active tables map.

    ``vm_state``: L1 entries behind those of the disk may hold VM state, and do not count.
    """
    geometry = image.usable_geometry_for_tables()
    header = image.header
    l1 = read_l1(image.storage, header.l1_table_offset, header.l1_size)
    if vm_state:
        l1 = l1[: geometry.l1_entries(header.size)]
    offsets = (l1 & OFFSETS).astype(np.int64)
    size = image.storage.size()
    usable = (offsets != 0) & (offsets < size) & (offsets % geometry.cluster_size == 0)
    for index in np.flatnonzero(usable)[::-1].tolist():
        for batch in l2_tables(image.storage, geometry, offsets[index : index + 1]):
            used = batch.entries[0] != 0
            if batch.bitmaps is not None:
                used = used | (batch.bitmaps[0] != 0)
            if used.any():
                return int(index) * geometry.l2_entries + int(np.flatnonzero(used)[-1]) + 1
    return 0
