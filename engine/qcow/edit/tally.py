"""The refcounts and marks of host clusters while an edit is built, as they come from the disk.

Counts are signed and wide while they change, so that no order of adding and taking away overflows;
they must fit the image's width only when the refcount blocks are written.

They are loaded a window of clusters at a time, when they are asked for: a small change of a large
image has to do with few of them, and that a window is full is soon seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import EditRefused
from ..image.image import Image
from ..image.refcounts import refcount_table, refcount_windows
from ..layout.constants import REFCOUNT_TABLE_OFFSET_MASK
from ..layout.tables import I64, U64
from ..storage.buffers import ReadBuffer

#: The durable root reaches or counts the cluster: nothing may be written there.
LIVE: Final = np.uint8(1)
#: A root that undo or redo may go back to needs it.
HELD: Final = np.uint8(2)
#: Taken by this transaction, which may write it as often as it likes.
MINE: Final = np.uint8(4)
#: Free, and kept free by an action that has plans for it: nothing else may take it.
RESERVED: Final = np.uint8(8)

#: Clusters that are loaded together, at least.
WINDOW = 1 << 18
_TOO_MANY = 1 << 62
#: What is known of a window: nothing; that all its clusters are counted (and each just once); all.
_UNKNOWN, _FULL, _ONCE, _LOADED = range(4)

Counts = NDArray[np.signedinteger]
Marks = NDArray[np.uint8]


class _Root:
    """The refcounts that a root of the image has on disk."""

    def __init__(self, image: Image) -> None:
        geometry = image.usable_geometry_for_tables()
        self.image = image
        self.table: U64 = refcount_table(image)
        used = np.flatnonzero(self.table & np.uint64(REFCOUNT_TABLE_OFFSET_MASK))
        #: Clusters that it has blocks for: none behind them is counted.
        self.covered = (int(used[-1]) + 1 if len(used) else 0) * geometry.refcount_block_entries


class Tally:
    """Counts after the edit, and marks.  Cluster numbers are host offsets / cluster size.

    Counts are int32 (int64 above 16-bit refcounts), marks uint8 of LIVE, HELD, MINE and RESERVED.
    Methods that look at clusters raise EditRefused when their counts cannot be read, or are beyond
    anything real.
    """

    def __init__(self, image: Image, room: int | None = None) -> None:
        """The counts on disk; with ``room`` none at all, and that many clusters."""
        geometry = image.usable_geometry_for_tables()
        self._held: list[_Root] = []
        self._buffer = ReadBuffer()
        # A power of two and whole refcount blocks.
        self._window = max(WINDOW, geometry.refcount_block_entries)
        self._root: _Root | None = None
        #: Clusters below which everything counted or taken lies.
        self._reached = 0
        if room is None:
            self._root = _Root(image)
            self._reached = max(self._root.covered, geometry.clusters(image.storage.size()))
            room = 2 * self._reached + (1 << 16)
        self._wide = geometry.refcount_order > 4
        # The memory is the operating system's zero pages until something is counted there.
        self._counts: Counts = np.zeros(room, dtype=np.int64 if self._wide else np.int32)
        self._marks: Marks = np.zeros(room, dtype=np.uint8)
        self._known = self._news(self._windows_below(room))
        #: Windows that are not loaded.
        self._left = int(np.count_nonzero(self._known != _LOADED))

    @property
    def capacity(self) -> int:
        """Clusters that counts and marks have room for."""
        return len(self._counts)

    def hold(self, image: Image) -> None:
        """Keep what ``image``, another root over the same bytes, counts from being taken."""
        root = _Root(image)
        self._reach(root.covered)
        self._held.append(root)
        for window in np.flatnonzero(self._known == _LOADED).tolist():
            self._keep(root, window)

    def hold_below(self, clusters: int) -> None:
        """Keep the first ``clusters`` clusters from being taken."""
        self._reach(clusters)
        self._marks[:clusters] |= HELD

    # ---- looking

    def counts_in(self, first: int, stop: int) -> Counts:
        """The counts of clusters ``[first, stop)``, as far as there is room; not to be changed."""
        self._load(first, min(stop, self.capacity))
        return self._counts[first:stop]

    def counts_of(self, clusters: I64) -> Counts:
        """The counts of ``clusters`` (int64, below :attr:`capacity`)."""
        self._load_of(clusters)
        found: Counts = self._counts[clusters]
        return found

    def marks_in(self, first: int, stop: int) -> Marks:
        """The marks of clusters ``[first, stop)``, as far as there is room; not to be changed."""
        self._load(first, min(stop, self.capacity))
        return self._marks[first:stop]

    def marks_of(self, clusters: I64) -> Marks:
        """The marks of ``clusters`` (int64, below :attr:`capacity`)."""
        self._load_of(clusters)
        found: Marks = self._marks[clusters]
        return found

    def touched(self) -> Iterator[tuple[int, int]]:
        """[first, stop) of the stretches whose counts may differ from those on disk, ascending."""
        for first, counts, _ in self._windows():
            yield first, first + len(counts)

    def single(self, clusters: I64) -> NDArray[np.bool_]:
        """Which of ``clusters`` (int64, any shape; 0 stands for none) are counted exactly once."""
        known = (clusters > 0) & (clusters < self.capacity)
        places = np.where(known, clusters, 0)
        found: NDArray[np.bool_]
        if not self._left:
            found = known & (self._counts[places] == 1)
            return found
        windows = places // self._window
        for window in self._different(windows):
            if self._known[window] == _UNKNOWN:
                self._look(window)
        once = known & (self._known[windows] == _ONCE)
        rest = known & ~once
        self._load_of(places[rest])
        rest[rest] = self._counts[places[rest]] == 1
        found = once | rest
        return found

    def _windows(self) -> Iterator[tuple[int, Counts, Marks]]:
        """(first cluster, counts, marks) of the windows that were asked for: all that changed."""
        for window in np.flatnonzero(self._known == _LOADED).tolist():
            at = window * self._window
            part = slice(at, min(at + self._window, self._reached))
            if part.start < part.stop:
                yield at, self._counts[part], self._marks[part]

    # ---- loading

    def _windows_below(self, clusters: int) -> int:
        return -(-clusters // self._window)

    def _news(self, windows: int) -> NDArray[np.uint8]:
        """What is known of so many windows at first: where there is nothing to load, all."""
        state = _LOADED if self._root is None else _UNKNOWN
        return np.full(windows, state, dtype=np.uint8)

    def _different(self, windows: NDArray[np.intp]) -> list[int]:
        found: list[int] = np.flatnonzero(np.bincount(windows.reshape(-1))).tolist()
        return found

    def _load_of(self, clusters: I64) -> None:
        if self._left and len(clusters):
            for window in self._different(clusters // self._window):
                self._load_window(window)

    def _load(self, first: int, stop: int) -> None:
        if self._left:
            for window in range(first // self._window, self._windows_below(stop)):
                self._load_window(window)

    def _load_window(self, window: int) -> None:
        if self._known[window] == _LOADED:
            return
        assert self._root is not None
        for part, counts in self._on_disk(self._root, window):
            if self._wide and int(counts.max(initial=0)) > _TOO_MANY:
                raise EditRefused("A refcount of this image is too large to be true: check it.")
            self._counts[part] = counts
            self._marks[part] |= (counts != 0).view(np.uint8) * LIVE
        for root in self._held:
            self._keep(root, window)
        self._known[window] = _LOADED
        self._left -= 1

    def _keep(self, root: _Root, window: int) -> None:
        for part, counts in self._on_disk(root, window, faulty=True):
            self._marks[part] |= (counts != 0).view(np.uint8) * HELD

    def _look(self, window: int) -> None:
        """Find out whether a window is full, without the memory that loading it takes."""
        assert self._root is not None
        if (window + 1) * self._window > self._root.covered:
            return
        low, high = 1, 1
        clusters = 0
        for part, counts in self._on_disk(self._root, window):
            low, high = min(low, int(counts.min())), max(high, int(counts.max()))
            clusters += part.stop - part.start
            if not low:
                return
        if clusters == self._window:
            self._known[window] = _ONCE if high == 1 else _FULL

    def _behind_full(self, cluster: int) -> int:
        """The first cluster behind the full windows that begin with that of ``cluster``."""
        window = cluster // self._window
        while self._is_full(window):
            window += 1
            cluster = window * self._window
        return cluster

    def _before_full(self, first: int, stop: int) -> int:
        """``stop``, or the first full window behind that of ``first`` and before it."""
        for window in range(first // self._window + 1, self._windows_below(stop)):
            if self._is_full(window):
                return window * self._window
        return stop

    def _is_full(self, window: int) -> bool:
        if window >= len(self._known):
            return False
        if self._known[window] == _UNKNOWN:
            self._look(window)
        return bool(self._known[window] in (_FULL, _ONCE))

    def _on_disk(
        self, root: _Root, window: int, *, faulty: bool = False
    ) -> Iterator[tuple[slice, NDArray[np.unsignedinteger]]]:
        """(clusters, counts) of the blocks there; without ``faulty`` all of them must be sound."""
        first = window * self._window
        clusters = min(first + self._window, root.covered, self.capacity) - first
        if clusters <= 0:
            return
        for found in refcount_windows(root.image, first, clusters, root.table, self._buffer):
            if found.fault is not None and not faulty:
                raise EditRefused(f"The refcounts cannot be read: {found.fault}.")
            if found.counts is not None:
                yield slice(found.first, found.first + found.clusters), found.counts

    def _reach(self, clusters: int) -> None:
        """Make room for cluster numbers below ``clusters``, of which some will be used."""
        self._reached = max(self._reached, clusters)
        have = self.capacity
        if clusters <= have:
            return
        more = max(clusters, have + have // 2)
        counts = np.zeros(more, dtype=self._counts.dtype)
        counts[:have] = self._counts
        marks = np.zeros(more, dtype=np.uint8)
        marks[:have] = self._marks
        self._counts, self._marks = counts, marks
        new = self._news(self._windows_below(more) - len(self._known))
        self._known = np.concatenate((self._known, new))
        self._left = int(np.count_nonzero(self._known != _LOADED))
