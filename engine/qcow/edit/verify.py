"""The gates before a change and before its switch: what is to be relied on is checked.

The candidate is also compared with what it came from.  Nothing here knows how it was built: both
images are read as by any reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import EditRefused, GuestDataError, VerificationError
from ..findings import Severity
from ..image.image import Image
from ..image.state import State
from ..image.tables import l2_tables
from ..inspect.check import CheckResult, check
from ..jobs import CancelToken
from ..layout.constants import OFLAG_ZERO
from ..layout.geometry import Geometry
from ..layout.tables import I64, OFFSETS, U64
from ..text import plural, safe
from .counting import COMPRESSED, COPIED
from .moved_content import Entries, MovedContent

_ZERO = np.uint64(OFLAG_ZERO)
Step = Callable[[str, int, int], None]


class View(NamedTuple):
    """What a guest sees in state ``after`` of the candidate is what it saw in ``before``.

    States are indices into the snapshot table, None is the active one.  ``changed``: (start, end)
    guest bytes, ascending, that may differ, and ``moved``: data may lie elsewhere in the file,
    which is then compared byte by byte.  With ``disk`` only the disk counts, not the VM state that
    a snapshot may hold behind it.
    """

    after: int | None
    before: int | None
    changed: tuple[tuple[int, int], ...] = ()
    moved: bool = False
    disk: bool = False


def check_before(image: Image, cancel: CancelToken | None) -> int:
    """Whether ``image`` can be relied on for a change; how many leaks it has.

    Raises EditRefused for one that must be repaired first.
    """
    worst = next((p for p in image.problems if p.severity >= Severity.CORRUPTION), None)
    if worst is not None:
        raise EditRefused(
            f"'{safe(image.name)}' is damaged and must be repaired before it is changed. "
            f"{worst.what}"
        )
    if image.header.dirty or image.header.corrupt:
        mark = "corrupt" if image.header.corrupt else "dirty"
        raise EditRefused(
            f"'{safe(image.name)}' is marked {mark}: its refcounts cannot be relied on until "
            "it was repaired (check -r)."
        )
    result = check(image, cancel=cancel, decode=False)
    errors = result.corruptions + result.extra_corruptions + result.check_errors
    if errors:
        raise EditRefused(
            f"'{safe(image.name)}' has {plural(errors, 'error')} and must be repaired before it is "
            f"changed. {result.findings[0].what if result.findings else ''}"
        )
    return result.leaks + result.extra_leaks


def check_candidate(candidate: Image, leaks: int | None, cancel: CancelToken | None) -> CheckResult:
    """The independent check.  ``leaks``: how many the image had before; None: any number will do.

    Raises VerificationError when the candidate has errors or other leaks.
    """
    result = check(candidate, cancel=cancel, decode=False)
    found = result.corruptions + result.extra_corruptions + result.check_errors
    if found or (leaks is not None and result.leaks + result.extra_leaks != leaks):
        worst = result.findings[0].what if result.findings else ""
        raise VerificationError(
            f"The prepared change did not pass its check ({plural(found, 'error')}, "
            f"{plural(result.leaks + result.extra_leaks, 'leak')}): it was not made, "
            f"the image is as it was. {worst}"
        )
    return result


def compare_views(
    before: Image, after: Image, views: Sequence[View], step: Step, *, contents: bool = True
) -> None:
    """Raise VerificationError unless every view of the candidate shows what it should.

    Without ``contents``, data that was moved is not read: in a dry run it was not moved.
    """
    content = MovedContent(before, after)
    for view in views:
        if contents or not view.moved:
            old, new = _state(before, view.before), _state(after, view.after)
            _Comparison(old, new, view, step, content).run()


def _state(image: Image, index: int | None) -> State:
    return image.active if index is None else image.snapshot_state(image.snapshots[index])


class _Comparison:
    def __init__(
        self, before: State, after: State, view: View, step: Step, content: MovedContent
    ) -> None:
        self._before, self._after = before, after
        self._view = view
        self._content = content
        self._step = step
        self._geometry: Geometry = after.geometry

    def run(self) -> None:
        """Compare the entries of every pair of L2 tables that is not one and the same table."""
        old, new = self._before.l1() & OFFSETS, self._after.l1() & OFFSETS
        length = max(len(old), len(new))
        if self._view.disk:
            # The tables may hold less than a damaged size asks for.
            length = min(length, self._geometry.l1_entries(self._after.virtual_size))
            old, new = old[:length], new[:length]
        old_offsets: I64 = np.pad(old, (0, length - len(old))).astype(np.int64)
        new_offsets: I64 = np.pad(new, (0, length - len(new))).astype(np.int64)
        differing = np.flatnonzero(old_offsets != new_offsets)
        step = max(1, (1 << 20) // self._geometry.cluster_size)
        for at in range(0, len(differing), step):
            self._step("comparing with the old image", at, len(differing))
            part = differing[at : at + step]
            entries, bits = self._tables(self._before, old_offsets[part])
            wanted, wanted_bits = self._tables(self._after, new_offsets[part])
            different = self._meaning(entries, self._before) != self._meaning(wanted, self._after)
            if bits is not None and wanted_bits is not None:
                different |= bits != wanted_bits
            if different.any():
                self._judge(part, different, entries, wanted, bits, wanted_bits)

    @staticmethod
    def _meaning(entries: U64, state: State) -> U64:
        """What entries say to a reader: without COPIED, and without the bits that say nothing."""
        zero = state.geometry.version >= 3 and not state.geometry.extended_l2
        bits = OFFSETS | COMPRESSED | (_ZERO if zero else np.uint64(0))
        if state.image.header.has_data_file:
            bits |= COPIED  # there it says that offset 0 is an offset
        packed = (entries & COMPRESSED) != 0
        if not packed.any():
            return entries & bits
        return np.where(packed, entries & ~COPIED, entries & bits)

    def _tables(self, state: State, offsets: I64) -> tuple[U64, U64 | None]:
        """Entries and bitmaps of tables in this order; where there is no table, zeros."""
        geometry = self._geometry
        entries = np.zeros((len(offsets), geometry.l2_entries), dtype=np.uint64)
        bits = np.zeros_like(entries) if geometry.extended_l2 else None
        there = np.flatnonzero(offsets)
        at = 0
        for batch in l2_tables(state.image.storage, geometry, offsets[there]):
            rows = there[at : at + len(batch.offsets)]
            entries[rows] = batch.entries
            if bits is not None and batch.bitmaps is not None:
                bits[rows] = batch.bitmaps
            at += len(batch.offsets)
        return entries, bits

    def _judge(
        self,
        tables: I64,
        different: NDArray[np.bool_],
        old: U64,
        new: U64,
        old_bits: U64 | None,
        new_bits: U64 | None,
    ) -> None:
        geometry = self._geometry
        rows, columns = np.nonzero(different)
        clusters = tables[rows] * geometry.l2_entries + columns
        kept = self._must_agree(clusters)
        if not kept.any():
            return
        rows, columns, clusters = rows[kept], columns[kept], clusters[kept]
        if self._view.moved:
            pairs = Entries.of(old, new, old_bits, new_bits, rows, columns)
            agree = self._content.agrees(pairs)
            for index in np.flatnonzero(~agree).tolist():
                agree[index] = self._reads_the_same(int(clusters[index]))
            clusters = clusters[~agree]
        if len(clusters):
            at = int(clusters[0]) << geometry.cluster_bits
            raise VerificationError(
                f"The prepared change would alter guest data at {at:#x} that it should not touch: "
                "it was not made, the image is as it was."
            )

    def _must_agree(self, clusters: I64) -> NDArray[np.bool_]:
        """Which guest clusters lie outside of what may change (touching is lying inside)."""
        agree = np.ones(len(clusters), dtype=np.bool_)
        bits = self._geometry.cluster_bits
        if self._view.disk:
            agree = clusters < self._geometry.clusters(self._after.virtual_size)
        if not self._view.changed:
            return agree
        starts = np.array([start >> bits for start, _ in self._view.changed], dtype=np.int64)
        ends = np.array([-(-end >> bits) for _, end in self._view.changed], dtype=np.int64)
        place = np.searchsorted(starts, clusters, side="right") - 1
        inside = (place >= 0) & (clusters < ends[np.maximum(place, 0)])
        return agree & ~inside

    def _reads_the_same(self, cluster: int) -> bool:
        """The guest bytes of one cluster, whatever way it is stored; no backing file is asked."""
        start = cluster << self._geometry.cluster_bits
        length = self._geometry.cluster_size
        end = min(start + length, self._before.virtual_size, self._after.virtual_size)
        if end <= start:
            return False
        try:
            return self._before.read(start, end - start) == self._after.read(start, end - start)
        except GuestDataError:
            return False
