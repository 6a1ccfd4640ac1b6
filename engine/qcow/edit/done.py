"""What one action did to an image, counted switch by switch, as its plan shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..findings import Range
from .patch import Patch
from .plan import ImageMark, Outcome, Plan

if TYPE_CHECKING:
    from .transaction import Transaction

#: Ranges of clusters listed in a plan at most.
_RANGES = 4096


class Done:
    """Counts from 0, of bytes but for ``switches``.

    ``command``: the action's command line; ``action``: its description.  ``length``: the file's
    before it.  ``joined``: whether a switch of it is in the history already.
    """

    def __init__(self, command: str, action: Mapping[str, Any], length: int) -> None:
        self.command = command
        self.action = action
        self.length = length
        self.joined = False
        self.switches = 0
        self.returned = 0
        self._longest = length
        self._written = self._freed = self._taken = 0
        self._used_journal = self._truncated = False
        self._freed_ranges: list[Range] = []
        self._written_ranges: list[Range] = []

    def switch(self, patches: tuple[Patch, ...]) -> None:
        """Count one switch by itself."""
        self.switches += 1
        self._written += sum(len(patch.after) for patch in patches)

    def transaction(self, tx: Transaction, patches: tuple[Patch, ...], length: int) -> None:
        """Count a transaction with its switch; the file is ``length`` bytes long now."""
        self.switch(patches)
        self._written += tx.guard.written
        self._used_journal |= len(patches) != 1 or patches[0].end > 512
        self._longest = max(self._longest, length)
        size = tx.geometry.cluster_size
        for first, freed in tx.ledger.freed():
            self._freed += int(np.count_nonzero(freed)) * size
            self._note(self._freed_ranges, first, freed, size)
        for first, taken in tx.ledger.taken():
            self._taken += int(np.count_nonzero(taken)) * size
            self._note(self._written_ranges, first, taken, size)

    def plan(self, verb: str, outcome: Outcome, length: int, on: ImageMark) -> Plan:
        """All of it; the file is ``length`` bytes long now, and was ``on`` before."""
        return Plan(
            verb=verb,
            command=self.command,
            outcome=outcome,
            written=self._written,
            extra=max(0, self._longest - self.length),
            length_before=self.length,
            length_after=length,
            freed=self._freed,
            returned=self.returned,
            freed_ranges=tuple(self._freed_ranges),
            written_ranges=tuple(self._written_ranges),
            truncated=self._truncated,
            switches=self.switches,
            journal=self._used_journal,
            on=on,
            taken=self._taken,
        )

    def _note(self, ranges: list[Range], first: int, chosen: NDArray[np.bool_], size: int) -> None:
        edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False)) + first
        self._truncated |= len(ranges) + len(edges) // 2 > _RANGES
        for start, stop in edges[: 2 * (_RANGES - len(ranges))].reshape(-1, 2).tolist():
            if ranges and ranges[-1].end == start * size:
                ranges[-1] = Range(ranges[-1].start, stop * size - ranges[-1].start)
            else:
                ranges.append(Range(start * size, (stop - start) * size))
