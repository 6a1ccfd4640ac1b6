"""Entries of snapshot tables that are damaged, or that nothing refers to.

The table is read again with other ideas of where an entry ends, until the rest of it makes sense.
What makes sense: an L1 table at the start of a cluster inside the file, an ID and a name that are
text, a date that is possible.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from ...image.image import Image
from ...jobs import CancelToken
from ...layout.constants import MAX_SNAPSHOT_EXTRA
from ...layout.header_rules import l1_fault
from ...layout.snapshots import NeedMoreBytes, Snapshot, SnapshotEntryError, parse_snapshot

#: Bytes of a table that are looked at; real ones have some hundred.
_TABLE = 1 << 20
_FIXED = 40
_EXTRA_AT = 36
#: Most clusters of the file that are searched for a table.
_SEARCHED = 1 << 16


def salvaged(image: Image, offset: int, count: int) -> tuple[Snapshot, ...]:
    """The entries of the damaged table at host ``offset``, at most ``count``: those that make
    sense, in order."""
    data = image.storage.read(offset, _TABLE)
    found: list[Snapshot] = []
    at = 0
    while len(found) < count and at + _FIXED <= len(data):
        entry, end = _plain(image, data, at, len(found), offset)
        if entry is None:
            entry, end = _mended(image, data, at, len(found), offset, count)
        if entry is None:
            later = _next(image, data, at + 8, len(found), offset)
            if later is None:
                break
            at = later
            continue
        found.append(entry)
        at = end
    return tuple(found)


def _plain(
    image: Image, data: bytes, at: int, index: int, offset: int
) -> tuple[Snapshot | None, int]:
    try:
        entry, end = parse_snapshot(data, at, index, offset)
    except (NeedMoreBytes, SnapshotEntryError):
        return None, at
    return (entry, end) if is_sensible(image, entry) else (None, at)


def _mended(
    image: Image, data: bytes, at: int, index: int, offset: int, count: int
) -> tuple[Snapshot | None, int]:
    """The entry at ``at`` with another length of its extra data, ID or name."""
    for changed in _lengths(data, at):
        entry, end = _plain(image, changed, at, index, offset)
        if entry is None:
            continue
        last = index + 1 == count
        if last or _plain(image, data, end, index + 1, offset)[0] is not None:
            return entry, end
    return None, at


def _lengths(data: bytes, at: int) -> Iterator[bytes]:
    """``data`` with the lengths of the entry at ``at`` put otherwise, the likeliest first."""
    id_length, name_length = struct.unpack_from(">HH", data, at + 12)
    extra = int.from_bytes(data[at + _EXTRA_AT : at + _FIXED], "big")
    extras = [16, 24, 0, 8, *range(32, MAX_SNAPSHOT_EXTRA + 1, 8)]
    tries: list[tuple[int, int, int]] = [(each, id_length, name_length) for each in extras]
    if extra in (0, 16, 24):
        text = data[at + _FIXED + extra : at + _FIXED + extra + 4096]
        digits = len(text) - len(text.lstrip(b"0123456789"))
        tries += [(extra, n, name_length) for n in range(1, min(digits, 10) + 1)]
        rest = text[id_length:].split(b"\0", 1)[0]
        tries += [(extra, id_length, n) for n in range(len(rest), 0, -1)]
    for more, id_, name in tries:
        if (more, id_, name) != (extra, id_length, name_length):
            made = bytearray(data)
            struct.pack_into(">HH", made, at + 12, id_, name)
            struct.pack_into(">I", made, at + _EXTRA_AT, more)
            yield bytes(made)


def _next(image: Image, data: bytes, start: int, index: int, offset: int) -> int | None:
    """Where the next entry that makes sense starts, within some kilobytes."""
    for at in range(start, min(len(data) - _FIXED, start + 8192), 8):
        if _plain(image, data, at, index, offset)[0] is not None:
            return at
    return None


def is_sensible(image: Image, entry: Snapshot) -> bool:
    """Whether the entry could be that of a snapshot."""
    geometry = image.usable_geometry_for_tables()
    fault = l1_fault(entry.l1_table_offset, entry.l1_size, geometry, image.storage.size())
    if fault is not None or not entry.l1_size or not entry.id.isdigit():
        return False
    if not entry.name or not _is_text(entry.name) or entry.date_nsec >= 10**9:
        return False
    span = entry.l1_size * geometry.l2_span
    return entry.disk_size is None or entry.disk_size <= span


def _is_text(name: bytes) -> bool:
    try:
        return name.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


def tables_anywhere(
    image: Image, cancel: CancelToken | None
) -> Iterator[tuple[int, tuple[Snapshot, ...]]]:
    """(host offset, entries) of what could be a snapshot table, as many as are likely."""
    size = image.header.cluster_size
    clusters = min(-(-image.storage.size() // size), _SEARCHED)
    piece = min(size, 4096)
    buffer = bytearray(256 * piece)
    shown = 0
    for first in range(1, clusters, 256):
        if cancel is not None:
            cancel.check()
        offsets = [each * size for each in range(first, min(first + 256, clusters))]
        image.storage.read_pieces(offsets, piece, memoryview(buffer)[: len(offsets) * piece])
        heads = np.frombuffer(buffer, dtype=np.uint8, count=len(offsets) * piece)
        heads = heads.reshape(len(offsets), piece)
        l1 = heads[:, :8].copy().view(">u8")[:, 0].astype(np.uint64)
        plausible = (l1 != 0) & (l1 % np.uint64(size) == 0) & (l1 < np.uint64(image.storage.size()))
        for row in np.flatnonzero(plausible).tolist():
            data = image.storage.read(offsets[row], 64 << 10)
            found = _run(image, data, offsets[row])
            if found:
                yield offsets[row], found
                shown += 1
            if shown == 8:
                return


def _run(image: Image, data: bytes, offset: int) -> tuple[Snapshot, ...]:
    found: list[Snapshot] = []
    at = 0
    while True:
        entry, end = _plain(image, data, at, len(found), offset)
        if entry is None:
            return tuple(found)
        found.append(entry)
        at = end
