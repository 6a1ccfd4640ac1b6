"""The action of ``resize``: another size for the guest disk; snapshots keep theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..disk import Disk, ExtentKind, extents_of
from ..edit.editor import Editor
from ..edit.guest_data import GuestWriter
from ..edit.plan import Outcome
from ..edit.resizing import Preallocation, grow, shrink
from ..edit.verify import View
from ..errors import EditRefused, QcowError, UsageError
from ..findings import GuestRange
from ..inspect.partitions import PartitionTable, read_partitions
from ..record import record
from ..text import safe, size_and_bytes
from .command_line import command_line
from .write import facts, no_undo

#: Guest bytes whose map is read at a time when looking for the last data.
_SPAN = 64 << 30
_CHUNK = 4 << 20
_DATA = (ExtentKind.DATA, ExtentKind.COMPRESSED)
_MODES = ("off", "metadata", "falloc", "full")


@record
class Resize:
    """Make the guest disk ``size`` bytes long (a multiple of 512).

    ``shrink``: a smaller size is meant.  ``force``: cut off partitions and data, too.
    ``preallocation`` as in qemu-img, for growing.  Raises UsageError, and EditRefused when the disk
    would lose data or the image cannot be resized.
    """

    size: int
    shrink: bool = False
    preallocation: Preallocation = "off"
    force: bool = False
    verb = "resize"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        flags = []
        if self.shrink:
            flags.append("--shrink")
        if self.force:
            flags.append("--force")
        if self.preallocation != "off":
            flags.append(f"--preallocation={self.preallocation}")
        return command_line("resize", *flags, path, str(self.size))

    def describe(self) -> dict[str, Any]:
        return {
            "verb": "resize",
            "size": self.size,
            "shrink": self.shrink,
            "preallocation": self.preallocation,
            "force": self.force,
        }

    def run(self, editor: Editor) -> Outcome:
        old = editor.image.virtual_size
        if self.preallocation not in _MODES:
            raise UsageError(f"Invalid preallocation mode '{safe(self.preallocation)}'")
        if self.size <= 0:
            raise UsageError("New image size must be positive")
        return self._shrink(editor, old) if self.size < old else self._grow(editor, old)

    def _grow(self, editor: Editor, old: int) -> Outcome:
        snapshots = bool(editor.image.snapshots)
        tx = editor.begin()
        writer = GuestWriter(editor, tx, self.size)
        dropped = grow(editor, tx, writer, self.size, self.preallocation)
        writer.flush()
        editor.commit(
            tx, [View(None, None, changed=_between(old, self.size)), *tx.kept_snapshots()]
        )
        steps = ["Writes the new size, and a longer L1 table where it needs one."]
        if self.preallocation != "off":
            steps.append(f"Gives the new area its clusters ({self.preallocation}).")
        return Outcome(
            summary=_summary(old, self.size, snapshots),
            steps=tuple(steps),
            changed=_added(old, self.size),
            no_undo="What the external data file held behind the old end is dropped."
            if dropped
            else "",
            facts={"size-before": old, "size-after": self.size, **facts(writer)},
        )

    def _shrink(self, editor: Editor, old: int) -> Outcome:
        if not self.shrink:
            raise EditRefused(
                "Use the --shrink option to perform a shrink operation. Shrinking an image deletes "
                "all data beyond the shrunken image's end: the disk has "
                f"{size_and_bytes(old)}, {size_and_bytes(self.size)} are asked for."
            )
        if self.preallocation != "off":
            raise UsageError("Preallocation can only be used for growing images")
        states = [dict(row) for row in _what_states_hold(editor)]
        table, unsafe = _judge(editor, self.size)
        if unsafe and not self.force:
            raise EditRefused(
                f"Shrinking the disk to {size_and_bytes(self.size)} would lose data: "
                f"{' '.join(unsafe)} Make the file systems and partitions smaller first, or "
                "choose --force to lose it."
            )
        snapshots = bool(editor.image.snapshots)
        tx = editor.begin()
        writer = GuestWriter(editor, tx)
        shrink(tx, writer, self.size)
        writer.flush()
        # VM state that an applied snapshot left behind the end of the disk goes as well.
        behind = max(old, len(editor.image.active.l1()) * tx.geometry.l2_span)
        editor.commit(tx, [View(None, None, changed=((self.size, behind),)), *tx.kept_snapshots()])
        cut = _cut_raw_data_file(editor, self.size)
        warnings = [*unsafe]
        if table is not None and table.kind == "gpt":
            warnings.append(
                "The second copy of the GPT at the disk's end is cut off: let the guest write it "
                "anew (sgdisk -e)."
            )
        return Outcome(
            summary=_summary(old, self.size, snapshots),
            steps=(
                "Takes the clusters behind the new end from the tables.",
                "Fills the rest of the last cluster with zeros.",
                "Writes the new size.",
            ),
            warnings=tuple(warnings),
            loses=f"The {size_and_bytes(old - self.size)} behind the new end, once the space is "
            "reclaimed.",
            changed=(GuestRange(self.size, old - self.size),),
            no_undo=cut or no_undo(writer),
            facts={
                "size-before": old,
                "size-after": self.size,
                "states": states,
                **facts(writer),
            },
        )


def last_data(disk: Disk) -> int:
    """Guest byte behind the last stored data of ``disk``, by its map; 0 when there is none."""
    end = disk.virtual_size
    while end > 0:
        start = max(0, end - _SPAN)
        found = 0
        for batch in disk.extents(start, end - start):
            stored = np.flatnonzero(np.isin(batch.kind, np.array(_DATA, dtype=np.uint8)))
            if len(stored):
                found = int(batch.start[stored[-1]] + batch.length[stored[-1]])
        if found:
            return found
        end = start
    return 0


def _what_states_hold(editor: Editor) -> Iterator[dict[str, Any]]:
    """For the active state and each snapshot: its size, last data and end of partitions."""
    chain = editor.chain()
    disks: list[Disk] = [chain.at_active()]
    labels = ["active"]
    for snapshot in editor.image.snapshots:
        disks.append(chain.at_snapshot(snapshot))
        labels.append(safe(snapshot.label))
    for number, (label, disk) in enumerate(zip(labels, disks, strict=True)):
        editor.step("looking for the last data", number, len(disks), "states")
        table = _partitions(disk)
        yield {
            "state": label,
            "size": disk.virtual_size,
            "last-data": last_data(disk),
            "partition-table": None if table is None else table.kind,
            "partitions-end": None if table is None else table.end,
        }


def _partitions(disk: Disk) -> PartitionTable | None:
    try:
        return read_partitions(disk)
    except QcowError:
        return None  # encrypted, or damaged there: what else is told about it remains true


def _judge(editor: Editor, size: int) -> tuple[PartitionTable | None, list[str]]:
    """The partition table, and sentences about what a disk of ``size`` bytes would lose."""
    disk = editor.chain().at_active()
    unsafe = []
    table = _partitions(disk)
    if table is not None and table.end > size:
        cut = [p for p in table.partitions if p.end > size]
        unsafe.append(
            f"Partition {cut[0].number} ends at {cut[0].end:#x}"
            + (f" ({len(cut)} partitions reach behind the new end)." if len(cut) > 1 else ".")
        )
    try:
        at = _first_content(editor, disk, size, None if table is None else table.backup)
    except QcowError as error:
        unsafe.append(f"What lies behind the new end cannot be read. {error}")
    else:
        if at is not None:
            unsafe.append(f"There is data at {at:#x}, behind the new end.")
    return table, unsafe


def _first_content(
    editor: Editor, disk: Disk, start: int, ignored: tuple[int, int] | None
) -> int | None:
    """The first guest byte from ``start`` on that is not zero and not in ``ignored``."""
    total = disk.virtual_size - start
    for batch in disk.extents(start):
        for extent in extents_of(batch):
            if extent.kind in (
                ExtentKind.UNALLOCATED,
                ExtentKind.ZERO,
                ExtentKind.ZERO_ALLOCATED,
            ):
                continue
            for at in range(extent.start, extent.start + extent.length, _CHUNK):
                editor.step("looking for data behind the new end", at - start, total, "bytes")
                data = disk.read(at, min(_CHUNK, extent.start + extent.length - at))
                used = np.flatnonzero(np.frombuffer(data, dtype=np.uint8)) + at
                if ignored is not None:
                    used = used[(used < ignored[0]) | (used >= ignored[1])]
                if len(used):
                    return int(used[0])
    return None


def _cut_raw_data_file(editor: Editor, size: int) -> str:
    """Shorten a raw data file, which is as long as the disk; why that cannot be undone, or ""."""
    if not editor.image.data_file_raw:
        return ""
    if not editor.dry and editor.data_file is not None and editor.data_file.size() > size:
        editor.data_file.truncate(size)
        editor.data_file.flush()
    return "The raw external data file is cut to the size of the disk."


def _between(old: int, new: int) -> tuple[tuple[int, int], ...]:
    return ((old, new),) if old < new else ()


def _added(old: int, new: int) -> tuple[GuestRange, ...]:
    return (GuestRange(old, new - old),) if old < new else ()


def _summary(old: int, new: int, snapshots: bool) -> str:
    if old == new:
        return f"The disk has {size_and_bytes(new)} already."
    kept = "  Snapshots keep their own size." if snapshots else ""
    verb = "Grows" if new > old else "Shrinks"
    return f"{verb} the disk from {size_and_bytes(old)} to {size_and_bytes(new)}.{kept}"
