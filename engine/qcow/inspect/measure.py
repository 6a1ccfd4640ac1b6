"""How large a file would be that holds a given disk, without writing it (`qemu-img measure`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..chain import Chain
from ..errors import GuestDataError, UsageError
from ..image.image import Image
from ..jobs import CancelToken, ProgressCallback, Throttle
from ..layout.constants import MAX_CLUSTER_BITS, MAX_L1_BYTES, MIN_CLUSTER_BITS, SECTOR
from ..layout.geometry import Geometry
from ..text import safe

if TYPE_CHECKING:
    from ..layout.tables import I64
    from .blockstatus import StatusBatch

_ENTRY = 8  # bytes of an L1, refcount table or bitmap table entry
_DIRECTORY_ENTRY = 24  # bytes of a bitmap directory entry without its name


class Target(NamedTuple):
    """The qcow2 file that would be made (qemu-img's ``-o`` options)."""

    cluster_size: int = 65536
    refcount_bits: int = 16
    version: int = 3
    extended_l2: bool = False
    #: All data clusters are reserved (``preallocation=falloc`` or ``full``).
    preallocated: bool = False
    #: It would have a backing file; what that has in common with a source is not known.
    has_backing_file: bool = False

    def geometry(self) -> Geometry:
        """Raises UsageError, in QEMU's words, for values that exclude each other."""
        bits = self.cluster_size.bit_length() - 1
        if self.cluster_size != 1 << max(0, bits) or not (
            MIN_CLUSTER_BITS <= bits <= MAX_CLUSTER_BITS
        ):
            raise UsageError("Cluster size must be a power of two between 512 and 2048k")
        if self.extended_l2 and self.cluster_size < 16384:
            raise UsageError(
                "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes"
            )
        order = self.refcount_bits.bit_length() - 1
        if self.refcount_bits != 1 << max(0, order) or order > 6:
            raise UsageError("Refcount width must be a power of two and may not exceed 64 bits")
        if self.version < 3 and self.refcount_bits != 16:
            raise UsageError(
                "Different refcount widths than 16 bits require compatibility level 1.1 or above "
                "(use compat=1.1 or greater)"
            )
        return Geometry(self.version, bits, order, self.extended_l2, 0)


class Measurement(NamedTuple):
    """All bytes.  ``bitmaps``: for copying the source's persistent bitmaps; None: it has none.

    With ``impossible`` no such file can be made: its L1 table would be too large.
    """

    required: int
    fully_allocated: int
    bitmaps: int | None = None
    impossible: bool = False


def measure_raw(size: int) -> Measurement:
    """A raw file of a disk of ``size`` bytes."""
    whole = _ceil(size, SECTOR) * SECTOR
    return Measurement(whole, whole)


def measure_size(size: int, target: Target) -> Measurement:
    """A qcow2 file of a disk of ``size`` bytes that holds nothing yet.

    Raises UsageError for a target that excludes itself.
    """
    return _measured(size, target, lambda _cluster_size: 0)


def measure_chain(
    chain: Chain,
    target: Target,
    *,
    size: int | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Measurement:
    """A qcow2 file with the contents of ``chain``.

    ``size`` is that of the disk to be made, if not that of the chain.  Raises UsageError,
    GuestDataError where the mapping is damaged, ReferenceRefused or ReferenceMissing when a range
    needs a layer that is not open, Cancelled.
    """
    size = chain.virtual_size if size is None else size
    covered = min(size, chain.virtual_size)

    def used(cluster_size: int) -> int:
        return _data_clusters(chain, covered, cluster_size, Throttle(progress), cancel)

    # In the worst case nothing of the source is in the backing file as well.
    worst = target._replace(preallocated=target.preallocated or target.has_backing_file)
    found = _measured(size, worst, used)
    image = chain.image
    if target.version < 3 or not isinstance(image, Image) or image.header.version < 3:
        return found
    return found._replace(bitmaps=_bitmaps_size(image, target.cluster_size))


def _measured(size: int, target: Target, used: Callable[[int], int]) -> Measurement:
    geometry = target.geometry()
    size = geometry.clusters(size) << geometry.cluster_bits
    impossible = geometry.l1_entries(size) * _ENTRY > MAX_L1_BYTES
    whole = _full_size(geometry, size)
    if target.preallocated:
        data = size
    else:
        data = used(geometry.cluster_size) << geometry.cluster_bits
    return Measurement(whole - size + data, whole, impossible=impossible)


def _full_size(geometry: Geometry, size: int) -> int:
    """Header, all tables and all of the disk's clusters."""
    tables = geometry.l1_entries(size)
    per_cluster = geometry.cluster_size // _ENTRY
    l1_clusters = _ceil(tables, per_cluster)
    counted = 1 + tables + l1_clusters + (size >> geometry.cluster_bits)
    return counted + _refcount_clusters(geometry, counted) << geometry.cluster_bits


def _refcount_clusters(geometry: Geometry, counted: int) -> int:
    """Clusters of refcount table and blocks that count ``counted`` clusters and themselves."""
    blocks = table = 0
    while True:
        more_blocks = _ceil(counted + blocks + table, geometry.refcount_block_entries)
        more_table = _ceil(more_blocks, geometry.cluster_size // _ENTRY)
        if (more_blocks, more_table) == (blocks, table):
            return blocks + table
        blocks, table = more_blocks, more_table


def _data_clusters(
    chain: Chain, length: int, cluster_size: int, report: Throttle, cancel: CancelToken | None
) -> int:
    """Clusters of the new file that hold any data of the chain."""
    from .blockstatus import block_status

    found = 0
    last_counted = -1
    for batch in block_status(chain, 0, length):
        first, last = _clusters_with_data(batch, chain, cluster_size)
        if len(first):
            found += int((last - first).sum()) + len(first)
            # Runs of data that meet in one cluster of the new file count it once.
            found -= int((first[1:] == last[:-1]).sum()) + (int(first[0]) == last_counted)
            last_counted = int(last[-1])
        if cancel is not None:
            cancel.check()
        report("measuring", int(batch.start[-1] + batch.length[-1]), length, "bytes")
    return found


def _clusters_with_data(batch: StatusBatch, chain: Chain, cluster_size: int) -> tuple[I64, I64]:
    """First and last cluster of the new file that each run of data touches."""
    from .blockstatus import Status

    damaged = batch.flags == 0
    if damaged.any():
        at = int(batch.start[int(damaged.argmax())])
        raise GuestDataError(
            f"Unable to get block status: the mapping of {safe(chain.image.name)} is damaged at "
            f"guest offset {at:#x}; `qcowtui check` says how."
        )
    data = (batch.flags & (Status.DATA | Status.ZERO)) == Status.DATA
    start = batch.start[data]
    return start // cluster_size, (start + batch.length[data] - 1) // cluster_size


def _bitmaps_size(image: Image, cluster_size: int) -> int:
    """What the bitmaps take, also inconsistent ones: data, tables and directory."""
    clusters = directory = 0
    for entry in image.bitmaps if image.bitmaps_valid else ():
        bits = _ceil(image.virtual_size, entry.granularity)
        data = _ceil(_ceil(bits, 8), cluster_size)
        clusters += data + _ceil(data * _ENTRY, cluster_size)
        directory += (_DIRECTORY_ENTRY + len(entry.name) + 7) & ~7
    return (clusters + _ceil(directory, cluster_size)) * cluster_size


def _ceil(number: int, unit: int) -> int:
    """How many units ``number`` takes."""
    return -(-number // unit)
