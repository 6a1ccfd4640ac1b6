"""Reading damaged disks as far as it goes."""

from __future__ import annotations

from collections.abc import Iterator

from qcow.disk import Disk
from qcow.errors import QcowError


def clusters_of(disk: Disk, cluster: int, most: int) -> Iterator[bytes | None]:
    """The first ``most`` clusters of the guest's disk, None for each that cannot be read.

    ``cluster``: bytes of one; the disk may end inside the last.
    """
    end = min(disk.virtual_size, most * cluster)
    return _clusters(disk, 0, -(-end // cluster), cluster, end)


def _clusters(disk: Disk, first: int, last: int, cluster: int, end: int) -> Iterator[bytes | None]:
    """Clusters ``[first, last)``; where reading fails, each half by itself."""
    try:
        data = disk.read(first * cluster, min(last * cluster, end) - first * cluster)
    except QcowError:
        if last - first <= 1:
            yield from [None] * (last - first)
            return
        middle = (first + last) // 2
        yield from _clusters(disk, first, middle, cluster, end)
        yield from _clusters(disk, middle, last, cluster, end)
        return
    for at in range(0, len(data), cluster):
        yield data[at : at + cluster]
