"""The redo journal as bytes: what it says, and how a damaged one is told from a good one.

Numbers are big-endian::

    head  magic "QCTUIJ1\\n" | txid 16 | body length 8 | SHA-256(txid | body) 32
    body  identity 32 | st_dev 8 | st_ino 8 | time 8 (ns) | flags 4 | path length 4 | path
          | action length 4 | action | number of patches 4 | patches
    patch offset 8 | length 4 | flags 4 | before | after

*identity* is that of the image without the patched bytes (:func:`identity_of`).  Flag 1 of the body
says that the image is marked corrupt while it is between the two states.  Flag 1 of a patch says
that its old bytes are a secret: in place of them stands the SHA-256 of each piece that lies in one
sector of the file.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from itertools import pairwise

from ..errors import FormatError
from ..record import record
from ..storage.base import Storage
from .patch import Patch, sector_pieces

MAGIC = b"QCTUIJ1\n"
#: The longest journal that is written or read.
MAX_BYTES = 64 << 20

_HEAD = struct.Struct(">8s16sQ32s")
_BODY = struct.Struct(">32sQQQI")
_COUNT = struct.Struct(">I")
_PATCH = struct.Struct(">QII")
_MARKED = 1
_SECRET = 1
_DIGEST = 32
#: The bytes at the start of the file that tell one image from another.
_IDENTIFYING = 4096
#: Positions beyond this no system can address.
_END_OF_POSITIONS = 1 << 63


@record
class JournalPatch:
    """One change as the journal has it; ``before`` is None when the old bytes are a secret."""

    offset: int
    after: bytes
    before: bytes | None
    before_digests: tuple[bytes, ...] = ()  # SHA-256 of each piece, only for a secret

    @property
    def end(self) -> int:
        return self.offset + len(self.after)

    def explains(self, index: int, piece: slice, found: bytes) -> bool:
        """Whether ``found``, read where piece number ``index`` lies, is its old or new content."""
        if found == self.after[piece]:
            return True
        if self.before is not None:
            return found == self.before[piece]
        return hashlib.sha256(found).digest() == self.before_digests[index]


@record
class Journal:
    """A change that is decided: its patches are to be made, all of them."""

    txid: bytes  # 16 bytes
    identity: bytes  # 32 bytes, see identity_of()
    file: tuple[int, int]  # (st_dev, st_ino) of the image, (0, 0) when it has none
    time_ns: int  # since the epoch
    path: bytes  # of the image, for people
    action: str  # what was done, for people
    marked: bool  # whether the image is marked corrupt while the patches are made
    patches: tuple[JournalPatch, ...]  # by offset, none overlapping another


def journal_patch(patch: Patch, *, secret: bool) -> JournalPatch:
    """What the journal keeps of a patch: of a secret one, only digests of the old bytes."""
    if not secret:
        return JournalPatch(patch.offset, patch.after, patch.before)
    digests = tuple(
        hashlib.sha256(patch.before[piece]).digest()
        for piece in sector_pieces(patch.offset, len(patch.after))
    )
    return JournalPatch(patch.offset, patch.after, None, digests)


def identity_of(storage: Storage, patches: Sequence[Patch | JournalPatch]) -> bytes:
    """SHA-256 over the first 4 KiB without the patched bytes, and the size of the file.

    Equal before, between and after the patches.  The cluster size is among those bytes.
    """
    head = bytearray(storage.read(0, _IDENTIFYING))
    for patch in patches:
        start, end = min(patch.offset, len(head)), min(patch.end, len(head))
        head[start:end] = bytes(end - start)
    return hashlib.sha256(bytes(head) + storage.size().to_bytes(8)).digest()


def encode(journal: Journal) -> bytes:
    """The file's contents.  ValueError when it would be longer than :data:`MAX_BYTES`."""
    action = journal.action.encode("utf-8", "backslashreplace")
    parts = [
        _BODY.pack(
            journal.identity, *journal.file, journal.time_ns, _MARKED if journal.marked else 0
        ),
        *(_COUNT.pack(len(journal.path)), journal.path),
        *(_COUNT.pack(len(action)), action),
        _COUNT.pack(len(journal.patches)),
    ]
    for patch in journal.patches:
        secret = patch.before is None
        parts.append(_PATCH.pack(patch.offset, len(patch.after), _SECRET if secret else 0))
        parts.append(b"".join(patch.before_digests) if patch.before is None else patch.before)
        parts.append(patch.after)
    body = b"".join(parts)
    if _HEAD.size + len(body) > MAX_BYTES:
        raise ValueError(f"a journal of {_HEAD.size + len(body)} bytes is too long")
    digest = hashlib.sha256(journal.txid + body).digest()
    return _HEAD.pack(MAGIC, journal.txid, len(body), digest) + body


