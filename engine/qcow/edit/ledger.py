"""What an edit does to refcounts, and which clusters it may take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..errors import NoSpaceError, VerificationError
from ..image.image import Image
from ..layout.tables import I64
from .tally import HELD, LIVE, MINE, RESERVED, WINDOW, Tally

__all__ = ["HELD", "LIVE", "MINE", "RESERVED", "Ledger"]

#: Stretches of adjacent clusters that are this long on average are counted one by one.
_LONG = 64


class Ledger(Tally):
    """Counts and marks that an edit changes.  Cluster numbers are host offsets / cluster size."""

    def __init__(self, image: Image, end: int | None = None, room: int | None = None) -> None:
        """``end``: clusters a device has; None for a file, which grows."""
        super().__init__(image, room)
        self._limit = end
        self._loose = False
        self._bound: int | None = None
        self._next = 0

    @classmethod
    def appending(cls, image: Image, end: int | None, kept: int) -> Self:
        """For a repair: counts are all 0, and no cluster below number ``kept`` may be taken.

        What refcounts say of a damaged image cannot be relied on, so nothing that is there is ever
        written over.  Counts may pass below 0 until :meth:`reset`.  What is counted far behind
        ``kept`` is ignored: pointers there are damage, and the file will not reach so far.
        """
        ledger = cls(image, end, room=2 * kept + (1 << 16))
        ledger._bound = ledger.capacity
        ledger._marks[:kept] = LIVE
        ledger._reached = kept
        ledger._next = kept
        ledger._loose = True
        return ledger

    def reset(self) -> None:
        """Set all counts to 0, to count everything once more."""
        self._counts = np.zeros(len(self._counts), dtype=self._counts.dtype)
        self._loose = False

    def skip_to(self, cluster: int) -> None:
        """Take no cluster below number ``cluster`` from now on."""
        self._reach(cluster)
        if self._bound is not None:
            self._bound = max(self._bound, cluster)
        self._marks[:cluster] |= LIVE
        self._next = max(self._next, cluster)

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
        self._load_of(clusters)
        np.add.at(self._counts, clusters, change)
        if change < 0 and not self._loose and bool((self._counts[clusters] < 0).any()):
            raise _negative()

    def add_run(self, first: int, clusters: int, change: int) -> None:
        """Add ``change`` for each of ``clusters`` adjacent clusters."""
        if self._bound is not None:
            clusters = max(0, min(clusters, self._bound - first))
            if not clusters:
                return
        self._reach(first + clusters)
        self._load(first, first + clusters)
        part = self._counts[first : first + clusters]
        part += change
        if change < 0 and not self._loose and int(part.min(initial=0)) < 0:
            raise _negative()

    def move(self, old: I64, new: I64) -> None:
        """Count at ``new`` what was counted at ``old`` (int64 each, no repeats, ``new`` at 0)."""
        if len(new):
            self._reach(int(new.max()) + 1)
            self._load_of(new)
            self._load_of(old)
            self._counts[new] = self._counts[old]
            self._counts[old] = 0

    # ---- taking free clusters

    def seek(self, cluster: int) -> None:
        """Look for free clusters from ``cluster`` on, from now on."""
        self._next = cluster

    def reserve(self, first: int, stop: int) -> None:
        """Keep what is free of ``[first, stop)`` from being taken until :meth:`unreserve`."""
        self._reach(stop)
        self._load(first, stop)
        part = self._marks[first:stop]
        part[part == 0] = RESERVED

    def unreserve(self, first: int, stop: int) -> None:
        """End :meth:`reserve` for ``[first, stop)``."""
        self._reach(stop)
        self._load(first, stop)
        self._marks[first:stop] &= ~RESERVED

    def allocate(self, clusters: int) -> I64:
        """Take free clusters, the lowest first: int64[clusters], ascending.  They count 0 still.

        Raises NoSpaceError on a device that is full.
        """
        found: list[I64] = []
        missing = clusters
        at = self._next
        # Mostly the next clusters are free; a long search takes larger and larger steps.
        step = min(WINDOW, max(1 << 10, 2 * missing))
        while missing > 0:
            stop = self._stop(at, step)
            behind = self._behind_full(at)
            if behind > at:
                at = behind
                continue
            step = min(WINDOW, 2 * step)
            stop = self._before_full(at, stop)
            self._load(at, stop)
            free = np.flatnonzero(self._marks[at:stop] == 0)[:missing]
            if len(free):
                found.append(free + at)
                missing -= len(free)
                at = at + int(free[-1]) + 1
            else:
                at = stop
        self._next = at
        taken: I64 = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
        self._marks[taken] |= MINE
        return taken

    def allocate_run(self, clusters: int) -> int:
        """Take ``clusters`` adjacent free clusters and return the first; they count 0 still."""
        if clusters == 1:
            return int(self.allocate(1)[0])
        at = self._next
        step = max(WINDOW, 2 * clusters)
        while True:
            stop = self._stop(at, step, clusters)
            behind = self._behind_full(at)
            if behind > at:
                at = behind
                continue
            stop = self._before_full(at, stop)
            if stop - at < clusters:
                at = stop
                continue
            self._load(at, stop)
            taken = np.zeros(stop - at + 1, dtype=np.int64)
            np.cumsum(self._marks[at:stop] != 0, out=taken[1:])
            fits = np.flatnonzero(taken[clusters:] == taken[:-clusters])
            if len(fits):
                first = at + int(fits[0])
                self._marks[first : first + clusters] |= MINE
                if first == self._next:
                    self._next = first + clusters
                return first
            at = stop - clusters + 1

    def take(self, clusters: I64) -> None:
        """Take exactly these free clusters (int64, no repeats)."""
        if not len(clusters):
            return
        self._reach(int(clusters.max()) + 1)
        self._load_of(clusters)
        if bool((self._marks[clusters] != 0).any()):
            raise VerificationError(
                "A cluster that is in use was to be taken: nothing was changed."
            )
        self._marks[clusters] |= MINE

    def mine(self, cluster: int) -> bool:
        """Whether this transaction took the cluster."""
        return cluster < self.capacity and bool(self._marks[cluster] & MINE)

    def free(self, first: int, stop: int) -> NDArray[np.bool_]:
        """Which clusters of ``[first, stop)`` can be taken (bool)."""
        self._reach(stop)
        self._load(first, stop)
        free: NDArray[np.bool_] = self._marks[first:stop] == 0
        return free

    def freed(self) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """(first cluster, bool[n]) for stretches with clusters that only the old root needs."""
        for at, counts, marks in self._windows():
            freed = (marks & LIVE != 0) & (counts == 0)
            if freed.any():
                yield at, freed

    def taken(self) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """(first cluster, bool[n]) for stretches with clusters this transaction took."""
        for at, _, marks in self._windows():
            mine = marks & MINE != 0
            if mine.any():
                yield at, mine

    def last_used(self) -> int:
        """The highest cluster with a count after the edit, -1 for none."""
        for window in reversed(range(self._windows_below(self._reached))):
            at = window * self._window
            stop = min(at + self._window, self._reached)
            if self._behind_full(at) >= stop:
                return stop - 1
            self._load(at, stop)
            used = np.flatnonzero(self._counts[at:stop])
            if len(used):
                return at + int(used[-1])
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


def _negative() -> VerificationError:
    return VerificationError(
        "The refcounts of the image do not fit its tables (check it): nothing was changed."
    )
