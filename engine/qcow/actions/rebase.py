"""``rebase``, the safe way: another base, and the disk stays what it was.

What would read differently over the new base is copied into the image first, in batches that are
each a complete image over the old base.  The name changes in the same switch as the last batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..chain import Chain
from ..disk import extents_of
from ..edit.editor import Editor
from ..edit.guest_data import GuestWriter
from ..edit.placing import Content, Fill, Stored
from ..edit.plan import Outcome
from ..edit.verify import View
from ..edit.zero_content import zero_rows
from ..errors import EditRefused
from ..inspect.diff import diff, read_padded
from ..inspect.identity import Identities
from ..layout.tables import I64, U64
from ..record import record
from ..text import safe, size
from .batch import batch
from .command_line import command_line
from .new_base import encoded_name, on_top, over_new_base, require_room_for_backing
from .stored import Place, place_of

#: Guest bytes read at a time: few enough to stay in the processor's cache.
_PIECE = 1 << 20
#: Guest bytes of adjacent data copied at a time.
_LONG = 16 << 20


@record
class Rebase:
    """Put the image on ``backing`` (of ``format``), None for no base, without changing its disk.

    ``keep_snapshots`` False lets internal snapshots read differently, as qemu-img does; else
    EditRefused is raised where they would.
    """

    backing: str | None
    format: str | None = None
    keep_snapshots: bool = True
    verb = "rebase"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        arguments = ["-b", self.backing or ""]
        if self.format is not None:
            arguments += ["-F", self.format]
        if not self.keep_snapshots:
            arguments.append("--change-snapshots")
        return command_line("rebase", *arguments, path)

    def describe(self) -> dict[str, Any]:
        return {
            "verb": "rebase",
            "backing": None if self.backing is None else safe(self.backing),
            "format": None if self.format is None else safe(self.format),
            "keep-snapshots": self.keep_snapshots,
        }

    def run(self, editor: Editor) -> Outcome:
        if self.backing is not None:
            require_room_for_backing(editor.image)
            if self.format is None:
                raise EditRefused("State the format of the new backing file (-F).")
        before = editor.image.backing
        copied = move_to(editor, self.backing, self.format, keep_snapshots=self.keep_snapshots)
        shown = "no backing file" if self.backing is None else f"'{safe(self.backing)}'"
        was = "none" if before is None else f"'{safe(before.name)}'"
        return Outcome(
            summary=f"Puts the image on {shown} instead of {was}; its disk stays the same.",
            steps=(
                f"Copies {size(copied)} that would read differently into the image.",
                "Writes the name and the format of the backing file into the header.",
            ),
            changed_bytes=0,
            facts={"copied": copied},
        )


class _Difference(NamedTuple):
    """Guest bytes from ``start`` on that would read differently; ``content`` None: all zeros."""

    start: int
    length: int
    content: Fill | None


def move_to(
    editor: Editor, backing: str | None, format: str | None, *, keep_snapshots: bool
) -> int:
    """Put the image under change on another base, or on none; bytes that were copied.

    Raises ReferenceRefused and ReferenceMissing when a file of either chain is needed and not
    there, EditRefused, GuestDataError, and what a commit raises.
    """
    copied = 0
    with over_new_base(editor, backing, format) as opened:
        if keep_snapshots:
            _require_same_snapshots(editor, opened)
        at: int | None = 0
        while at is not None:
            old, new = editor.chain(), on_top(editor, opened)
            tx = editor.begin()
            writer = GuestWriter(editor, tx)
            at, more = _copy_batch(editor, old, new, writer, at)
            copied += more
            if at is None:
                name = None if backing is None else encoded_name(backing)
                tx.header_cluster = tx.header_cluster.with_backing(
                    name, None if format is None else format.encode()
                )
            writer.flush()
            editor.commit(tx, [View(None, None, writer.changed()), *tx.kept_snapshots()])
            writer.release()
            tx.guard.let_go()
    return copied


def _copy_batch(
    editor: Editor, old: Chain, new: Chain, writer: GuestWriter, at: int
) -> tuple[int | None, int]:
    """(where the next batch begins, None for no more; bytes copied)."""
    copied = 0
    most = batch(old.virtual_size)
    for start, length, content in _differences(editor, old, new, at):
        if copied >= most:
            return start, copied
        if content is None:
            writer.zero(start, length)
        else:
            writer.write(start, length, content)
        copied += length
    return None, copied


def _differences(editor: Editor, old: Chain, new: Chain, at: int) -> Iterator[_Difference]:
    """Units of allocation (clusters, subclusters) from ``at`` on that read differently."""
    unit, size = editor.image.usable_geometry().subcluster_size, editor.image.virtual_size
    buffers = [np.zeros(max(unit, _PIECE) // 8, dtype=np.uint64) for _ in range(2)]
    for start, end in _aligned_ranges(editor, old, new, unit):
        for begin, stop, place in _stretches(old, new, max(start, at), end, unit):
            editor.step("comparing the bases", begin, size, "bytes")
            if place is not None:
                source = Stored(begin, *place)
                zero = _zero_units(source, stop, unit, buffers[0])
                yield from _as_differences(begin, unit, stop, np.where(zero, 0, 1), source)
                continue
            one, other = (buffer[: (stop - begin) // 8] for buffer in buffers)
            read_padded(old, begin, one)
            read_padded(new, begin, other)
            differs = (one != other).reshape(-1, unit // 8).any(axis=1)
            state = np.where(differs, 1 + zero_rows(one.reshape(-1, unit // 8)), 0)
            limit = min(stop, size)
            content = Content(begin, one.data.cast("B")[: limit - begin])
            yield from _as_differences(begin, unit, limit, state, content)


def _as_differences(
    begin: int, unit: int, limit: int, state: NDArray[np.int64], content: Fill
) -> Iterator[_Difference]:
    """Units from ``begin`` on by their state: the same (0), to be copied (1), to be zeroed (2)."""
    edges = np.flatnonzero(np.diff(state)) + 1
    for low, high in zip([0, *edges.tolist()], [*edges.tolist(), len(state)], strict=True):
        if state[low]:
            first, last = begin + low * unit, min(begin + high * unit, limit)
            yield _Difference(first, last - first, content if state[low] == 1 else None)


def _zero_units(source: Stored, stop: int, unit: int, buffer: U64) -> NDArray[np.bool_]:
    """Which units of guest bytes up to ``stop`` hold nothing but zeros."""
    found = []
    for at in range(source.start, stop, buffer.nbytes):
        words = buffer[: (min(buffer.nbytes, stop - at)) // 8]
        source(at, words.data.cast("B"))
        found.append(zero_rows(words.reshape(-1, unit // 8)))
    return np.concatenate(found)


def _stretches(
    old: Chain, new: Chain, start: int, end: int, unit: int
) -> Iterator[tuple[int, int, Place | None]]:
    """(start, end, place) of pieces of [start, end), all of whole units.

    With a place the old chain has its data there and the new chain has nothing but zeros.
    """
    long = max(unit, _LONG)
    done = start
    for runs in old.runs(start, end - start):
        for extent in extents_of(runs):
            low = -(-extent.start // unit) * unit
            high = (extent.start + extent.length) // unit * unit
            place = place_of(old, extent) if high - low >= _PIECE else None
            if place is None or not _surely_zero(new, low, high):
                continue
            yield from _slowly(done, low, unit)
            for at in range(low, high, long):
                host = place.host + at - extent.start
                yield at, min(at + long, high), place._replace(host=host)
            done = high
    yield from _slowly(done, end, unit)


def _slowly(start: int, end: int, unit: int) -> Iterator[tuple[int, int, None]]:
    step = max(unit, _PIECE)
    for at in range(start, end, step):
        yield at, min(at + step, end), None


def _surely_zero(disk: Chain, start: int, stop: int) -> bool:
    """Whether guest bytes [start, stop) are known to be zeros without reading any."""
    runs = disk.runs(start, stop - start)
    return all(bool(Identities.reads_zero(disk, batch).all()) for batch in runs)


def _aligned_ranges(editor: Editor, old: Chain, new: Chain, unit: int) -> Iterator[tuple[int, int]]:
    """(start, end) of what maps differently, rounded to whole units and joined."""
    held: tuple[int, int] | None = None
    for ranges in diff(old, new, cancel=editor.cancel):
        starts: I64 = ranges.start // unit * unit
        ends: I64 = -(-(ranges.start + ranges.length) // unit) * unit
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            if held is not None and start <= held[1]:
                held = held[0], max(end, held[1])
                continue
            if held is not None:
                yield held
            held = start, end
    if held is not None:
        yield held


def _require_same_snapshots(editor: Editor, opened: Chain) -> None:
    old, new = editor.chain(), opened
    for snapshot in editor.image.snapshots:
        pair = old.at_snapshot(snapshot), new.at_snapshot(snapshot)
        found = diff(*pair, by_content=True, progress=editor.progress, cancel=editor.cancel)
        if next(found, None) is not None:
            raise EditRefused(
                f'Snapshot "{safe(snapshot.name)}" reads through the present backing file and '
                "would read differently: delete it first, or allow snapshots to change "
                "(--change-snapshots), as qemu-img does without saying so."
            )
