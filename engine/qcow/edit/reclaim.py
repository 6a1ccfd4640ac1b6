"""Giving the host back what the image no longer needs: holes are punched, the tail is cut off.

It ends undo: the clusters of earlier roots are among what is given back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..record import record
from .editor import Editor
from .ledger import HELD, LIVE
from .transaction import Transaction

#: Clusters looked at together.
_PART = 1 << 20


@record
class Reclaimed:
    """Bytes given back: ``punched`` inside the file (only what took space), ``cut`` at its end."""

    punched: int
    cut: int

    @property
    def total(self) -> int:
        return self.punched + self.cut


def _free_runs(marks: NDArray[np.uint8]) -> tuple[list[list[int]], int]:
    """([first, stop) of each run of free clusters between others, clusters up to the last other).

    Found in parts, for one array of bool more would be as large as the marks.
    """
    edges = [np.zeros(0, dtype=np.int64)]
    # A free cluster may be counted by nothing and still be cluster 0: the header is never free.
    before, end = True, 1
    for at in range(0, len(marks), _PART):
        live = (marks[at : at + _PART] & (LIVE | HELD)) != 0
        if not at:
            live[:1] = True
        found = np.flatnonzero(np.diff(live, prepend=before)) + at
        if live.any():
            end = at + len(live) - int(np.argmax(live[::-1]))
        edges.append(found)
        before = bool(live[-1])
    every = np.concatenate(edges)
    runs: list[list[int]] = every[every < end].reshape(-1, 2).tolist()
    return runs, end


def reclaim(editor: Editor) -> Reclaimed:
    """Punch all free clusters of the present root and cut the file behind the last used one.

    The undo history is given up, durably, before the first byte.  A crash leaves some of it to be
    reclaimed again.  Raises EditRefused for an image that must be repaired first, StorageError.
    """
    editor.forget_history("the space it needed was reclaimed")
    done = give_back(editor, editor.begin())
    editor.count_returned(done.total)
    return done


def give_back(editor: Editor, tx: Transaction) -> Reclaimed:
    """The same for what neither the present root nor undo needs, through a transaction begun.

    The history stays as it is, and nothing is counted as returned.
    """
    size = tx.geometry.cluster_size
    length = editor.storage.size()
    holes, clusters = _free_runs(tx.ledger.marks_in(0, tx.ledger.capacity))
    end = clusters * size
    punched = 0
    for number, (first, stop) in enumerate(holes):
        tx.step("giving back free clusters", number, len(holes), "ranges")
        start = first * size
        until = min(stop * size, length)
        for at, run, is_data in editor.storage.extents(start, max(0, until - start)):
            if is_data:
                tx.guard.punch(at, run)
                punched += run
    cut = 0
    if length > end and not editor.is_device:
        # What was punched and the switch before it are durable before anything is cut off.
        tx.guard.flush()
        tail = editor.storage.extents(end, length - end)
        cut = sum(run for _, run, is_data in tail if is_data)
        tx.guard.truncate(end)
    tx.guard.flush()
    return Reclaimed(punched, cut)
