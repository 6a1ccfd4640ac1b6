"""Writing what the layers above a base hold to the base: a qcow2 image, or a raw file."""

from __future__ import annotations

from typing import NamedTuple

from ..edit.bitmap_marks import mark_dirty
from ..edit.editor import Editor
from ..edit.guest_data import GuestWriter
from ..edit.plan import Outcome, Plan
from ..edit.resizing import grow
from ..edit.verify import View
from ..errors import EditRefused
from ..storage.base import WritableStorage
from ..storage.local import LocalFile
from ..storage.overlay import OverlayStorage
from ..text import safe
from .commit_runs import Run, read_run, runs_above

#: Guest bytes written to a qcow2 base before a switch makes them last: what a kill can cost.
BATCH = 1 << 30
#: Bytes written to a raw base at a time.
_STEP = 4 << 20


class Written(NamedTuple):
    """What the base got: guest bytes of data and of zeros, bytes of its files.

    ``plan``: of a qcow2 base.  ``no_undo``: why the base cannot be brought back, "" if it can.
    """

    data: int
    zeros: int
    file: int
    data_file: int
    plan: Plan | None
    no_undo: str


def write_to_qcow2(editor: Editor, base: Editor, depth: int) -> Written:
    """In batches, each a complete base with one switch; ``base`` grows first when it is too small.

    Raises as its transactions do; the batches before are done then.
    """
    data = zeros = data_file = 0
    overwrote = False
    at: int | None = 0
    try:
        _grow(editor, base)
        while at is not None:
            tx = base.begin()
            writer = GuestWriter(base, tx)
            at, more, less = _write_batch(editor, writer, depth, at)
            data, zeros = data + more, zeros + less
            mark_dirty(tx, writer.changed())
            writer.flush()
            base.commit(tx, [View(None, None, writer.changed()), *tx.kept_snapshots()])
            writer.release()
            data_file += writer.data_written
            overwrote |= writer.overwrote or writer.releases
            editor.refresh()
    except BaseException as error:
        base.abandon(error)
        raise
    plan = base.planned("commit", Outcome(summary="Gets what the layers above it hold."))
    why = (
        f"The external data file of '{safe(base.image.name)}' is changed in place: what it held "
        "cannot be brought back."
    )
    return Written(data, zeros, plan.written, data_file, plan, why if overwrote else "")


def _grow(editor: Editor, base: Editor) -> None:
    size, before = editor.image.virtual_size, base.image.virtual_size
    if size <= before:
        return
    tx = base.begin()
    writer = GuestWriter(base, tx, size)
    grow(base, tx, writer, size)
    writer.flush()
    base.commit(tx, [View(None, None, ((before, size),)), *tx.kept_snapshots()])
    editor.refresh()


def _write_batch(
    editor: Editor, writer: GuestWriter, depth: int, at: int
) -> tuple[int | None, int, int]:
    """(where the next batch begins, None for no more; bytes of data; bytes of zeros)."""
    chain = editor.chain()
    data = zeros = 0
    for run in runs_above(chain, depth, at):
        start, end = run.start, run.start + run.length
        while start < end:
            if data >= BATCH:
                return start, data, zeros
            if run.extent is None:
                writer.zero(start, end - start)
                zeros += end - start
                break
            length = min(end - start, BATCH - data)

            def fill(offset: int, buffer: memoryview, run: Run = run) -> None:
                read_run(chain, run, offset, buffer)

            writer.write(start, length, fill)
            data += length
            start += length
    return None, data, zeros


def write_to_raw(editor: Editor, file: WritableStorage, depth: int) -> Written:
    """In place, in steps, and durable on return.  Raises EditRefused, StorageError."""
    chain = editor.chain()
    size = editor.image.virtual_size
    layer = chain.at_layer(depth)
    storage = layer.image.storage
    if size > layer.virtual_size:
        if isinstance(storage, LocalFile) and storage.is_device:
            raise EditRefused(
                f"'{safe(storage.name)}' is a device of {layer.virtual_size} bytes, and the disk "
                f"has {size}: it does not fit."
            )
        file.truncate(size)
        editor.refresh()
        chain = editor.chain()
    data = zeros = 0
    for run in runs_above(chain, depth, 0):
        if run.extent is None:
            file.punch(run.start, run.length)
            zeros += run.length
            continue
        for start in range(run.start, run.start + run.length, _STEP):
            length = min(_STEP, run.start + run.length - start)
            editor.step("writing to the base", start, size, "bytes")
            if isinstance(file, OverlayStorage):
                file.promise(start, length)
            else:
                buffer = memoryview(bytearray(length))
                read_run(chain, run, start, buffer)
                file.write(start, buffer)
            data += length
    file.flush()
    editor.refresh()
    why = "The raw base is changed in place: what it held before cannot be brought back."
    return Written(data, zeros, data, 0, None, why if data or zeros else "")
