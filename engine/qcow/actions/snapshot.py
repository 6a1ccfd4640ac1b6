"""The actions of ``snapshot``: create, apply (revert), delete and rename (qcow2 spec, "Snapshots").

Each path from an L1 table to a cluster counts once, so that a snapshot adds one reference to
everything its L1 table reaches.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..edit.editor import Editor
from ..edit.plan import Outcome
from ..edit.transaction import SnapshotDraft, Transaction
from ..edit.verify import View
from ..errors import EditRefused, NotFoundError, UsageError
from ..findings import GuestRange
from ..inspect.diff import diff
from ..layout.constants import MAX_SNAPSHOTS
from ..layout.snapshots import Snapshot
from ..layout.tables import U64
from ..record import record, replace
from ..text import safe, size_and_bytes
from .command_line import command_line

#: Ranges of a difference that are listed in a plan.
_LISTED = 1000
_MAX_NAME = (1 << 16) - 1
#: vm_state_size, disk_size, icount: what QEMU 7.2 records.
_EXTRA = bytes(24)


@record
class SnapshotCreate:
    """Take an internal snapshot of the active state, called ``name``.

    ``date_ns``: when, ns since the epoch; None for now.  ``more``: names of further snapshots of
    the same state, in the same switch.  Raises EditRefused for an image with an external data
    file, whose guest data no snapshot would keep.
    """

    name: str
    date_ns: int | None = None
    more: tuple[str, ...] = ()
    verb = "snapshot"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        flags = [part for name in (self.name, *self.more) for part in ("-c", name)]
        return command_line("snapshot", *flags, path)

    def describe(self) -> dict[str, Any]:
        return {"verb": "snapshot", "create": [safe(name) for name in (self.name, *self.more)]}

    def run(self, editor: Editor) -> Outcome:
        tx = editor.begin()
        views = tx.kept_views()
        when = time.time_ns() if self.date_ns is None else self.date_ns
        names = (self.name, *self.more)
        ids = []
        for name in names:
            ids.append(safe(add_snapshot(tx, name, when).entry.id))
            views.append(View(len(tx.snapshots) - 1, None))
        editor.commit(tx, views)
        shown = ", ".join(f'"{safe(name)}"' for name in names)
        return Outcome(
            summary=f"Takes snapshot{'s' if self.more else ''} {shown} of the disk as it is now.",
            steps=(
                "Copies the tables of the active state without their COPIED flags.",
                "Counts one more reference for every cluster the disk uses.",
                "Adds the snapshot to the snapshot table.",
            ),
            facts={"created": ids},
        )


@record
class SnapshotApply:
    """Make the active state what snapshot ``key`` (ID, else name) holds; VM state is left out.

    ``keep_as``: the name of a snapshot that is taken of the present state first; None for none.
    """

    key: str
    keep_as: str | None = None
    date_ns: int | None = None
    verb = "snapshot"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        keep = ("--discard-current",) if self.keep_as is None else ("--keep-as", self.keep_as)
        return command_line("snapshot", "-a", self.key, *keep, path)

    def describe(self) -> dict[str, Any]:
        return {
            "verb": "snapshot",
            "apply": safe(self.key),
            "keep-as": None if self.keep_as is None else safe(self.keep_as),
        }

    def run(self, editor: Editor) -> Outcome:
        image = editor.image
        wanted = image.find_snapshot(self.key)
        size = image.snapshot_state(wanted).virtual_size
        tx = editor.begin()
        target = find_draft(tx, wanted.index)
        if self.keep_as is not None:
            add_snapshot(tx, self.keep_as, self.date_ns)
        tx.count_tree(tx.l1, -1)
        entries = tx.geometry.l1_entries(size)
        l1: U64 = np.zeros(entries, dtype=np.uint64)
        kept = target.l1[:entries]
        l1[: len(kept)] = kept
        tx.l1 = l1
        tx.count_tree(tx.l1, 1)
        tx.settle_all = True
        tx.change_header(size=wanted.disk_size if wanted.disk_size is not None else size)
        tx.mark_bitmaps_stale()
        views = [*tx.kept_snapshots(), View(None, wanted.index, disk=True)]
        if self.keep_as is not None:
            views.append(View(len(tx.snapshots) - 1, None))
        changed, ranges = _difference(editor, wanted)
        before = image.virtual_size
        editor.commit(tx, views)
        steps = ["Counts the snapshot's clusters for the active state, and the present ones less."]
        if self.keep_as is not None:
            steps.insert(0, f'Takes snapshot "{safe(self.keep_as)}" of the present state.')
        warnings = []
        if size != before:
            sizes = f"from {size_and_bytes(before)} to {size_and_bytes(size)}"
            warnings.append(f"The virtual size changes {sizes}.")
        if image.bitmaps:
            warnings.append("The persistent bitmaps no longer fit and are marked inconsistent.")
        and_keeps = ""
        if self.keep_as is not None:
            and_keeps = f', and keeps the present state as snapshot "{safe(self.keep_as)}"'
        return Outcome(
            summary=f'Turns the disk back to snapshot "{safe(wanted.name)}"{and_keeps}.',
            steps=tuple(steps),
            warnings=tuple(warnings),
            loses=""
            if self.keep_as is not None or not changed
            else "What was written to the disk since, once its space is reclaimed.",
            changed=ranges,
            changed_bytes=changed,
            facts={"differs": changed, "snapshot-id": safe(wanted.id)},
        )


@record
class SnapshotDelete:
    """Delete the snapshots ``keys`` (each an ID, else a name, the first that matches)."""

    keys: tuple[str, ...]
    verb = "snapshot"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        flags = [part for key in self.keys for part in ("-d", key)]
        return command_line("snapshot", *flags, path)

    def describe(self) -> dict[str, Any]:
        return {"verb": "snapshot", "delete": [safe(key) for key in self.keys]}

    def run(self, editor: Editor) -> Outcome:
        chosen = _find_all(editor.image.snapshots, self.keys)
        tx = editor.begin()
        for snapshot in chosen:
            draft = find_draft(tx, snapshot.index)
            tx.count_tree(draft.l1, -1)
            tx.release(snapshot.l1_table_offset, snapshot.l1_size * 8)
            tx.snapshots.remove(draft)
        tx.settle_all = True
        editor.commit(tx)
        names = ", ".join(f'"{safe(snapshot.name)}"' for snapshot in chosen)
        left = len(tx.snapshots)
        many = "snapshots" if len(chosen) > 1 else "snapshot"
        return Outcome(
            summary=f"Deletes {many} {names}; keeps {left} {'other' if left == 1 else 'others'}.",
            steps=(
                "Takes the entry from the snapshot table.",
                "Counts one reference less for everything it reached.",
            ),
            loses=f"What only {many} {names} held, once its space is reclaimed.",
            facts={"deleted": [safe(snapshot.id) for snapshot in chosen]},
        )


@record
class SnapshotRename:
    """Give snapshot ``key`` (ID, else name) the name ``name``."""

    key: str
    name: str
    verb = "snapshot"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        return command_line("snapshot", "--rename", self.key, self.name, path)

    def describe(self) -> dict[str, Any]:
        return {"verb": "snapshot", "rename": safe(self.key), "to": safe(self.name)}

    def run(self, editor: Editor) -> Outcome:
        wanted = editor.image.find_snapshot(self.key)
        tx = editor.begin()
        draft = find_draft(tx, wanted.index)
        draft.entry = replace(draft.entry, name=snapshot_name(self.name))
        editor.commit(tx)
        return Outcome(
            summary=f'Renames snapshot "{safe(wanted.name)}" to "{safe(self.name)}".',
            facts={"snapshot-id": safe(wanted.id)},
        )


def add_snapshot(tx: Transaction, name: str, date_ns: int | None) -> SnapshotDraft:
    """Add a snapshot of the active state, as it is in ``tx`` now, to the end of the table."""
    if tx.image.header.has_data_file:
        raise EditRefused(
            "An image with an external data file cannot have snapshots: its guest data would go on "
            "changing underneath them."
        )
    if len(tx.snapshots) >= MAX_SNAPSHOTS:
        raise EditRefused(
            f"The image has {MAX_SNAPSHOTS} snapshots already, the most there can be."
        )
    when = time.time_ns() if date_ns is None else date_ns
    entry = Snapshot(
        index=-1,
        entry_offset=0,
        entry_length=0,
        l1_table_offset=0,
        l1_size=len(tx.l1),
        id=_next_id(tx.snapshots),
        name=snapshot_name(name),
        date_sec=when // 1_000_000_000 & 0xFFFFFFFF,
        date_nsec=when % 1_000_000_000,
        vm_clock_nsec=0,
        vm_state_size=0,
        disk_size=tx.header.size,
        icount=0,
        extra_size=len(_EXTRA),
        extra=_EXTRA,
    )
    draft = SnapshotDraft(entry, tx.l1.copy(), None)
    tx.snapshots.append(draft)
    tx.count_tree(tx.l1, 1)
    tx.settle_all = True
    return draft


def find_draft(tx: Transaction, index: int) -> SnapshotDraft:
    """The snapshot that has entry ``index`` in the table on disk."""
    return next(draft for draft in tx.snapshots if draft.entry.index == index)


def snapshot_name(name: str) -> bytes:
    """As it is stored.  Raises UsageError for one that does not fit."""
    encoded = name.encode("utf-8", "surrogateescape")
    if not 1 <= len(encoded) <= _MAX_NAME:
        raise UsageError(f"A snapshot's name has 1 to {_MAX_NAME} bytes, not {len(encoded)}.")
    return encoded


def _next_id(snapshots: list[SnapshotDraft]) -> bytes:
    """One more than the largest number among the IDs, as QEMU counts."""
    numbers = [int(d.entry.id) for d in snapshots if d.entry.id.isdigit() and len(d.entry.id) < 20]
    return str(max(numbers, default=0) + 1).encode()


def _difference(editor: Editor, wanted: Snapshot) -> tuple[int, tuple[GuestRange, ...]]:
    """(bytes of the disk that differ from the snapshot's by their mapping, the first ranges)."""
    chain = editor.chain()
    total = 0
    ranges: list[GuestRange] = []
    for found in diff(chain, chain.at_snapshot(wanted), cancel=editor.cancel):
        total += int(found.length.sum())
        left = max(0, _LISTED - len(ranges))
        pairs = zip(found.start[:left].tolist(), found.length[:left].tolist(), strict=True)
        ranges += [GuestRange(start, length) for start, length in pairs]
    return total, tuple(ranges)


def _find_all(snapshots: tuple[Snapshot, ...], keys: tuple[str, ...]) -> list[Snapshot]:
    """The snapshots of all keys; a name given twice means two that have it."""
    left = list(snapshots)
    chosen = []
    for key in keys:
        wanted = key.encode("utf-8", "surrogateescape")
        found = next((s for s in left if s.id == wanted), None)
        found = found or next((s for s in left if s.name == wanted), None)
        if found is None:
            raise NotFoundError(f'There is no snapshot "{safe(key)}" to delete.')
        left.remove(found)
        chosen.append(found)
    return chosen
