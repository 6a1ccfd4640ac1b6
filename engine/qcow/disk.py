"""A disk as a guest sees it: the protocol every format is read through, and its map as runs.

The guest map is one thing, a stream of :class:`ExtentBatch`; `map`, reading, the chain, diff,
fragmentation and (later) convert are built on it.  A batch holds many runs as numpy arrays so that
nothing loops over clusters; memory stays bounded because batches are.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, NewType, Protocol

from .errors import UsageError
from .text import size_and_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: A byte position on the disk the guest sees.
GuestOffset = NewType("GuestOffset", int)
#: A byte position in the image file.
HostOffset = NewType("HostOffset", int)


class ExtentKind(IntEnum):
    """What a run of guest bytes is in one layer (qcow2 spec, "Cluster mapping")."""

    UNALLOCATED = 0  # this layer says nothing: falls through to the backing file, or zero
    ZERO = 1  # reads as zeros, no space reserved
    ZERO_ALLOCATED = 2  # reads as zeros, host space reserved at ``host``
    DATA = 3  # stored plainly at ``host``
    COMPRESSED = 4  # stored as compressed clusters; no usable host offset
    CORRUPT = 5  # the mapping itself is damaged: reading raises GuestDataError


class Extent(NamedTuple):
    """One run: ``length`` guest bytes from ``start``; ``host`` is -1 where it has no offset."""

    start: int
    length: int
    kind: ExtentKind
    host: int
    depth: int = 0


class ExtentBatch(NamedTuple):
    """Adjacent runs in guest order, one array element per run.

    ``start``, ``length``: int64 bytes.  ``kind``: uint8 (:class:`ExtentKind`).  ``host``: int64
    bytes, -1 where the run has none.  ``depth``: uint16 layer number, 0 is the top.  Runs are
    maximal within a batch and may continue in the next (see ``qcow.image.mapping.merged``).
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    kind: NDArray[np.uint8]
    host: NDArray[np.int64]
    depth: NDArray[np.uint16]


def extents_of(batch: ExtentBatch) -> Iterator[Extent]:
    """The runs of a batch one by one, for small work and tests."""
    for start, length, kind, host, depth in zip(
        batch.start.tolist(),
        batch.length.tolist(),
        batch.kind.tolist(),
        batch.host.tolist(),
        batch.depth.tolist(),
        strict=True,
    ):
        yield Extent(start, length, ExtentKind(kind), host, depth)


class Disk(Protocol):
    """One guest-visible disk: an image's active state, one of its snapshots, or a whole chain."""

    @property
    def virtual_size(self) -> int:
        """Bytes the guest sees; a multiple of 512."""

    def extents(self, start: int = 0, length: int | None = None) -> Iterator[ExtentBatch]:
        """The map of ``[start, start + length)`` in guest order, clipped to the disk, no gaps."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` guest bytes.

        Raises GuestDataError (EncryptedError, ...) when they cannot be had, ReferenceRefused when a
        backing file would be needed that may not be opened, UsageError beyond the end of the disk.
        """


def check_range(offset: int, length: int, virtual_size: int) -> None:
    """Raise UsageError unless ``[offset, offset + length)`` lies on the disk."""
    if offset < 0 or length < 0 or offset + length > virtual_size:
        raise UsageError(
            f"The range from {offset:#x} to {offset + length:#x} does not lie on the disk, which "
            f"has {size_and_bytes(virtual_size)}."
        )
