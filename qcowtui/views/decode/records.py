"""Records of named fields: the header, the snapshot table, the bitmap directory, LUKS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from qcow.layout.constants import (
    COMPRESSION_NAMES,
    CRYPT_AES,
    CRYPT_LUKS,
    CRYPT_NONE,
    KNOWN_HEADER_LENGTH,
    MAX_CLUSTER_BITS,
    MIN_CLUSTER_BITS,
)
from qcow.layout.header import FIELDS, HeaderField
from qcow.layout.luks import HEADER_LENGTH, KEY_SLOTS
from qcow.layout.snapshots import Snapshot
from qcow.text import safe

from ..units import count, exact, offset, plural, size
from .model import Context, Note

_OFFSETS = frozenset(
    {"backing_file_offset", "l1_table_offset", "refcount_table_offset", "snapshots_offset"}
)
_MASKS = frozenset({"incompatible_features", "compatible_features", "autoclear_features"})

_MEANINGS: dict[str, dict[int, str]] = {
    "version": {2: "compat 0.10", 3: "compat 1.1"},
    "cluster_bits": {
        bits: size(1 << bits) for bits in range(MIN_CLUSTER_BITS, MAX_CLUSTER_BITS + 1)
    },
    "crypt_method": {CRYPT_NONE: "none", CRYPT_AES: "legacy AES", CRYPT_LUKS: "LUKS"},
    "refcount_order": {order: f"{1 << order} bit" for order in range(7)},
    "compression_type": dict(enumerate(COMPRESSION_NAMES)),
}


class _Part(NamedTuple):
    """A field of a record that begins elsewhere; ``kind`` says how its value is written."""

    at: int
    size: int
    label: str
    kind: str = "number"


_SNAPSHOT = (
    _Part(0, 8, "L1 table at", "offset"),
    _Part(8, 4, "L1 entries"),
    _Part(12, 2, "ID length"),
    _Part(14, 2, "name length"),
    _Part(16, 4, "taken, seconds", "date"),
    _Part(20, 4, "taken, nanoseconds"),
    _Part(24, 8, "machine had run, ns"),
    _Part(32, 4, "VM state size (32 bit)"),
    _Part(36, 4, "extra data length"),
)
_SNAPSHOT_EXTRA = (
    _Part(0, 8, "VM state size", "size"),
    _Part(8, 8, "disk size", "size"),
    _Part(16, 8, "instruction count"),
)
_SNAPSHOT_FIXED = 40
_BITMAP = (
    _Part(0, 8, "bitmap table at", "offset"),
    _Part(8, 4, "table entries"),
    _Part(12, 4, "flags", "mask"),
    _Part(16, 1, "type"),
    _Part(17, 1, "granularity bits"),
    _Part(18, 2, "name length"),
    _Part(20, 4, "extra data length"),
)
_BITMAP_FIXED = 24
_LUKS = (
    _Part(0, 6, "LUKS magic", "text"),
    _Part(6, 2, "LUKS version"),
    _Part(8, 32, "cipher", "text"),
    _Part(40, 32, "cipher mode", "text"),
    _Part(72, 32, "hash", "text"),
    _Part(104, 4, "payload at, sectors"),
    _Part(108, 4, "key bytes"),
    _Part(112, 20, "master key digest", "opaque"),
    _Part(132, 32, "digest salt", "opaque"),
    _Part(164, 4, "digest iterations"),
    _Part(168, 40, "UUID", "text"),
)
_LUKS_SLOT = (
    _Part(0, 4, "state", "mask"),
    _Part(4, 4, "iterations"),
    _Part(8, 32, "salt", "opaque"),
    _Part(40, 4, "key material at, sectors"),
    _Part(44, 4, "stripes"),
)
_LUKS_SLOTS_AT, _LUKS_SLOT_SIZE = 208, 48


def _clipped(notes: Iterator[Note], start: int, stop: int) -> list[Note]:
    """The notes that touch the window; they come in ascending order."""
    found = []
    for note in notes:
        if note.start >= stop:
            break
        if note.start + note.length > start and note.length > 0:
            found.append(note)
    return found


def _written(raw: bytes, kind: str) -> tuple[str, int | None]:
    """A field's value in words, and the host offset it points at."""
    number = int.from_bytes(raw, "big")
    if kind == "text":
        return safe(raw.rstrip(b"\0"), 48), None
    if kind == "opaque":
        return plural(len(raw), "byte"), None
    if kind == "offset":
        return offset(number), number or None
    if kind == "mask":
        return f"{number:#x}", None
    if kind == "size":
        return f"{size(number)} ({exact(number)})" if number >= 1024 else exact(number), None
    if kind == "date":
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(number)), None
    return count(number), None


def _parts(data: bytes, base: int, parts: tuple[_Part, ...], name: str) -> Iterator[Note]:
    """Notes on the parts of a record at ``base`` (bytes; negative: it began in another cluster)."""
    for part in parts:
        at = base + part.at
        if at >= 0 and at + part.size <= len(data):
            text, target = _written(data[at : at + part.size], part.kind)
            yield Note(at, part.size, f"{name} {part.label}", text, target)


def _run(data: bytes, at: int, length: int, label: str, text: str) -> Iterator[Note]:
    """A note on variable bytes, cut to the cluster."""
    begin, end = max(0, at), min(len(data), at + length)
    if begin < end:
        yield Note(begin, end - begin, label, text)


