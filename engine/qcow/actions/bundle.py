"""A copy of an image without guest data, for bug reports: it gives the same findings.

What a check reads is what the copy needs.  So a check is made whose reads are noted; those parts,
and the header and the small tables, are written at their places into a sparse file of the same
length.  Nothing of them is taken that looks like guest data (:mod:`.bundle_sieve`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

from ..edit.locking import lock_for_writing
from ..errors import EditRefused, GuestDataError
from ..image.image import Image
from ..inspect.check import CheckResult, check
from ..inspect.triage import LeakClass, triage
from ..jobs import CancelToken, ProgressCallback
from ..layout.geometry import Geometry
from ..layout.header_cluster import used_ranges
from ..layout.luks import HEADER_LENGTH as LUKS_LENGTH
from ..layout.luks import KEY_SLOTS
from ..layout.luks import MAGIC as LUKS_MAGIC
from ..record import record
from ..storage.creating import NewFile
from ..storage.identity import identity_of
from ..storage.tracing import TracingStorage
from ..text import safe
from .bundle_names import Redaction
from .bundle_sieve import Sieve

#: What an unfinished list of extensions is judged by lies behind its last good one.
_NEXT_EXTENSION: Final = 16
#: What the entry that cannot be parsed is judged by lies behind the last good one.
_NEXT_SNAPSHOT: Final = 40
_FIRST: Final = 512
_PIECE: Final = 1 << 20
#: Places within a LUKS header: digest and salt of the master key, salts of the key slots.
_LUKS_SECRET: Final = ((112, 20), (132, 32), *((208 + 48 * i + 8, 32) for i in range(KEY_SLOTS)))
_LUKS_UUID: Final = (168, 40)
#: Leaked clusters that are tables, and so worth having.
_TABLES: Final = (
    LeakClass.OLD_REFCOUNT_BLOCK,
    LeakClass.OLD_REFCOUNT_TABLE,
    LeakClass.OLD_L1,
    LeakClass.OLD_L2,
    LeakClass.ORPHAN_L2,
)


@record
class Bundled:
    """What was made.  ``length`` and ``metadata`` (what was copied) are bytes.

    ``withheld``: bytes read as tables that look like guest data and were left out.  ``faithful``:
    whether the copy's check gives the same counts and codes.  ``result``: that check, without
    decoding compressed clusters.
    """

    length: int
    metadata: int
    withheld: int
    faithful: bool
    redacted: bool
    result: CheckResult

    def to_json(self) -> dict[str, Any]:
        return {
            "length": self.length,
            "metadata": self.metadata,
            "withheld": self.withheld,
            "same-findings": self.faithful,
            "redacted": self.redacted,
            "corruptions": self.result.corruptions + self.result.extra_corruptions,
            "leaks": self.result.leaks + self.result.extra_leaks,
            "check-errors": self.result.check_errors,
        }


def bundle(
    image: Image,
    out: str,
    *,
    redact: bool = False,
    force: bool = False,
    allow_network: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Bundled:
    """Write the metadata of ``image`` to the new file ``out``, durably; see the module.

    ``redact``: names (of snapshots, bitmaps, other files) become others of the same length.
    ``force``: a file called ``out`` gives way.  Raises EditRefused, StorageError, Cancelled.
    """
    there = identity_of(out)
    if there is not None and not force:
        raise EditRefused(f"'{safe(out)}' exists: name another file, or --force to replace it.")
    if there is not None and there == image.storage.identity():
        raise EditRefused(f"'{safe(out)}' is the image itself: name another file.")
    with ExitStack() as held:
        if there is not None:
            access = held.enter_context(lock_for_writing(out, allow_network=allow_network))
            if access.file.is_device:
                raise EditRefused(f"'{safe(out)}' is a device: a bundle goes to a file.")
        work = _Bundle(image, redact, progress, cancel)
        new = held.enter_context(NewFile(out))
        new.file.truncate(image.storage.size())
        written = 0
        for offset, data in work.pieces():
            if any(data):
                new.file.write(offset, data)
                written += len(data)
        result = check(Image(new.file), decode=False, cancel=cancel)
        new.publish(replace=force and there is not None)
        same = _gist(result) == _gist(work.checked)
        size = image.storage.size()
        return Bundled(size, written, work.withheld, same, redact, result)


def _gist(result: CheckResult) -> tuple[object, ...]:
    return (
        (result.corruptions, result.leaks, result.check_errors),
        (result.extra_corruptions, result.extra_leaks, result.image_end_offset),
        sorted((finding.code, finding.count) for finding in result.findings),
    )


class _Bundle:
    def __init__(
        self,
        image: Image,
        redact: bool,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> None:
        self._image = image
        self._names = Redaction(image) if redact else None
        self._progress = progress
        self._cancel = cancel
        self._sieve: Sieve | None = None
        self._tracing = TracingStorage(image.storage)
        traced = Image(self._tracing)
        self._tracing.reads.clear()  # those of opening: they go beyond what is a table
        self.checked = check(traced, decode=False, progress=progress, cancel=cancel)
        self._reads = sorted(set(self._tracing.reads))

    @property
    def withheld(self) -> int:
        """Bytes left out because they look like guest data."""
        return 0 if self._sieve is None else self._sieve.withheld

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of everything that belongs into the copy, the header last."""
        image = self._image
        geometry = image.geometry
        if geometry is not None:
            yield from self._tables(geometry)
            yield from self._small(geometry)
        yield from self._luks()
        yield from self._header()

    def _tables(self, geometry: Geometry) -> Iterator[tuple[int, bytes]]:
        image, size = self._image, self._image.storage.size()
        try:
            self._sieve = Sieve(image, geometry, self._progress, self._cancel)
            leaked = triage(image, progress=self._progress, cancel=self._cancel).of(*_TABLES)
        except GuestDataError:
            return
        lost = [
            (int(cluster) << geometry.cluster_bits, geometry.cluster_size) for cluster in leaked
        ]
        for start, length in (*self._reads, *lost):
            if self._cancel is not None:
                self._cancel.check()
            for offset, part in _apart(start, min(length, max(0, size - start))):
                if offset + part <= geometry.cluster_size:
                    continue  # in the header's cluster: nothing of it is a table
                yield offset, self._sieve.sifted(offset, image.storage.read(offset, part))

    def _small(self, geometry: Geometry) -> Iterator[tuple[int, bytes]]:
        """The snapshot table and the bitmap directory, as far as they can be parsed."""
        image = self._image
        header = image.header
        places = []
        if header.nb_snapshots and header.snapshots_offset >= geometry.cluster_size:
            places.append((header.snapshots_offset, self._snapshot_bytes(geometry)))
        if image.bitmap_directory is not None and image.bitmaps:
            places.append(image.bitmap_directory)
        for offset, length in places:
            if not length or self._sieve is None or self._sieve.refuses(offset, length):
                continue
            data = image.storage.read(offset, length)
            yield offset, self._redacted(offset, data)

    def _snapshot_bytes(self, geometry: Geometry) -> int:
        """Bytes of the snapshot table, with the head of an entry that cannot be parsed."""
        image = self._image
        length = image.snapshot_table_length
        if len(image.snapshots) == image.header.nb_snapshots:
            return length
        head = image.storage.read(image.header.snapshots_offset + length, _NEXT_SNAPSHOT)
        l1_offset = int.from_bytes(head[:8], "big")
        is_entry = l1_offset % geometry.cluster_size == 0 and l1_offset < image.storage.size()
        return length + _NEXT_SNAPSHOT if is_entry else length

    def _luks(self) -> Iterator[tuple[int, bytes]]:
        """The plain fields of the LUKS header: no salt, no digest, no key material."""
        crypto = self._image.crypto
        if crypto is None:
            return
        data = bytearray(self._image.storage.read(crypto.offset, LUKS_LENGTH))
        if len(data) < LUKS_LENGTH or data[: len(LUKS_MAGIC)] != LUKS_MAGIC:
            return
        places = (*_LUKS_SECRET, _LUKS_UUID) if self._names is not None else _LUKS_SECRET
        for at, length in places:
            data[at : at + length] = bytes(length)
        yield crypto.offset, bytes(data)

    def _header(self) -> Iterator[tuple[int, bytes]]:
        image = self._image
        if image.geometry is None:
            length = min(_FIRST, max(image.header.header_length, 72))
            yield 0, image.storage.read(0, length)
            return
        cluster = image.storage.read(0, image.geometry.cluster_size)
        (start, end), *names = used_ranges(cluster)
        limit = image.header.extension_area[1]
        for low, high in ((start, min(limit, end + _NEXT_EXTENSION)), *names):
            yield low, self._redacted(low, cluster[low:high])

    def _redacted(self, offset: int, data: bytes) -> bytes:
        return data if self._names is None else self._names.applied(offset, data)


def _apart(start: int, length: int) -> Iterator[tuple[int, int]]:
    """A range in parts of bounded size, each a multiple of it from the start."""
    for at in range(start, start + length, _PIECE):
        yield at, min(_PIECE, start + length - at)
