"""Writing what the layers above a base hold to the base: a qcow2 image, or a raw file."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from ..chain import Chain
from ..disk import Extent
from ..edit.bitmap_marks import mark_dirty
from ..edit.editor import Editor
from ..edit.guest_data import GuestWriter
from ..edit.placing import Fill, Stored
from ..edit.plan import Outcome, Plan
from ..edit.resizing import grow
from ..edit.verify import View
from ..errors import EditRefused
from ..parallel import Behind
from ..storage.base import WritableStorage
from ..storage.local import LocalFile
from ..storage.overlay import OverlayStorage
from ..text import safe, size_and_bytes
from .batch import batch
from .commit_compare import same_data
from .commit_runs import Run, read_run, runs_above
from .stored import place_of

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


def write_to_qcow2(editor: Editor, base: Editor, depth: int, *, compare: bool) -> Written:
    """In batches, each a complete base with one switch; ``base`` grows first when it is too small.

    With ``compare`` each batch is read from the durable base and compared with the image, while
    the next one is written: later batches provably leave it alone.  Raises as its transactions do,
    VerificationError; the batches before are done then.
    """
    data = zeros = data_file = 0
    overwrote = False
    at: int | None = 0
    try:
        _grow(editor, base)
        with Behind() as behind:
            while at is not None:
                tx = base.begin()
                writer = GuestWriter(base, tx)
                start = at
                at, more, less = _write_batch(editor, writer, depth, at)
                data, zeros = data + more, zeros + less
                mark_dirty(tx, writer.changed())
                writer.flush()
                base.commit(tx, [View(None, None, writer.changed()), *tx.kept_snapshots()])
                writer.release()
                data_file += writer.data_written
                overwrote |= writer.overwrote or writer.releases
                behind.wait()
                editor.refresh()
                end = editor.image.virtual_size if at is None else at
                jobs = same_data(editor, depth, start, end) if compare else []
                behind.start([*jobs, tx.guard.let_go])
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
    most = batch(chain.at_layer(depth).image.virtual_size)
    data = zeros = 0
    for run in runs_above(chain, depth, at):
        start, end = run.start, run.start + run.length
        while start < end:
            if data >= most:
                return start, data, zeros
            if run.extent is None:
                writer.zero(start, end - start)
                zeros += end - start
                break
            length = min(end - start, most - data)
            writer.write(start, length, _source(chain, run, run.extent))
            data += length
            start += length
    return None, data, zeros


def _source(chain: Chain, run: Run, extent: Extent) -> Fill:
    if (place := place_of(chain, extent)) is not None:
        return Stored(run.start, *place)

    def fill(offset: int, buffer: memoryview) -> None:
        read_run(chain, run, offset, buffer)

    return fill


def write_to_raw(editor: Editor, file: WritableStorage, depth: int, *, compare: bool) -> Written:
    """In place, in steps, and durable on return; ``compare`` as for :func:`write_to_qcow2`.

    Raises EditRefused, StorageError, VerificationError.
    """
    chain = editor.chain()
    size = editor.image.virtual_size
    layer = chain.at_layer(depth)
    storage = layer.image.storage
    if size > layer.virtual_size:
        if isinstance(storage, LocalFile) and storage.is_device:
            raise EditRefused(
                f"'{safe(storage.name)}' is a device of {size_and_bytes(layer.virtual_size)}, and "
                f"the disk has {size_and_bytes(size)}: it does not fit."
            )
        file.truncate(size)
        editor.refresh()
    data = zeros = 0
    at: int | None = 0
    with Behind() as behind:
        while at is not None:
            start = at
            at, more, less = _write_raw_batch(editor, file, depth, at)
            data, zeros = data + more, zeros + less
            file.flush()
            behind.wait()
            editor.refresh()
            end = size if at is None else at
            jobs = same_data(editor, depth, start, end) if compare else []
            behind.start([*jobs, partial(file.done_with, start, end - start)])
    why = "The raw base is changed in place: what it held before cannot be brought back."
    return Written(data, zeros, data, 0, None, why if data or zeros else "")


def _write_raw_batch(
    editor: Editor, file: WritableStorage, depth: int, at: int
) -> tuple[int | None, int, int]:
    """As :func:`_write_batch`."""
    chain = editor.chain()
    size = editor.image.virtual_size
    most = batch(size)
    data = zeros = 0
    buffer = memoryview(bytearray(_STEP))
    for run in runs_above(chain, depth, at):
        if data >= most:
            return run.start, data, zeros
        if run.extent is None:
            file.punch(run.start, run.length)
            zeros += run.length
            continue
        for start in range(run.start, run.start + run.length, _STEP):
            if data >= most:
                return start, data, zeros
            length = min(_STEP, run.start + run.length - start)
            editor.step("writing to the base", start, size, "bytes")
            if isinstance(file, OverlayStorage):
                file.promise(start, length)
            elif (place := place_of(chain, run.extent)) is not None:
                file.copy(place.storage, place.host + start - run.start, start, length)
            else:
                part = buffer[:length]
                part[:] = bytes(length)
                read_run(chain, run, start, part)
                file.write(start, part)
            data += length
    return None, data, zeros
