"""The snapshot table: variable-length entries, 8-byte aligned (qcow2 spec, "Snapshots")."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ..record import record
from .constants import MAX_SNAPSHOT_EXTRA

_FIXED = struct.Struct(">QIHHIIQII")
_NO_ICOUNT = (1 << 64) - 1


@record
class Snapshot:
    """One internal snapshot.  ``id`` and ``name`` are raw image text; offsets and sizes: bytes."""

    index: int
    entry_offset: int  # host offset of the table entry
    entry_length: int
    l1_table_offset: int
    l1_size: int  # entries
    id: bytes
    name: bytes
    date_sec: int
    date_nsec: int
    vm_clock_nsec: int
    vm_state_size: int
    disk_size: int | None  # None: the entry does not say (old version 2 images)
    icount: int | None  # None: not recorded
    extra_size: int
    extra: bytes  # all extra data as stored

    @property
    def label(self) -> str:
        """How commands address it without doubt: by ID, which is unique unless damaged."""
        return "snapshot:" + self.id.decode("utf-8", "surrogateescape")


class SnapshotEntryError(Exception):
    """An entry that cannot be parsed; ``reason`` is a sentence without image strings."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason


class NeedMoreBytes(Exception):
    """The entry continues behind the bytes at hand."""


def parse_snapshot(data: bytes, at: int, index: int, table_offset: int) -> tuple[Snapshot, int]:
    """Decode the entry at ``data[at:]`` and return it with where the next one starts.

    ``table_offset`` is the host offset of ``data[0]``.  Raises NeedMoreBytes when ``data`` ends
    inside the entry and SnapshotEntryError when the entry cannot be right.
    """
    if at + _FIXED.size > len(data):
        raise NeedMoreBytes
    (
        l1_offset,
        l1_size,
        id_length,
        name_length,
        date_sec,
        date_nsec,
        vm_clock_nsec,
        vm_state_size,
        extra_size,
    ) = _FIXED.unpack_from(data, at)
    if extra_size > MAX_SNAPSHOT_EXTRA:
        raise SnapshotEntryError(
            index,
            f"Snapshot table entry {index} claims {extra_size} bytes of extra data; at most "
            f"{MAX_SNAPSHOT_EXTRA} are allowed.",
        )
    extra_at = at + _FIXED.size
    id_at = extra_at + extra_size
    name_at = id_at + id_length
    end = name_at + name_length
    if end > len(data):
        raise NeedMoreBytes
    extra = data[extra_at:id_at]
    disk_size = icount = None
    if extra_size >= 8:
        vm_state_size = int.from_bytes(extra[0:8], "big")
    if extra_size >= 16:
        disk_size = int.from_bytes(extra[8:16], "big")
    if extra_size >= 24:
        icount = int.from_bytes(extra[16:24], "big")
        if icount == _NO_ICOUNT:
            icount = None
    snapshot = Snapshot(
        index=index,
        entry_offset=table_offset + at,
        entry_length=end - at,
        l1_table_offset=l1_offset,
        l1_size=l1_size,
        id=data[id_at:name_at],
        name=data[name_at:end],
        date_sec=date_sec,
        date_nsec=date_nsec,
        vm_clock_nsec=vm_clock_nsec,
        vm_state_size=vm_state_size,
        disk_size=disk_size,
        icount=icount,
        extra_size=extra_size,
        extra=extra,
    )
    return snapshot, end + 7 & ~7


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The table entry of ``snapshot``, padded to a multiple of 8 bytes.

    All extra data is kept; the values this version knows replace what it says about them, and it
    grows when it has no place for one that is set.  ``entry_offset``, ``entry_length``, ``index``
    and ``extra_size`` are not looked at.  Raises ValueError when a value does not fit.
    """
    state, size, icount = snapshot.vm_state_size, snapshot.disk_size, snapshot.icount
    extra = bytearray(snapshot.extra)
    if icount is not None:
        needed = 24
    elif size is not None:
        needed = 16
    else:
        needed = 8 if state >> 32 else 0
    extra += bytes(max(0, needed - len(extra)))
    if len(extra) >= 16 and size is None:
        raise ValueError("a snapshot entry with 16 bytes of extra data states the disk's size")
    try:
        if len(extra) >= 8:
            extra[0:8] = state.to_bytes(8, "big")
        if size is not None:
            extra[8:16] = size.to_bytes(8, "big")
        if len(extra) >= 24:
            extra[16:24] = (_NO_ICOUNT if icount is None else icount).to_bytes(8, "big")
        fixed = _FIXED.pack(
            snapshot.l1_table_offset,
            snapshot.l1_size,
            len(snapshot.id),
            len(snapshot.name),
            snapshot.date_sec,
            snapshot.date_nsec,
            snapshot.vm_clock_nsec,
            0 if state >> 32 else state,
            len(extra),
        )
    except (struct.error, OverflowError) as error:
        raise ValueError(f"a value does not fit the snapshot table entry: {error}") from None
    entry = fixed + extra + snapshot.id + snapshot.name
    return entry + bytes(-len(entry) % 8)


def encode_snapshot_table(snapshots: Iterable[Snapshot]) -> bytes:
    """A whole snapshot table; its entries start at multiples of 8 bytes."""
    return b"".join(map(encode_snapshot, snapshots))
