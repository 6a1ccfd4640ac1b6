"""Refcounts, COPIED flags and the marks "dirty" and "corrupt": counted and set anew, nothing lost.

Every repair does this at its end (:class:`~qcow.edit.repairing.Repair`); here it gets a name and a
reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...findings import Finding
from ...inspect.check import kinds as K
from ...jobs import CancelToken
from ...layout import problems as P
from .diagnosis import Case
from .remedy import Option, Remedy

if TYPE_CHECKING:
    from ...edit.repairing import Repair

_KINDS = frozenset(
    {
        K.REFCOUNT_ZERO,
        K.REFCOUNT_LOW,
        K.REFCOUNT_HIGH,
        K.REFCOUNT_HIGH_COPIED,
        K.REFCOUNT_STALE,
        K.COPIED_SET,
        K.COPIED_MISSING,
        K.BEYOND_END,
        K.REFBLOCK_RESERVED,
        K.REFBLOCK_UNALIGNED,
        K.REFBLOCK_OUTSIDE,
        K.REFBLOCK_SHARED,
        P.REFCOUNT_TABLE_INVALID,
        P.DIRTY_BIT,
        P.CORRUPT_BIT,
    }
)


class Recount(Remedy):
    """Count all references, write new refcounts, set COPIED right, clear dirty and corrupt."""

    id = "refcounts"
    default = "rebuild"
    order = 90

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        self.options = (
            Option(
                key="rebuild",
                title="Count all references anew and write new refcounts",
                keeps="Every mapping and all guest data.",
                loses="",
                writes="New refcount blocks and a new refcount table behind the end of the file.",
            ),
        )

    def apply(self, tx: Repair, option: Option) -> None:
        """Nothing: the end of every repair does it."""


def find_recount(case: Case, cancel: CancelToken | None) -> list[Remedy]:
    """One remedy when anything about counts, flags or marks is wrong."""
    wrong = [finding for finding in case.checked.findings if finding.kind in _KINDS]
    return [Recount(wrong[0])] if wrong else []
