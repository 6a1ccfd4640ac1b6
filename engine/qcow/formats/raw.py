"""A raw disk: the file is the disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..closing import Closing
from ..disk import ExtentBatch, ExtentKind, check_range
from ..findings import Finding
from ..storage.base import Storage

_BATCH = 1 << 16


class RawImage(Closing):
    """A raw image.  Its disk is the file, rounded up to whole sectors with zeros."""

    format: Final = "raw"
    backing: Final = None
    problems: tuple[Finding, ...] = ()

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @property
    def name(self) -> str:
        """The path it was opened by (raw: pass it through ``safe`` before showing it)."""
        return self.storage.name

    @property
    def label(self) -> str:
        return "active"

    @property
    def virtual_size(self) -> int:
        """Bytes the guest sees."""
        return self.storage.size() + 511 & ~511

    @property
    def active(self) -> RawImage:
        """The disk as a guest sees it."""
        return self

    def extents(self, start: int = 0, length: int | None = None) -> Iterator[ExtentBatch]:
        """Data and holes of the file, see :class:`qcow.disk.Disk`."""
        import numpy as np

        stop = self.virtual_size if length is None else min(self.virtual_size, start + length)
        rows: list[tuple[int, int, int]] = []

        def batch() -> ExtentBatch:
            columns = np.array(rows, dtype=np.int64)
            return ExtentBatch(
                columns[:, 0],
                columns[:, 1],
                columns[:, 2].astype(np.uint8),
                columns[:, 0].copy(),
                np.zeros(len(rows), dtype=np.uint16),
            )

        at = start
        for begin, size, is_data in self.storage.extents(start, stop - start):
            kind = ExtentKind.DATA if is_data else ExtentKind.ZERO_ALLOCATED
            rows.append((begin, size, kind))
            at = begin + size
            if len(rows) == _BATCH:
                yield batch()
                rows.clear()
        if at < stop:  # the part of the last sector behind the end of the file
            rows.append((at, stop - at, ExtentKind.ZERO_ALLOCATED))
        if rows:
            yield batch()

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes.  Raises UsageError beyond the end of the disk."""
        check_range(offset, length, self.virtual_size)
        return self.storage.read(offset, length).ljust(length, b"\0")

    def close(self) -> None:
        self.storage.close()
