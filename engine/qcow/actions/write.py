"""The action of ``write``: bytes of a file, or given ones, onto the guest disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..edit.bitmap_marks import mark_dirty
from ..edit.editor import Editor
from ..edit.guest_data import GuestWriter
from ..edit.plan import Outcome
from ..edit.transaction import Transaction
from ..edit.verify import View
from ..errors import UsageError
from ..findings import GuestRange
from ..record import record
from ..text import safe, size, size_and_bytes
from .command_line import command_line


class Source(Protocol):
    """Where the bytes come from: a storage, or anything that is read like one."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from byte ``offset``; the number of bytes, less only at the end."""


class BytesSource:
    """Bytes in memory as a source."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_into(self, offset: int, buffer: memoryview) -> int:
        part = self._data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)


@record
class Write:
    """Write ``length`` bytes of ``source`` to the guest disk from byte ``offset`` on.

    ``name``: what the source is called in the command line.  ``detect_zeroes``: clusters of zeros
    take no space; the plan then reads the source too, which else only the real run does, with
    ascending offsets.  Raises UsageError beyond the end of the disk or when the source is shorter.
    """

    offset: int
    length: int
    source: Source
    name: str = "-"
    detect_zeroes: bool = False
    verb = "write"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        flags = ("--detect-zeroes",) if self.detect_zeroes else ()
        length = ("--length", str(self.length))
        return command_line("write", *length, *flags, path, str(self.offset), self.name)

    def describe(self) -> dict[str, Any]:
        return {
            "verb": "write",
            "offset": self.offset,
            "length": self.length,
            "detect-zeroes": self.detect_zeroes,
            "source": safe(self.name),
        }

    def run(self, editor: Editor) -> Outcome:
        def fill(at: int, buffer: memoryview) -> None:
            got = self.source.read_into(at - self.offset, buffer)
            if got != len(buffer):
                raise UsageError(
                    f"'{safe(self.name)}' ends after {size_and_bytes(at - self.offset + got)}, and "
                    f"{size_and_bytes(self.length)} were to be written: nothing was changed."
                )

        def work(tx: Transaction, writer: GuestWriter) -> None:
            writer.write(self.offset, self.length, fill, detect_zeroes=self.detect_zeroes)

        writer = change_guest(editor, work)
        return Outcome(
            summary=f"Writes {size(self.length)} to the disk at {self.offset:#x}.",
            steps=(
                "Puts the data into free clusters, with the rest of clusters written in part.",
                "Maps the guest clusters to them.",
            ),
            loses=losing(editor, f"What the {size(self.length)} held before"),
            changed=guest_ranges(writer),
            changed_bytes=self.length,
            no_undo=no_undo(writer),
            facts=facts(writer),
        )


def change_guest(
    editor: Editor, work: Callable[[Transaction, GuestWriter], object], **choices: int
) -> GuestWriter:
    """One transaction in which ``work`` changes guest data; what enabled bitmaps miss is marked."""
    tx = editor.begin()
    writer = GuestWriter(editor, tx, **choices)
    work(tx, writer)
    mark_dirty(tx, writer.changed())
    writer.flush()
    editor.commit(tx, [View(None, None, changed=writer.changed()), *tx.kept_snapshots()])
    writer.release()
    return writer


def losing(editor: Editor, what: str) -> str:
    """The sentence about old data, which snapshots may hold on to."""
    kept = " (snapshots keep what they show)" if editor.image.snapshots else ""
    return f"{what}, once its space is reclaimed{kept}."


def no_undo(writer: GuestWriter) -> str:
    """Why a change of guest data cannot be undone, "" if it can."""
    if writer.overwrote or writer.releases:
        return (
            "The external data file is changed in place: an undo brings the tables back, not the "
            "data, and an interrupted write leaves some of the old and some of the new there."
        )
    return ""


def guest_ranges(writer: GuestWriter) -> tuple[GuestRange, ...]:
    """The ranges that were changed, for an Outcome."""
    return tuple(GuestRange(start, end - start) for start, end in writer.changed())


def facts(writer: GuestWriter) -> dict[str, Any]:
    """What the writer counted beside the image file."""
    return {"data-file-written": writer.data_written}
