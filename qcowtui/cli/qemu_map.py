"""qemu-img's two spellings of a disk's block status: JSON rows and a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain as chain_of

import numpy as np

from qcow.chain import Chain, Layer
from qcow.disk import ExtentBatch
from qcow.errors import GuestDataError
from qcow.image.image import Image
from qcow.image.mapping import join, merged, select
from qcow.inspect.blockstatus import Status, block_status
from qcow.text import safe

from . import exit_codes
from .number_rows import Line, Number, RowPrinter, write_json_list
from .output import Output

#: The flags qemu-img prints; what differs in others only is one entry.
_PRINTED = np.uint8(Status.DATA | Status.ZERO | Status.ALLOCATED | Status.OFFSET_VALID)
_FLAG_BITS = 4
#: Batches are gathered until they have this many runs, or are this many.
_ENOUGH_ROWS = 1 << 12
_ENOUGH_BATCHES = 1 << 8


def _entries(chain: Chain, start: int, length: int | None) -> Iterator[ExtentBatch]:
    """The entries of a map, as batches whose ``kind`` is the flags (0: damaged)."""
    yield from merged(
        _bundled(
            ExtentBatch(batch.start, batch.length, batch.flags & _PRINTED, batch.host, batch.depth)
            for batch in block_status(chain, start, length)
        )
    )


def _bundled(batches: Iterable[ExtentBatch]) -> Iterator[ExtentBatch]:
    """The same runs, joined, in batches that are worth the calls they cost."""
    held: list[ExtentBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += len(batch.start)
        if rows >= _ENOUGH_ROWS or len(held) >= _ENOUGH_BATCHES:
            yield join(held)
            held.clear()
            rows = 0
    if held:
        yield join(held)


def _until_damage(batch: ExtentBatch) -> tuple[ExtentBatch, GuestDataError | None]:
    """What precedes the first damaged entry, and what is wrong with that."""
    damaged = np.flatnonzero(batch.kind == 0)
    if not len(damaged):
        return batch, None
    first = int(damaged[0])
    begin = int(batch.start[first])
    error = GuestDataError(
        f"Failed to read image metadata: guest range {begin:#x} to "
        f"{begin + int(batch.length[first]):#x} has a damaged mapping; `qcowtui check` says how."
    )
    return select(batch, slice(None, first)), error


def print_json(chain: Chain, start: int, length: int | None, output: Output) -> int:
    """Raises GuestDataError behind the last entry that could be had."""
    entries = _entries(chain, start, length)
    first = next(entries, None)
    if first is None:  # qemu-img prints one entry of no length
        output.line(
            f'[{{ "start": {start}, "length": 0, "depth": 0, "present": false, "zero": false, '
            '"data": false}]'
        )
    else:
        write_json_list(_json_texts(chain_of([first], entries), len(chain.layers)), output)
    return exit_codes.OK


def _json_texts(entries: Iterable[ExtentBatch], layers: int) -> Iterator[bytes]:
    rows = RowPrinter(_json_lines(layers), (Number.DECIMAL,) * 3)
    for batch in entries:
        sound, error = _until_damage(batch)
        kinds = sound.depth.astype(np.intp) << _FLAG_BITS
        kinds |= sound.kind
        yield from rows.print(kinds, (sound.start, sound.length, sound.host))
        if error is not None:
            raise error


def _json_lines(layers: int) -> list[Line]:
    """By depth and flags."""
    lines = []
    for depth in range(layers):
        for bits in range(1 << _FLAG_BITS):
            flags = Status(bits)
            has_offset = Status.OFFSET_VALID in flags
            tail = (
                f', "depth": {depth}, "present": {_bool(Status.ALLOCATED in flags)}'
                f', "zero": {_bool(Status.ZERO in flags)}, "data": {_bool(Status.DATA in flags)}'
            )
            texts = (
                '{ "start": ',
                ', "length": ',
                tail + (', "offset": ' if has_offset else ""),
                "},\n",
            )
            lines.append(Line(texts, (True, True, has_offset)))
    return lines


def _bool(value: bool) -> str:
    return "true" if value else "false"


def print_human(chain: Chain, start: int, length: int | None, output: Output) -> int:
    """The stored ranges.  Raises GuestDataError at one that is not stored plainly, or damaged."""
    names = [_file_of(layer) for layer in chain.layers]
    lines = [Line(("", "", "", f"{name}\n"), (True, True, True)) for name in names]
    rows = RowPrinter(lines, (Number.PADDED_HEX,) * 3)
    output.line(f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File")
    for batch in _entries(chain, start, length):
        sound, error = _until_damage(batch)
        unplain = np.flatnonzero(sound.kind & (Status.DATA | Status.OFFSET_VALID) == Status.DATA)
        if len(unplain):
            sound = select(sound, slice(None, int(unplain[0])))
            error = GuestDataError("File contains external, encrypted or compressed clusters.")
        stored = select(sound, sound.kind & (Status.DATA | Status.ZERO) == Status.DATA)
        columns = (stored.start, stored.length, stored.host)
        for text in rows.print(stored.depth, columns):
            output.write_bytes(text)
        if error is not None:
            raise error
    return exit_codes.OK


def _file_of(layer: Layer) -> str:
    """The name of the file that holds a layer's data."""
    if isinstance(layer.image, Image) and layer.has_data_file:
        return safe(layer.image.data_file or b"")
    return layer.shown if layer.image is None else safe(layer.image.name)
