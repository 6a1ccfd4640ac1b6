"""Tables of equal entries: L1, L2, refcounts, bitmap tables.  Only a window is looked at."""

from __future__ import annotations

from collections.abc import Callable

from qcow.layout.constants import (
    BITMAP_TABLE_ALL_ONES,
    BITMAP_TABLE_OFFSET_MASK,
    BITMAP_TABLE_RESERVED_MASK,
    L1_RESERVED_MASK,
    L2_RESERVED_MASK,
    OFFSET_MASK,
    OFLAG_COMPRESSED,
    OFLAG_COPIED,
    OFLAG_ZERO,
    REFCOUNT_TABLE_OFFSET_MASK,
    REFCOUNT_TABLE_RESERVED_MASK,
)
from qcow.layout.geometry import Geometry

from ..units import offset, plural
from .model import Context, Note

_LOW = (1 << 32) - 1
_WORD = 8


def _entries(
    data: bytes, size: int, start: int, stop: int, note: Callable[[int, int], Note]
) -> list[Note]:
    """``note(index, byte offset)`` of the whole entries of ``size`` bytes that touch the window."""
    first, last = start // size, min(-(-stop // size), len(data) // size)
    return [note(index, index * size) for index in range(first, last)]


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + _WORD], "big")


def _with_reserved(text: str, bits: int) -> str:
    return f"{text}, reserved bits {bits:#x} are set" if bits else text


def l1(data: bytes, context: Context, start: int, stop: int) -> list[Note]:
    """L1 entries: where each L2 table is."""
    span = context.geometry.l2_span

    def note(index: int, at: int) -> Note:
        entry = _word(data, at)
        number = context.first + index
        target = entry & OFFSET_MASK
        if target:
            text = f"L2 table at {offset(target)}" + ", COPIED" * bool(entry & OFLAG_COPIED)
        else:
            text = "no L2 table"
        text = _with_reserved(text, entry & L1_RESERVED_MASK)
        return Note(at, _WORD, f"L1[{number}]", text, target or None, number * span)

    return _entries(data, _WORD, start, stop, note)


def l2(data: bytes, context: Context, start: int, stop: int) -> list[Note]:
    """L2 entries: where each guest cluster is."""
    geometry = context.geometry
    size = geometry.l2_entry_size

    def note(index: int, at: int) -> Note:
        entry = _word(data, at)
        bitmap = _word(data, at + _WORD) if geometry.extended_l2 else None
        text, target = l2_entry_words(entry, bitmap, geometry)
        guest = None
        if context.guest is not None:
            guest = context.guest + (index << geometry.cluster_bits)
        return Note(at, size, f"L2[{index}]", text, target, guest)

    return _entries(data, size, start, stop, note)


def l2_entry_words(entry: int, bitmap: int | None, geometry: Geometry) -> tuple[str, int | None]:
    """What an L2 entry says (with its subcluster bitmap, or None), and where it points."""
    copied = ", COPIED" if entry & OFLAG_COPIED else ""
    if entry & OFLAG_COMPRESSED:
        at, budget = geometry.compressed_extent(entry)
        return f"compressed, up to {plural(budget, 'byte')} at {offset(at)}{copied}", at
    target = entry & OFFSET_MASK
    reserved = entry & L2_RESERVED_MASK
    if bitmap is not None:
        text = f"data at {offset(target)}{copied}" if target else "no space"
        stored, zeros = (bitmap & _LOW).bit_count(), (bitmap >> 32).bit_count()
        text += f", {stored} of 32 subclusters stored, {zeros} zero"
        return _with_reserved(text, reserved | entry & OFLAG_ZERO), target or None
    if entry & OFLAG_ZERO:
        text = f"zeros, space kept at {offset(target)}" if target else "zeros"
    elif target:
        text = f"data at {offset(target)}"
    else:
        text = "not allocated"
    return _with_reserved(text + copied, reserved), target or None


def refcount_table(data: bytes, context: Context, start: int, stop: int) -> list[Note]:
    """Refcount table entries: where each refcount block is, and which clusters it counts."""
    each = context.geometry.refcount_block_entries

    def note(index: int, at: int) -> Note:
        entry = _word(data, at)
        number = context.first + index
        target = entry & REFCOUNT_TABLE_OFFSET_MASK
        if target:
            text = f"refcount block at {offset(target)}"
        else:
            text = "no refcount block: all 0"
        text += f", clusters {number * each:,} to {(number + 1) * each - 1:,}"
        text = _with_reserved(text, entry & REFCOUNT_TABLE_RESERVED_MASK)
        return Note(at, _WORD, f"block {number}", text, target or None)

    return _entries(data, _WORD, start, stop, note)


def refcount_block(data: bytes, context: Context, start: int, stop: int) -> list[Note]:
    """Refcounts; several to a byte where they are narrower than one."""
    bits = context.geometry.refcount_bits
    cluster_bits = context.geometry.cluster_bits
    if bits >= 8:
        width = bits // 8

        def wide(index: int, at: int) -> Note:
            cluster = context.first + index
            value = int.from_bytes(data[at : at + width], "big")
            text = f"refcount {value:,}"
            return Note(at, width, f"cluster {cluster:,}", text, cluster << cluster_bits)

        return _entries(data, width, start, stop, wide)
    each, mask = 8 // bits, (1 << bits) - 1

    def narrow(index: int, at: int) -> Note:
        cluster = context.first + index * each
        values = [data[at] >> shift & mask for shift in range(0, 8, bits)]
        label = f"clusters {cluster:,} to {cluster + each - 1:,}"
        text = "refcounts " + " ".join(map(str, values))
        return Note(at, 1, label, text, cluster << cluster_bits)

    return _entries(data, 1, start, stop, narrow)


def bitmap_table(data: bytes, context: Context, start: int, stop: int) -> list[Note]:
    """Bitmap table entries: where each piece of the bitmap is."""

    def note(index: int, at: int) -> Note:
        entry = _word(data, at)
        target = entry & BITMAP_TABLE_OFFSET_MASK
        if target:
            text = f"bits at {offset(target)}"
        else:
            text = "all ones" if entry & BITMAP_TABLE_ALL_ONES else "all zeros"
        text = _with_reserved(text, entry & BITMAP_TABLE_RESERVED_MASK)
        return Note(at, _WORD, f"piece {context.first + index}", text, target or None)

    return _entries(data, _WORD, start, stop, note)
