"""From the bytes of a cluster to notes: which kind of decoding each structure takes."""

from __future__ import annotations

from collections.abc import Callable

from ..units import offset
from . import records, tables
from .model import Context, Note, Structure

_Decoder = Callable[[bytes, Context, int, int], list[Note]]


def annotate(
    data: bytes, structure: Structure, context: Context, start: int = 0, stop: int | None = None
) -> list[Note]:
    """Notes on what touches ``data[start:stop]``, in order.

    ``data`` is a whole cluster (less at the end of the file).  Bytes that mean nothing by
    themselves (guest data) get a single note, or none.
    """
    stop = len(data) if stop is None else min(stop, len(data))
    if start >= stop:
        return []
    return _DECODERS[structure](data, context, start, stop)


def _guest_data(data: bytes, context: Context, start: int, stop: int) -> list[Note]:
    if context.image.encrypted:
        return [Note(0, len(data), "ciphertext", "guest data, encrypted", guest=context.guest)]
    if context.guest is None:
        return []
    return [Note(0, len(data), f"guest {offset(context.guest)}", "guest data", guest=context.guest)]


def _plain(data: bytes, context: Context, start: int, stop: int) -> list[Note]:
    return []


_DECODERS: dict[Structure, _Decoder] = {
    Structure.HEADER: records.header,
    Structure.L1: tables.l1,
    Structure.L2: tables.l2,
    Structure.REFCOUNT_TABLE: tables.refcount_table,
    Structure.REFCOUNT_BLOCK: tables.refcount_block,
    Structure.SNAPSHOT_TABLE: records.snapshot_table,
    Structure.BITMAP_DIRECTORY: records.bitmap_directory,
    Structure.BITMAP_TABLE: tables.bitmap_table,
    Structure.BITMAP_DATA: _plain,
    Structure.LUKS: records.luks,
    Structure.COMPRESSED: _plain,
    Structure.DATA: _guest_data,
}
