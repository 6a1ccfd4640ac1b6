"""The refcount of every host cluster while an edit is built, and which clusters may be taken.

Counts are signed and wide while they change, so that no order of adding and taking away overflows;
they must fit the image's width only when the refcount blocks are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import EditRefused, NoSpaceError, VerificationError
from ..image.image import Image
from ..image.refcounts import refcount_table, refcount_windows
from ..layout.constants import REFCOUNT_TABLE_OFFSET_MASK
from ..layout.tables import I64

#: The durable root reaches or counts the cluster: nothing may be written there.
LIVE: Final = np.uint8(1)
#: A root that undo or redo may go back to needs it.
HELD: Final = np.uint8(2)
#: Taken by this transaction, which may write it as often as it likes.
MINE: Final = np.uint8(4)
#: Free, and kept free by an action that has plans for it: nothing else may take it.
RESERVED: Final = np.uint8(8)

_WINDOW = 1 << 18
#: Stretches of adjacent clusters that are this long on average are counted one by one.
_LONG = 64
_TOO_MANY = 1 << 62


class Ledger:
    """Counts after the edit, and marks.  Cluster numbers are host offsets / cluster size.

    ``counts``: int32 (int64 above 16-bit refcounts), ``marks``: uint8 of LIVE, HELD, MINE and
    RESERVED; both are indexed by host cluster and as long as :attr:`capacity`.
    """

    def __init__(self, image: Image, end: int | None = None) -> None:
        """Load the counts on disk.  ``end``: clusters a device has; None for a file, which grows.

        Raises EditRefused when counts are beyond anything real.
        """
        geometry = image.usable_geometry_for_tables()
        self._limit = end
        self._loose = False
        self._bound: int | None = None
        table = refcount_table(image)
        used = np.flatnonzero(table & np.uint64(REFCOUNT_TABLE_OFFSET_MASK))
        covered = (int(used[-1]) + 1 if len(used) else 0) * geometry.refcount_block_entries
        clusters = max(covered, geometry.clusters(image.storage.size()))
        # The memory is the operating system's zero pages until something is counted there.
        capacity = 2 * clusters + (1 << 16)
        wide = geometry.refcount_order > 4
        self.counts: NDArray[np.signedinteger] = np.zeros(
            capacity, dtype=np.int64 if wide else np.int32
        )
        self.marks: NDArray[np.uint8] = np.zeros(capacity, dtype=np.uint8)
        #: Clusters below which everything counted or taken lies.
        self._reached = clusters
        for window in refcount_windows(image, 0, covered, table):
            if window.fault is not None:
                raise EditRefused(f"The refcounts cannot be read: {window.fault}.")
            if window.counts is None:
                continue
            part = slice(window.first, window.first + window.clusters)
            if wide and int(window.counts.max(initial=0)) > _TOO_MANY:
                raise EditRefused("A refcount of this image is too large to be true: check it.")
            self.counts[part] = window.counts
            self.marks[part] = window.counts != 0
        self._next = 0

    @classmethod
    def appending(cls, image: Image, end: int | None, kept: int) -> Self:
        """For a repair: counts are all 0, and no cluster below number ``kept`` may be taken.

        What refcounts say of a damaged image cannot be relied on, so nothing that is there is ever
        written over.  Counts may pass below 0 until :meth:`reset`.  What is counted far behind
        ``kept`` is ignored: pointers there are damage, and the file will not reach so far.
        """
        ledger = cls.__new__(cls)
        ledger._limit = end
        capacity = 2 * kept + (1 << 16)
        ledger._bound = capacity
        order = image.usable_geometry_for_tables().refcount_order
        ledger.counts = np.zeros(capacity, dtype=np.int64 if order > 4 else np.int32)
        ledger.marks = np.zeros(capacity, dtype=np.uint8)
        ledger.marks[:kept] = LIVE
        ledger._reached = kept
        ledger._next = kept
        ledger._loose = True
        return ledger

    def reset(self) -> None:
        """Set all counts to 0, to count everything once more."""
        self.counts = np.zeros(len(self.counts), dtype=self.counts.dtype)
        self._loose = False

    @property
    def capacity(self) -> int:
        """Clusters that counts and marks have room for."""
        return len(self.counts)

    def hold(self, image: Image) -> None:
        """Keep what ``image``, another root over the same bytes, counts from being taken."""
        geometry = image.usable_geometry_for_tables()
        table = refcount_table(image)
        used = np.flatnonzero(table & np.uint64(REFCOUNT_TABLE_OFFSET_MASK))
        covered = (int(used[-1]) + 1 if len(used) else 0) * geometry.refcount_block_entries
        self._reach(covered)
        for window in refcount_windows(image, 0, covered, table):
            if window.counts is not None:
                part = slice(window.first, window.first + window.clusters)
                np.bitwise_or(
                    self.marks[part], HELD, out=self.marks[part], where=window.counts != 0
                )

    def skip_to(self, cluster: int) -> None:
        """Take no cluster below number ``cluster`` from now on."""
        self._reach(cluster)
        if self._bound is not None:
            self._bound = max(self._bound, cluster)
        self.marks[:cluster] |= LIVE
        self._next = max(self._next, cluster)

    def hold_below(self, clusters: int) -> None:
        """Keep the first ``clusters`` clusters from being taken."""
        self._reach(clusters)
        self.marks[:clusters] |= HELD

    # ---- counting

    def add(self, clusters: I64, change: int) -> None:
        """Add ``change`` for each of ``clusters`` (int64, any order, repeats count again)."""
        if self._bound is not None:
            clusters = clusters[clusters < self._bound]
        if not len(clusters):
            return
        breaks = np.flatnonzero(clusters[1:] - clusters[:-1] != 1) + 1
        if len(breaks) * _LONG < len(clusters):  # tables name long stretches in order
            starts = [0, *breaks.tolist()]
            for first, stop in zip(starts, [*breaks.tolist(), len(clusters)], strict=True):
                self.add_run(int(clusters[first]), stop - first, change)
            return
        self._reach(int(clusters.max()) + 1)
        np.add.at(self.counts, clusters, change)
        if change < 0 and not self._loose and bool((self.counts[clusters] < 0).any()):
            raise _negative()

    def add_run(self, first: int, clusters: int, change: int) -> None:
        """Add ``change`` for each of ``clusters`` adjacent clusters."""
        if self._bound is not None:
            clusters = max(0, min(clusters, self._bound - first))
            if not clusters:
                return
        self._reach(first + clusters)
        part = self.counts[first : first + clusters]
        part += change
        if change < 0 and not self._loose and int(part.min(initial=0)) < 0:
            raise _negative()

    def single(self, clusters: I64) -> NDArray[np.bool_]:
        """Which of ``clusters`` (int64, any shape; 0 stands for none) are counted exactly once."""
        known = (clusters > 0) & (clusters < self.capacity)
        found: NDArray[np.bool_] = known & (self.counts[np.where(known, clusters, 0)] == 1)
        return found

    def move(self, old: I64, new: I64) -> None:
        """Count at ``new`` what was counted at ``old`` (int64 each, no repeats, ``new`` at 0)."""
        if len(new):
            self._reach(int(new.max()) + 1)
            self.counts[new] = self.counts[old]
            self.counts[old] = 0

    # ---- taking free clusters

    def seek(self, cluster: int) -> None:
        """Look for free clusters from ``cluster`` on, from now on."""
        self._next = cluster

    def reserve(self, first: int, stop: int) -> None:
        """Keep what is free of ``[first, stop)`` from being taken until :meth:`unreserve`."""
        self._reach(stop)
        part = self.marks[first:stop]
        part[part == 0] = RESERVED

    def unreserve(self, first: int, stop: int) -> None:
        """End :meth:`reserve` for ``[first, stop)``."""
        self._reach(stop)
        self.marks[first:stop] &= ~RESERVED

    def allocate(self, clusters: int) -> I64:
        """Take free clusters, the lowest first: int64[clusters], ascending.  They count 0 still.

        Raises NoSpaceError on a device that is full.
        """
        found: list[I64] = []
        missing = clusters
        at = self._next
        # Mostly the next clusters are free; a long search takes larger and larger steps.
        window = min(_WINDOW, max(1 << 10, 2 * missing))
        while missing > 0:
            stop = self._stop(at, window)
            window = min(_WINDOW, 2 * window)
            free = np.flatnonzero(self.marks[at:stop] == 0)[:missing]
            if len(free):
                found.append(free + at)
                missing -= len(free)
                at = at + int(free[-1]) + 1
            else:
                at = stop
        self._next = at
        taken: I64 = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
        self.marks[taken] |= MINE
        return taken

    def allocate_run(self, clusters: int) -> int:
        """Take ``clusters`` adjacent free clusters and return the first; they count 0 still."""
        if clusters == 1:
            return int(self.allocate(1)[0])
        at = self._next
        window = max(_WINDOW, 2 * clusters)
        while True:
            stop = self._stop(at, window, clusters)
            taken = np.zeros(stop - at + 1, dtype=np.int64)
            np.cumsum(self.marks[at:stop] != 0, out=taken[1:])
            fits = np.flatnonzero(taken[clusters:] == taken[:-clusters])
            if len(fits):
                first = at + int(fits[0])
                self.marks[first : first + clusters] |= MINE
                if first == self._next:
                    self._next = first + clusters
                return first
            at = stop - clusters + 1

    def take(self, clusters: I64) -> None:
        """Take exactly these free clusters (int64, no repeats)."""
        if not len(clusters):
            return
        self._reach(int(clusters.max()) + 1)
        if bool((self.marks[clusters] != 0).any()):
            raise VerificationError(
                "A cluster that is in use was to be taken: nothing was changed."
            )
        self.marks[clusters] |= MINE

    def mine(self, cluster: int) -> bool:
        """Whether this transaction took the cluster."""
        return cluster < self.capacity and bool(self.marks[cluster] & MINE)

    def free(self, first: int, stop: int) -> NDArray[np.bool_]:
        """Which clusters of ``[first, stop)`` can be taken (bool)."""
        self._reach(stop)
        free: NDArray[np.bool_] = self.marks[first:stop] == 0
        return free

    def freed(self) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """(first cluster, bool[n]) for stretches with clusters that only the old root needs."""
        for at, marks in self._windows():
            freed = (marks & LIVE != 0) & (self.counts[at : at + len(marks)] == 0)
            if freed.any():
                yield at, freed

    def taken(self) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """(first cluster, bool[n]) for stretches with clusters this transaction took."""
        for at, marks in self._windows():
            mine = marks & MINE != 0
            if mine.any():
                yield at, mine

    def _windows(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for at in range(0, self._reached, _WINDOW):
            yield at, self.marks[at : min(at + _WINDOW, self._reached)]

    def last_used(self) -> int:
        """The highest cluster with a count after the edit, -1 for none."""
        at = self._reached
        while at > 0:
            start = max(0, at - _WINDOW)
            used = np.flatnonzero(self.counts[start:at])
            if len(used):
                return start + int(used[-1])
            at = start
        return -1

    def _stop(self, at: int, window: int, needed: int = 1) -> int:
        """The end of a window from ``at`` that holds ``needed`` clusters at least."""
        stop = at + window
        if self._limit is not None:
            stop = min(stop, self._limit)
            if stop - at < needed:
                raise NoSpaceError(
                    "The device has no free clusters left for the change; reclaim or a larger "
                    "device would help.  Nothing was changed."
                )
        if self._bound is not None:
            self._bound = max(self._bound, stop)
        self._reach(stop)
        return stop

    def _reach(self, clusters: int) -> None:
        """Make room for cluster numbers below ``clusters``, of which some will be used."""
        self._reached = max(self._reached, clusters)
        have = self.capacity
        if clusters <= have:
            return
        more = max(clusters, have + have // 2)
        counts = np.zeros(more, dtype=self.counts.dtype)
        counts[:have] = self.counts
        marks = np.zeros(more, dtype=np.uint8)
        marks[:have] = self.marks
        self.counts, self.marks = counts, marks


def _negative() -> VerificationError:
    return VerificationError(
        "The refcounts of the image do not fit its tables (check it): nothing was changed."
    )
