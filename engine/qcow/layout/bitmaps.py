"""The bitmap directory (qcow2 spec, "Bitmaps extension", "Bitmap directory")."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ..record import record
from ..text import plural
from .constants import BITMAP_AUTO, BITMAP_IN_USE, MAX_BITMAP_TABLE_ENTRIES, MAX_NAME

_FIXED = struct.Struct(">QIIBBHI")
#: Bytes of a directory entry before its extra data and its name.
ENTRY_HEAD = _FIXED.size
#: The only type of bitmap there is.
DIRTY_BITMAP = 1


@record
class BitmapEntry:
    """One persistent dirty bitmap.  ``name`` is raw image text."""

    index: int
    table_offset: int  # bytes in the file
    table_size: int  # entries of 8 bytes
    flags: int
    type: int
    granularity_bits: int
    extra_size: int
    name: bytes

    @property
    def granularity(self) -> int:
        """Guest bytes that one bit stands for."""
        return 1 << self.granularity_bits

    @property
    def in_use(self) -> bool:
        return bool(self.flags & BITMAP_IN_USE)

    @property
    def auto(self) -> bool:
        """Enabled: the bitmap is loaded and recorded automatically."""
        return bool(self.flags & BITMAP_AUTO)

    def fault(self, cluster_size: int, virtual_size: int) -> str | None:
        """Why this entry cannot be used, as a phrase, or None.

        The table of a bitmap in use need not fit the disk: its content is lost anyway, and QEMU
        accepts it too.
        """
        if not 1 <= len(self.name) <= MAX_NAME:
            return f"its name has {len(self.name)} bytes"
        if self.type != DIRTY_BITMAP:
            return f"its type is {self.type}, not 1 (dirty bitmap)"
        if self.flags & ~(BITMAP_IN_USE | BITMAP_AUTO):
            return f"reserved flags are set ({self.flags:#x})"
        if self.extra_size:
            return f"it has {self.extra_size} bytes of extra data of unknown meaning"
        if not 9 <= self.granularity_bits <= 31:
            return f"its granularity is 2 to the power {self.granularity_bits}"
        if self.table_offset == 0 or self.table_offset % cluster_size:
            return f"its table offset {self.table_offset:#x} is not that of a cluster"
        if self.table_size > MAX_BITMAP_TABLE_ENTRIES:
            return f"its table has {self.table_size} entries"
        if self.in_use:
            return None if self.table_size else "its table has no entries"
        bits = -(-virtual_size // self.granularity)
        data_bytes = -(-bits // 8)
        if self.table_size != -(-data_bytes // cluster_size):
            return f"its table has {self.table_size} entries, which does not fit the disk's size"
        return None


class BitmapDirectoryError(Exception):
    """The directory cannot be parsed; the message is a sentence without image strings."""


def parse_bitmap_directory(data: bytes, expected: int) -> tuple[BitmapEntry, ...]:
    """Decode a whole directory.  Raises BitmapDirectoryError with what is wrong."""
    entries: list[BitmapEntry] = []
    at = 0
    while at < len(data):
        if at + _FIXED.size > len(data):
            raise BitmapDirectoryError("The bitmap directory ends inside an entry.")
        table_offset, table_size, flags, type_, granularity, name_size, extra_size = (
            _FIXED.unpack_from(data, at)
        )
        name_at = at + _FIXED.size + extra_size
        end = name_at + name_size
        if end > len(data):
            raise BitmapDirectoryError(
                f"Entry {len(entries)} of the bitmap directory runs past the directory's end."
            )
        entries.append(
            BitmapEntry(
                len(entries),
                table_offset,
                table_size,
                flags,
                type_,
                granularity,
                extra_size,
                data[name_at:end],
            )
        )
        if len(entries) > expected:
            raise BitmapDirectoryError(
                f"The bitmap directory holds more than the {plural(expected, 'bitmap')} announced."
            )
        at = end + 7 & ~7
    if len(entries) < expected:
        raise BitmapDirectoryError(
            f"The bitmap directory holds {plural(len(entries), 'bitmap')}; "
            f"the header announces {expected}."
        )
    return tuple(entries)


def encode_bitmap_directory(entries: Iterable[BitmapEntry]) -> bytes:
    """A whole bitmap directory, each entry padded to 8 bytes; its length is ``directory_size``.

    Raises ValueError for an entry with extra data, whose meaning nobody knows.
    """
    return b"".join(map(_encode_entry, entries))


def _encode_entry(entry: BitmapEntry) -> bytes:
    if entry.extra_size:
        raise ValueError("a bitmap with extra data of unknown meaning cannot be written")
    data = (
        _FIXED.pack(
            entry.table_offset,
            entry.table_size,
            entry.flags,
            entry.type,
            entry.granularity_bits,
            len(entry.name),
            0,
        )
        + entry.name
    )
    return data + bytes(-len(data) % 8)