def header(data: bytes, context: Context, start: int, stop: int) -> list[Note]:
    """The header's fields, its extensions and the backing file name."""
    return _clipped(iter(sorted(_header(data, context), key=lambda note: note.start)), start, stop)


def _header(data: bytes, context: Context) -> Iterator[Note]:
    found = context.image.header
    for field in FIELDS:
        inside = field.since <= found.version and field.offset + field.size <= len(data)
        if inside and (field.offset < found.header_length or field.since <= 2):
            yield _header_field(data, field)
    if found.version >= 3:
        rest = min(found.header_length, len(data)) - KNOWN_HEADER_LENGTH
        text = "kept as they are"
        yield from _run(data, KNOWN_HEADER_LENGTH, rest, "unknown header bytes", text)
    for extension in context.image.extensions:
        head, length = extension.offset, len(extension.data)
        yield from _run(data, head, 8, "extension", f"{extension.name}, {plural(length, 'byte')}")
        yield from _run(data, head + 8, length, extension.name, safe(extension.data, 60))
    if context.image.backing is not None:
        name = context.image.backing.name
        at = found.backing_file_offset
        yield from _run(data, at, len(name), "backing file", safe(name, 60))


def _header_field(data: bytes, field: HeaderField) -> Note:
    raw = data[field.offset : field.offset + field.size]
    number = int.from_bytes(raw, "big")
    target = None
    if field.name == "magic":
        text = safe(raw)
    elif field.name in _OFFSETS:
        text, target = _written(raw, "offset")
        if field.name == "backing_file_offset":
            target = None
    elif field.name in _MASKS:
        text = f"{number:#x}"
    elif field.name == "size":
        text, _ = _written(raw, "size")
    elif field.name in _MEANINGS:
        meaning = _MEANINGS[field.name].get(number)
        text = count(number) + (f" ({meaning})" if meaning else "")
    else:
        text = count(number)
    return Note(field.offset, field.size, field.title, text, target)


def snapshot_table(data: bytes, context: Context, start: int, stop: int) -> list[Note]:
    """Entries of the snapshot table that the cluster holds, or parts of."""
    low, high = context.offset + start, context.offset + stop

    def notes() -> Iterator[Note]:
        for snapshot in context.image.snapshots:
            if snapshot.entry_offset >= high:
                break
            if snapshot.entry_offset + snapshot.entry_length > low:
                yield from _snapshot(data, snapshot, snapshot.entry_offset - context.offset)

    return _clipped(notes(), start, stop)


def _snapshot(data: bytes, snapshot: Snapshot, base: int) -> Iterator[Note]:
    name = f"snapshot {snapshot.index}"
    yield from _parts(data, base, _SNAPSHOT, name)
    at = base + _SNAPSHOT_FIXED
    extra = tuple(part for part in _SNAPSHOT_EXTRA if part.at + part.size <= snapshot.extra_size)
    yield from _parts(data, at, extra, name)
    known = 8 * len(extra)
    rest = snapshot.extra_size - known
    yield from _run(data, at + known, rest, f"{name} more extra data", plural(rest, "byte"))
    at += snapshot.extra_size
    yield from _run(data, at, len(snapshot.id), f"{name} ID", safe(snapshot.id, 60))
    at += len(snapshot.id)
    yield from _run(data, at, len(snapshot.name), f"{name} name", safe(snapshot.name, 60))


def bitmap_directory(data: bytes, context: Context, start: int, stop: int) -> list[Note]:
    """Entries of the bitmap directory that the cluster holds, or parts of."""
    directory = context.image.bitmap_directory
    if directory is None:
        return []
    low, high = context.offset + start, context.offset + stop

    def notes() -> Iterator[Note]:
        at = directory[0]
        for bitmap in context.image.bitmaps:
            length = _BITMAP_FIXED + bitmap.extra_size + len(bitmap.name)
            if at >= high:
                break
            if at + length > low:
                base, name = at - context.offset, f"bitmap {bitmap.index}"
                yield from _parts(data, base, _BITMAP, name)
                extra = bitmap.extra_size
                base += _BITMAP_FIXED
                yield from _run(data, base, extra, f"{name} extra data", plural(extra, "byte"))
                text = safe(bitmap.name, 60)
                yield from _run(data, base + extra, len(bitmap.name), f"{name} name", text)
            at += length + 7 & ~7

    return _clipped(notes(), start, stop)


def luks(data: bytes, context: Context, start: int, stop: int) -> list[Note]:
    """The LUKS header, where this is its first cluster; elsewhere key material."""
    crypto = context.image.crypto
    if crypto is None:
        return []
    base = crypto.offset - context.offset

    def notes() -> Iterator[Note]:
        yield from _parts(data, base, _LUKS, "LUKS")
        for slot in range(KEY_SLOTS):
            at = base + _LUKS_SLOTS_AT + slot * _LUKS_SLOT_SIZE
            yield from _parts(data, at, _LUKS_SLOT, f"key slot {slot}")
        rest = base + HEADER_LENGTH
        yield from _run(data, rest, base + crypto.length - rest, "key material", "encrypted")

    return _clipped(notes(), start, stop)
