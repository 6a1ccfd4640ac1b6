"""What the phases of a compaction share: counts of what was done, and giving back in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ...layout.tables import I64

if TYPE_CHECKING:
    from ...edit.editor import Editor
    from ...edit.transaction import Transaction

#: Why the history of an image ends here.
FORGET: Final = "the image was compacted"


@dataclass(slots=True)
class Tally:
    """Clusters, but for ``scanned``: bytes read in search of zeros.

    ``stuck``: could not be moved below the end that the number of used clusters allows, which is
    ``late`` clusters before the one reached.
    """

    moved: int = 0
    ordered: int = 0
    zeroed: int = 0
    scanned: int = 0
    stuck: int = 0
    late: int = 0


class Batches:
    """Switches one after the other, each giving back what the one before it freed.

    Undo is given up with each of them, because what it would need is what the next one takes.
    """

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self._runs: list[I64] = []  # (first, stop) rows of clusters

    def begin(self) -> Transaction:
        """Start a transaction; what earlier ones freed is given back through its guard."""
        tx = self.editor.begin()
        size = tx.geometry.cluster_size
        device = self.editor.is_device
        length = self.editor.storage.size()
        end = length if device else (tx.ledger.last_used() + 1) * size
        for runs in self._runs:
            for first, stop in runs.tolist():
                until = min(stop * size, length, end)
                if until > first * size:
                    tx.guard.punch(first * size, until - first * size)
        self._runs.clear()
        if length > end:
            tx.guard.flush()
            tx.guard.truncate(end)
        return tx

    def commit(self, tx: Transaction) -> None:
        """Switch to what every state shows as before, and forget the way back."""
        self.editor.commit(tx, tx.kept_views(moved=True))
        for first, freed in tx.ledger.freed():
            edges = np.flatnonzero(np.diff(freed, prepend=False, append=False)) + first
            self._runs.append(edges.reshape(-1, 2))
        self.editor.forget_history(FORGET)