def decode(data: bytes) -> Journal:
    """Read a journal, trusting no length in it.

    Raises FormatError for anything that is not, to the last byte, what :func:`encode` writes.
    """
    if len(data) > MAX_BYTES:
        raise FormatError(f"The journal is too long: {len(data)} bytes.")
    if len(data) < _HEAD.size:
        raise FormatError(f"The journal is cut off after {len(data)} bytes.")
    magic, txid, length, digest = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise FormatError("The file is not a journal of qcowtui: its first bytes are others.")
    body = data[_HEAD.size :]
    if len(body) != length:
        raise FormatError(f"The journal has {len(body)} bytes where {length} were written.")
    if hashlib.sha256(txid + body).digest() != digest:
        raise FormatError("The journal is damaged: its checksum does not match.")
    return _decode_body(txid, _Cursor(body))


def _decode_body(txid: bytes, cursor: _Cursor) -> Journal:
    identity, device, inode, time_ns, flags = _BODY.unpack(cursor.take(_BODY.size))
    if flags & ~_MARKED:
        raise FormatError("The journal was written by a newer version of qcowtui.")
    path = cursor.take(cursor.count())
    action = cursor.take(cursor.count()).decode("utf-8", "replace")
    # The patches end with the body, so a false number of them ends in a FormatError soon.
    patches = tuple(_decode_patch(cursor) for _ in range(cursor.count()))
    cursor.finish()
    if not patches:
        raise FormatError("The journal is damaged: it changes nothing.")
    if any(a.end > b.offset for a, b in pairwise(patches)):
        raise FormatError("The journal is damaged: two of its changes overlap.")
    marked = bool(flags & _MARKED)
    return Journal(txid, identity, (device, inode), time_ns, path, action, marked, patches)


def _decode_patch(cursor: _Cursor) -> JournalPatch:
    offset, length, flags = _PATCH.unpack(cursor.take(_PATCH.size))
    if flags & ~_SECRET or not length or offset + length > _END_OF_POSITIONS:
        raise FormatError(f"The journal is damaged: {length} bytes at {offset} are no change.")
    if length > cursor.left:
        raise FormatError("The journal is damaged: a change is longer than the journal.")
    if not flags & _SECRET:
        before = cursor.take(length)
        return JournalPatch(offset, cursor.take(length), before)
    digests = tuple(cursor.take(_DIGEST) for _ in sector_pieces(offset, length))
    return JournalPatch(offset, cursor.take(length), None, digests)


class _Cursor:
    """Takes bytes off the front, never more than there are."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, length: int) -> bytes:
        if length > self.left:
            raise FormatError("The journal is damaged: a part of it is longer than the whole.")
        self._at += length
        return bytes(self._data[self._at - length : self._at])

    def count(self) -> int:
        number: int = _COUNT.unpack(self.take(_COUNT.size))[0]
        return number

    def finish(self) -> None:
        if self.left:
            raise FormatError(f"The journal is damaged: {self.left} bytes follow its end.")
