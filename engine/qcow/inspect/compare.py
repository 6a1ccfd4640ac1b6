"""Whether two disks hold the same guest data, as qemu-img compare judges it.

Content decides; in strict mode also the size and the block status of every run.  Ranges that both
disks read as zeros, or take from the same place of the same file, are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..chain import Chain
from ..chain.intersect import aligned, end_of
from ..disk import ExtentBatch, ExtentKind
from ..errors import EncryptedError, GuestDataError, QcowError, StorageError
from ..image.image import Image
from ..jobs import CancelToken, ProgressCallback, Throttle
from ..layout.constants import SECTOR
from ..record import record
from ..text import safe
from .identity import Identities
from .strictness import first_status_mismatch

#: Guest bytes read at a time from each disk.
PIECE = 4 << 20

#: Reading less than this is over before a second thread has started.
_WORTH_A_THREAD = 256 << 10

Side = Literal[0, 1]

# What is to be done for a run.
_NOTHING = np.int8(0)
_READ = np.int8(1)
_DAMAGED_A = np.int8(2)
_DAMAGED_B = np.int8(3)


class Mismatch(Enum):
    """What was found to differ first."""

    SIZE = "size"  # strict only
    STATUS = "status"  # strict only
    CONTENT = "content"


@record
class Comparison:
    """``offset``: guest byte of the first mismatch, where its kind has one.

    ``size_warning``: the disks differ in size, and were equal up to the end of the shorter one; the
    rest of the longer one was then compared with zeros.
    """

    mismatch: Mismatch | None
    offset: int | None = None
    size_warning: bool = False

    @property
    def identical(self) -> bool:
        return self.mismatch is None


class StatusFailed(QcowError):
    """The map of one disk is damaged, so that it cannot be compared there."""

    exit_code: ClassVar[int] = 3

    def __init__(self, side: Side, offset: int, name: str) -> None:
        super().__init__(
            f"The mapping of {safe(name)} is damaged at guest offset {offset:#x}; "
            "`qcowtui check` says how."
        )
        self.side = side
        self.offset = offset


class ReadFailed(QcowError):
    """Guest bytes of one disk cannot be read."""

    exit_code: ClassVar[int] = 4

    def __init__(self, side: Side, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.side = side
        self.offset = offset


def compare(
    a: Chain,
    b: Chain,
    *,
    strict: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Comparison:
    """Compare from the start and stop at the first mismatch.

    Raises EncryptedError when a disk is encrypted, ReferenceRefused or ReferenceMissing when a
    range needs a layer that is not open, StatusFailed, ReadFailed, Cancelled.
    """
    sizes = a.virtual_size, b.virtual_size
    if strict and sizes[0] != sizes[1]:
        return Comparison(Mismatch.SIZE)
    for disk in (a, b):
        for layer in disk.layers:
            if isinstance(layer.image, Image):
                layer.image.require_plain()
    comparer = _Comparer(a, b, Throttle(progress), cancel)
    stop = common = min(sizes)
    status = first_status_mismatch(a, b) if strict else None
    if status is not None:
        stop = status  # what lies before it is compared first
    with comparer:
        offset = comparer.first_difference(stop)
        if offset is not None:
            return Comparison(Mismatch.CONTENT, offset)
        if status is not None:
            return Comparison(Mismatch.STATUS, status)
        if sizes[0] == sizes[1]:
            return Comparison(None)
        offset = comparer.first_nonzero(0 if sizes[0] > sizes[1] else 1, common)
    if offset is not None:
        return Comparison(Mismatch.CONTENT, offset, size_warning=True)
    return Comparison(None, size_warning=True)


class _Comparer:
    def __init__(self, a: Chain, b: Chain, report: Throttle, cancel: CancelToken | None) -> None:
        self._disks = (a, b)
        self._report = report
        self._cancel = cancel
        self._total = max(a.virtual_size, b.virtual_size)
        self._zeros = bytes(PIECE)
        # Both disks are read at the same time: decompressing and copying leave the interpreter.
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> _Comparer:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def first_difference(self, stop: int) -> int | None:
        """The first sector below ``stop`` in which the disks differ."""
        a, b = self._disks
        identities = Identities(a, b)
        for one, other in aligned(a.extents(0, stop), b.extents(0, stop)):
            same = identities.same_file(one, other) & (one.host == other.host)
            same &= (one.kind == ExtentKind.DATA) & (other.kind == ExtentKind.DATA)
            same |= (one.kind <= ExtentKind.ZERO_ALLOCATED) & (
                other.kind <= ExtentKind.ZERO_ALLOCATED
            )
            work = np.where(same, _NOTHING, _READ)
            work[other.kind == ExtentKind.CORRUPT] = _DAMAGED_B
            work[one.kind == ExtentKind.CORRUPT] = _DAMAGED_A
            offset = self._first_in(one, work, (0, 1))
            if offset is not None:
                return offset
        return None

    def first_nonzero(self, side: Side, start: int) -> int | None:
        """The first sector from ``start`` on in which one disk holds anything."""
        for batch in self._disks[side].extents(start):
            work = np.where(batch.kind <= ExtentKind.ZERO_ALLOCATED, _NOTHING, _READ)
            work[batch.kind == ExtentKind.CORRUPT] = (_DAMAGED_A, _DAMAGED_B)[side]
            offset = self._first_in(batch, work, (side,))
            if offset is not None:
                return offset
        return None

    def _first_in(
        self, batch: ExtentBatch, work: NDArray[np.int8], sides: tuple[Side, ...]
    ) -> int | None:
        for start, length, kind in _stretches(batch, work):
            if kind != _READ:
                side: Side = 0 if kind == _DAMAGED_A else 1
                raise StatusFailed(side, start, self._disks[side].image.name)
            offset = self._compare_stretch(start, length, sides)
            if offset is not None:
                return offset
        self._step(end_of(batch))
        return None

    def _compare_stretch(self, start: int, length: int, sides: tuple[Side, ...]) -> int | None:
        for at in range(start, start + length, PIECE):
            size = min(PIECE, start + length - at)
            pending: Future[bytearray] | None = None
            if len(sides) == 2 and size >= _WORTH_A_THREAD:
                pending = self._pool.submit(self._read, 1, at, size)
            one = self._read(sides[0], at, size)
            other: bytearray | memoryview
            if pending is not None:
                other = pending.result()
            elif len(sides) == 2:
                other = self._read(1, at, size)
            else:
                other = memoryview(self._zeros)[:size]
            if one != other:
                return at + _first_sector(one, other)
            self._step(at + size)
        return None

    def _read(self, side: Side, offset: int, length: int) -> bytearray:
        buffer = bytearray(length)
        try:
            self._disks[side].read_into(offset, buffer)
        except EncryptedError:
            raise
        except (GuestDataError, StorageError) as error:
            raise ReadFailed(side, offset, str(error)) from error
        return buffer

    def _step(self, offset: int) -> None:
        if self._cancel is not None:
            self._cancel.check()
        self._report("comparing", offset, self._total, "bytes")


def _stretches(batch: ExtentBatch, work: NDArray[np.int8]) -> Iterator[tuple[int, int, int]]:
    """(start, length, work) of neighbours with the same work to be done, where there is any.

    A stretch begins anew where a run does not start at a sector: mismatches are told in sectors
    from there, as qemu-img tells them.
    """
    breaks = (work[1:] != work[:-1]) | (batch.start[1:] % SECTOR != 0)
    heads = np.flatnonzero(np.concatenate(([True], breaks)))
    lengths = np.add.reduceat(batch.length, heads)
    some = work[heads] != _NOTHING
    yield from zip(
        batch.start[heads][some].tolist(),
        lengths[some].tolist(),
        work[heads][some].tolist(),
        strict=True,
    )


def _first_sector(one: bytearray, other: bytearray | memoryview) -> int:
    """Offset of the first sector that differs."""
    differs = np.frombuffer(one, dtype=np.uint8) != np.frombuffer(other, dtype=np.uint8)
    return int(differs.argmax()) // SECTOR * SECTOR
