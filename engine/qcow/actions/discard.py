"""The actions of ``discard``: giving ranges of the guest disk up, and filling them with zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..edit.editor import Editor
from ..edit.guest_data import GuestWriter
from ..edit.plan import Outcome
from ..edit.transaction import Transaction
from ..errors import UsageError
from ..record import record
from ..text import exact, size
from .command_line import command_line
from .write import change_guest, facts, guest_ranges, losing, no_undo

#: (first byte, number of bytes) of the guest disk.
Ranges = tuple[tuple[int, int], ...]


@record
class Discard:
    """Give up the clusters that lie wholly inside ``ranges``; as with QEMU, edges stay as they are.

    Afterwards they read as zeros.  ``reveal_backing`` lets the backing file's data show again
    instead.  Raises EditRefused for version 2 images with a backing file unless that is chosen,
    UsageError beyond the end of the disk.
    """

    ranges: Ranges
    reveal_backing: bool = False
    verb = "discard"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        flags = ("--reveal-backing",) if self.reveal_backing else ()
        return command_line("discard", *flags, path, *_spelled(self.ranges))

    def describe(self) -> dict[str, Any]:
        return {
            "verb": "discard",
            "reveal-backing": self.reveal_backing,
            "ranges": [{"start": start, "length": length} for start, length in self.ranges],
        }

    def run(self, editor: Editor) -> Outcome:
        ranges = joined(self.ranges)

        def work(tx: Transaction, writer: GuestWriter) -> None:
            for start, length in ranges:
                writer.discard(start, length, reveal_backing=self.reveal_backing)

        writer = change_guest(editor, work)
        shown = "as in the backing file" if self.reveal_backing else "as zeros"
        total = sum(length for _, length in ranges)
        return Outcome(
            summary=f"Discards the whole clusters in {size(total)} of the disk: they read {shown}.",
            steps=("Takes the clusters from the tables.", "Counts one reference less for each."),
            warnings=_edges(ranges, writer.size, editor.image.header.cluster_size),
            loses=losing(editor, "What the discarded clusters held"),
            changed=guest_ranges(writer),
            no_undo=no_undo(writer),
            facts=facts(writer),
        )


@record
class Zero:
    """Make ``ranges`` of the disk read as zeros, to the byte.

    ``keep_allocation`` keeps the clusters reserved, as ``qemu-io -c 'write -z'`` does without
    ``-u``.  Raises UsageError beyond the end of the disk.
    """

    ranges: Ranges
    keep_allocation: bool = False
    verb = "discard"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        flags = ("--keep-allocation",) if self.keep_allocation else ()
        return command_line("discard", "--zero", *flags, path, *_spelled(self.ranges))

    def describe(self) -> dict[str, Any]:
        return {
            "verb": "discard",
            "zero": True,
            "keep-allocation": self.keep_allocation,
            "ranges": [{"start": start, "length": length} for start, length in self.ranges],
        }

    def run(self, editor: Editor) -> Outcome:
        ranges = joined(self.ranges)

        def work(tx: Transaction, writer: GuestWriter) -> None:
            for start, length in ranges:
                writer.zero(start, length, keep_allocation=self.keep_allocation)

        writer = change_guest(editor, work)
        total = sum(length for _, length in ranges)
        return Outcome(
            summary=f"Makes {size(total)} of the disk read as zeros.",
            steps=(
                "Maps whole clusters as zeros.",
                "Writes zeros where only a part of a cluster is meant.",
            ),
            loses=losing(editor, f"What the {size(total)} held before"),
            changed=guest_ranges(writer),
            no_undo=no_undo(writer),
            facts=facts(writer),
        )


def joined(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """In ascending order, without overlaps.  Raises UsageError for negative numbers."""
    found: list[tuple[int, int]] = []
    for start, length in sorted(ranges):
        if start < 0 or length < 0:
            raise UsageError(f"There is no range of {length} bytes from {start}.")
        if found and start <= found[-1][0] + found[-1][1]:
            first, before = found[-1]
            found[-1] = (first, max(before, start + length - first))
        else:
            found.append((start, length))
    return tuple(found)


def _spelled(ranges: Ranges) -> tuple[str, ...]:
    return tuple(str(number) for pair in ranges for number in pair)


def _edges(ranges: Ranges, disk_size: int, cluster: int) -> tuple[str, ...]:
    """What discarding leaves at the edges, as a warning."""
    kept = 0
    for start, length in ranges:
        end = start + length
        first = -(-start // cluster) * cluster
        last = end if end == disk_size else end // cluster * cluster
        kept += length if last <= first else first - start + end - last
    if not kept:
        return ()
    return (
        f"{exact(kept)} at the edges, less than a cluster of {size(cluster)}, stay as they are.",
    )
