"""Giving the host back what the image no longer needs: holes are punched, the tail is cut off.

It ends undo: the clusters of earlier roots are among what is given back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .editor import Editor
from .ledger import HELD, LIVE
from .transaction import Transaction


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """Bytes given back: ``punched`` inside the file (only what took space), ``cut`` at its end."""

    punched: int
    cut: int

    @property
    def total(self) -> int:
        return self.punched + self.cut


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
    live = (tx.ledger.marks & (LIVE | HELD)) != 0
    end = (len(live) - int(np.argmax(live[::-1])) if live.any() else 1) * size
    length = editor.storage.size()
    # A free cluster may be counted by nothing and still be cluster 0: the header is never free.
    live[0] = True
    edges = np.flatnonzero(np.diff(live[: end // size], prepend=True, append=True))
    holes = edges.reshape(-1, 2).tolist()
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
