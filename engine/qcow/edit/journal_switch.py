"""Making a switch that one sector cannot hold, and finishing one that was interrupted.

The order of every such switch, each step durable before the next:

1. everything written to the image before;
2. the journal, under its own name: the *commit point*, from here on the change will be made;
3. in a version 3 image, when more than sector 0 changes: the corrupt bit in the old sector 0, so
   that QEMU does not write to a header that is half old and half new;
4. the patches outside sector 0, in the order of their offsets;
5. sector 0 in one write: what is in it and, with it, the corrupt bit as the new state has it;
6. the journal is removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import pairwise

from ..errors import (
    ChangedError,
    EditRefused,
    FormatError,
    IndeterminateError,
    StorageError,
    VerificationError,
)
from ..layout.constants import CORRUPT, MAGIC
from ..record import record
from ..storage.base import Storage, WritableStorage
from ..text import safe
from .folder import UNFINISHED, LocalFolder, discard, put
from .journal import (
    MAX_BYTES,
    Journal,
    JournalPatch,
    decode,
    encode,
    identity_of,
    journal_patch,
)
from .journal_place import JournalPlace
from .patch import SECTOR, Patch, sector_pieces

#: The byte of the header that holds the corrupt bit, and which images have it.
_MARK_BYTE = 79
_VERSION_3 = MAGIC + (3).to_bytes(4)


class Outcome(Enum):
    """What recovery found and did."""

    NOTHING = "nothing"  # no journal: nothing to do
    DISCARDED = "discarded"  # a journal that was never finished: the image was not touched
    ROLLED_FORWARD = "rolled forward"  # the image is now the new one, the journal gone
    REFUSED = "refused"  # journal and image were left alone; the reason says why


@record
class RecoveryResult:
    """``reason`` is a sentence, only with REFUSED; ``action`` what was completed or refused."""

    outcome: Outcome
    reason: str = ""
    action: str = ""  # raw text: it goes through ``safe()`` before it is shown
    txid: bytes = b""


def switch_through_journal(
    storage: WritableStorage,
    place: JournalPlace,
    patches: Iterable[Patch],
    action: str,
    *,
    txid: bytes | None = None,
    secret: bool = False,
) -> bytes:
    """Make all of ``patches`` or, after a crash and :func:`recover`, all or none of them.

    The caller holds the writer locks and has recovered what waited at every place.  ``action`` is
    told to the user when the change is completed later.  With ``secret`` no old byte is written to
    the journal.  Returns the transaction's 16 bytes of identity, ``txid`` or random ones.

    Raises, with the image untouched: ChangedError when a patch's old bytes are not in the image,
    EditRefused when something lies where the journal would be or the image has several names,
    StorageError or VerificationError when the journal could not be written.  IndeterminateError
    when something failed after that: recovery decides.  ValueError for patches that overlap.
    """
    ordered = sorted(patches, key=lambda patch: patch.offset)
    if not ordered or any(a.end > b.offset for a, b in pairwise(ordered)):
        raise ValueError("a switch has patches, and they do not overlap")
    if place.image_names > 1:
        raise EditRefused(
            f"'{safe(storage.name)}' has {place.image_names} names (hard links), and a journal is "
            "found from one of them only: remove the others, or copy the image."
        )
    storage.flush()
    for patch in ordered:
        if storage.read(patch.offset, len(patch.before)) != patch.before:
            raise ChangedError(
                f"'{safe(storage.name)}' is not what the change was made for: {len(patch.before)} "
                f"bytes at offset {patch.offset} are others; plan it again."
            )
    txid = os.urandom(16) if txid is None else txid
    journal = _journal_of(storage, ordered, action, txid, secret)
    _commit(place, encode(journal))
    try:
        _apply(storage, journal)
        place.folder.remove(place.name)
    except StorageError as error:
        raise IndeterminateError(
            f"The change of '{safe(storage.name)}' was interrupted: {error}. It is kept in the "
            f"journal '{place.shown}' and completed when the image is next opened for writing."
        ) from error
    return txid


def recover(
    storage: WritableStorage, place: JournalPlace, *, accept_copy: bool = False
) -> RecoveryResult:
    """Finish what a journal at ``place`` says, or find that nothing is to be done.

    The caller holds the writer locks and opens the image only afterwards.  ``accept_copy``: the
    user said that a journal made for another file (this one is a copy of it) may be used.

    Raises StorageError when the journal cannot be read or a write fails; calling it again is safe.
    """
    unfinished = place.name + UNFINISHED
    discarded = place.folder.exists(unfinished)
    if discarded:
        place.folder.remove(unfinished)
    try:
        data = place.folder.read(place.name, MAX_BYTES)
    except EditRefused as error:
        return RecoveryResult(Outcome.REFUSED, str(error))
    if data is None:
        return RecoveryResult(Outcome.DISCARDED if discarded else Outcome.NOTHING)
    try:
        journal = decode(data)
    except FormatError as error:
        # A journal gets its name when it is complete, so this is no interrupted write of one.
        return RecoveryResult(
            Outcome.REFUSED,
            f"{error} It cannot be used, and whether the image needs it cannot be told: check the "
            f"image, then move '{place.shown}' out of the way.",
        )
    flaw = _why_not(storage, place, journal, accept_copy)
    if flaw:
        sentence = (
            f"The journal '{place.shown}' is not applied, because {flaw}. It is kept; if the image "
            "is good as it is, move the journal out of the way."
        )
        return RecoveryResult(Outcome.REFUSED, sentence, journal.action, journal.txid)
    if not all(storage.read(p.offset, len(p.after)) == p.after for p in journal.patches):
        _apply(storage, journal)
    else:
        storage.flush()  # what is seen may be in the page cache of a killed process only
    place.folder.remove(place.name)
    return RecoveryResult(Outcome.ROLLED_FORWARD, "", journal.action, journal.txid)


def _journal_of(
    storage: Storage, patches: Sequence[Patch], action: str, txid: bytes, secret: bool
) -> Journal:
    marked = storage.read(0, 8) == _VERSION_3 and patches[-1].end > SECTOR
    kept = [journal_patch(patch, secret=secret) for patch in patches]
    if marked and not any(p.offset <= _MARK_BYTE < p.end for p in patches):
        same = storage.read(_MARK_BYTE, 1)
        kept.append(JournalPatch(_MARK_BYTE, same, same))
        kept.sort(key=lambda patch: patch.offset)
    return Journal(
        txid,
        identity_of(storage, kept),
        storage.identity() or (0, 0),
        time.time_ns(),
        os.fsencode(os.path.abspath(storage.path)) if storage.path else b"",
        action,
        marked,
        tuple(kept),
    )


def _commit(place: JournalPlace, data: bytes) -> None:
    """Make the journal durable, and be sure that it can be read."""
    folder = place.folder
    if place.to_make is not None:
        LocalFolder.private(place.to_make)
    if place.waits():
        raise EditRefused(
            f"'{place.shown}' is in the way: it may belong to an unfinished change of this image."
        )
    try:
        put(folder, place.name, data)
        if folder.read(place.name, MAX_BYTES) != data:
            raise VerificationError(
                f"The journal '{place.shown}' could not be read back; the image was not changed."
            )
    except (StorageError, VerificationError, EditRefused) as error:
        if place.waits() and not discard(folder, place.name):
            raise IndeterminateError(
                f"The journal '{place.shown}' could neither be made durable nor removed: {error} "
                "The image was not changed; if the journal is there when it is next opened for "
                "writing, the change is made then."
            ) from error
        raise


def _why_not(
    storage: Storage, place: JournalPlace, journal: Journal, accept_copy: bool
) -> str | None:
    if journal.patches[-1].end > storage.size():
        return "the image is shorter than what it changes"
    if place.bound_to_inode and not accept_copy:
        found = storage.identity() or (0, 0)
        # Not the device number: many file systems get another one at each start of the machine.
        if found[1] != journal.file[1]:
            return "it was made for another file (the image was copied or replaced since)"
    if identity_of(storage, journal.patches) != journal.identity:
        return "another program changed the header or the length of the image since"
    for patch in journal.patches:
        for index, piece in enumerate(sector_pieces(patch.offset, len(patch.after))):
            at = patch.offset + piece.start
            found_bytes = storage.read(at, piece.stop - piece.start)
            candidates = [found_bytes]
            if journal.marked and at <= _MARK_BYTE < at + len(found_bytes):
                candidates.append(_with_mark(found_bytes, _MARK_BYTE - at, False))
            if not any(patch.explains(index, piece, each) for each in candidates):
                return f"another program changed the image at offset {at} since"
    return None


def _apply(storage: WritableStorage, journal: Journal) -> None:
    """Steps 3 to 5.  In sector 0, only bytes of patches change."""
    outside: list[tuple[int, bytes]] = []
    sector = bytearray(storage.read(0, SECTOR))
    if journal.marked:
        storage.write(0, _with_mark(bytes(sector), _MARK_BYTE, True))
        storage.flush()
    for patch in journal.patches:
        inside = max(0, min(patch.end, SECTOR) - patch.offset)
        sector[patch.offset : patch.offset + inside] = patch.after[:inside]
        if inside < len(patch.after):
            outside.append((patch.offset + inside, patch.after[inside:]))
    for offset, data in outside:
        storage.write(offset, data)
    if outside:
        storage.flush()
    if journal.patches[0].offset < SECTOR:
        storage.write(0, bytes(sector))
        storage.flush()


def _with_mark(data: bytes, at: int, marked: bool) -> bytes:
    """``data`` with the corrupt bit set or not in its byte ``at``."""
    byte = data[at] | CORRUPT if marked else data[at] & ~CORRUPT
    return data[:at] + bytes((byte,)) + data[at + 1 :]
