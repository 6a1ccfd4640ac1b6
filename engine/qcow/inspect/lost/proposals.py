"""Which headers fit the structures that are still there: each is tried, and judged by a check."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...errors import FormatError, UsageError
from ...image.image import Image
from ...image.tables import read_l1
from ...jobs import CancelToken, ProgressCallback, Throttle
from ...layout.constants import (
    COMPRESSION_TYPE,
    CRYPT_LUKS,
    CRYPT_NONE,
    EXT_CRYPTO,
    EXTENDED_L2,
    MAX_REFCOUNT_TABLE_BYTES,
    REFCOUNT_TABLE_OFFSET_MASK,
)
from ...layout.extensions import CryptoExtension
from ...layout.geometry import Geometry
from ...layout.header import Header
from ...layout.header_cluster import HeaderCluster
from ...layout.luks import HEADER_LENGTH, parse_luks
from ...layout.snapshots import NeedMoreBytes, Snapshot, SnapshotEntryError, parse_snapshot
from ...layout.tables import OFFSETS, U64, decode_refcounts, decode_u64
from ...record import record
from ...storage.base import Storage
from ...storage.overlay import OverlayStorage
from ...text import plural, size_and_bytes
from ...text import size as size_of
from ..check import check
from ..guest_end import mapped_end
from .runs import Runs
from .sectors import SECTOR, Sectors, l1_candidates, scan_sectors

#: Headers that are tried with a check of the whole image, at most.
_TRIED = 48
_SHOWN = 8
#: With one that leaves nothing open among them, no more than these.
_ENOUGH = 8
_HEADER_LENGTH = 112


@record
class Proposal:
    """A header that fits.  ``size`` is the virtual size if the image says it anywhere, else None.

    ``least``, ``most``: bytes of the smallest disk that has all clusters mapped, and that the L1
    table could map with the room it has.  ``errors``, ``leaks``: of a check with it.
    ``evidence``: sentences.
    """

    header: Header
    extensions: tuple[tuple[int, bytes], ...]
    size: int | None
    least: int
    most: int
    errors: int
    leaks: int
    evidence: tuple[str, ...]

    @property
    def geometry(self) -> Geometry:
        header = self.header
        return Geometry(
            header.version,
            header.cluster_bits,
            header.refcount_order,
            header.extended_l2,
            header.compression_type,
        )

    def first_bytes(
        self,
        size: int | None = None,
        backing: bytes | None = None,
        backing_format: bytes | None = None,
    ) -> bytes:
        """The header and its extensions, filled up to whole sectors: what goes to byte 0.

        ``size``: the virtual size; needed when :attr:`size` is None.  ``backing``: the name of a
        backing file, which nothing but the lost header said.  Raises UsageError for a size that is
        missing, no multiple of 512 or not possible, and for a name that is too long.
        """
        wanted = self.size if size is None else size
        if wanted is None:
            raise UsageError("The size of the disk is not known any more: say it (size=SIZE).")
        if wanted % 512 or not self.least <= wanted <= self.most:
            raise UsageError(
                f"The disk cannot have {size_and_bytes(wanted)}: it has "
                f"{size_and_bytes(self.least)} at least, {size_and_bytes(self.most)} at most, and "
                "a multiple of 512 bytes."
            )
        cluster = HeaderCluster(self.header, self.extensions).with_header(
            size=wanted, l1_size=max(self.header.l1_size, self.geometry.l1_entries(wanted))
        )
        if backing is not None:
            cluster = cluster.with_backing(backing, backing_format)
        made = cluster.encode()
        return made + bytes(-len(made) % SECTOR)


@record
class LostImage:
    """What a scan found.  ``proposals``: the best first.

    ``tables``: how many sectors look like tables.  ``complete``: whether the whole file was seen.
    """

    proposals: tuple[Proposal, ...]
    tables: int
    complete: bool


def scan_lost(
    storage: Storage,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> LostImage:
    """Look for qcow2 structures in a file without a usable header; nothing is written.

    Raises Cancelled, StorageError.
    """
    tell = Throttle(progress)
    sectors = scan_sectors(
        storage, cancel, lambda done, total: tell("looking for tables", done, total, "bytes")
    )
    found: list[Proposal] = []
    with OverlayStorage(storage) as overlay:
        search = _Search(storage, overlay, sectors, cancel)
        for number, tried in enumerate(search.headers()):
            clean = any(not p.errors and not p.leaks for p in found)
            if number == _TRIED or (clean and number >= _ENOUGH):
                break
            tell("trying headers", number, _TRIED, "headers")
            proposal = search.judged(*tried)
            if proposal is not None:
                found.append(proposal)
    found.sort(key=lambda p: (p.errors, p.leaks, -p.header.nb_snapshots, p.header.extended_l2))
    return LostImage(tuple(found[:_SHOWN]), len(sectors.numbers), sectors.complete)


class _Search:
    def __init__(
        self,
        storage: Storage,
        overlay: OverlayStorage,
        sectors: Sectors,
        cancel: CancelToken | None,
    ) -> None:
        self._storage = storage
        self._sectors = sectors
        self._cancel = cancel
        self._size = storage.size()
        self._overlay = overlay

    def headers(self) -> Iterator[tuple[Header, int, tuple[Snapshot, ...], list[str]]]:
        """Headers to be tried, those of the refcount table that fits best first; L1 entries."""
        # By the bytes that are counted: what is no refcount block counts little, if anything.
        tables = sorted(self._refcount_tables(), key=lambda found: -(found[0] << found[1]))
        for score, bits, order, offset, clusters in tables[:12]:
            plain = Geometry(3, bits, order, False, 0)
            why = [
                f"The refcount table at {offset:#x} and its blocks count themselves, {score} "
                f"clusters in all, with clusters of {size_of(1 << bits)}."
            ]
            places = self._snapshot_tables(plain)
            taken = {s.l1_table_offset for _, found in places for s in found}
            runs = Runs(self._storage, plain, self._sectors, offset, clusters)
            likely = l1_candidates(self._storage, plain, 0, self._cancel, self._sectors)
            places_of_l1 = dict.fromkeys(runs.around(at) for at in likely if at not in taken)
            for l1, length in places_of_l1:
                for place, snapshots in ((0, ()), *places)[::-1][:3]:
                    for extended in (False, True) if bits >= 14 else (False,):
                        yield (
                            _header(plain, extended, l1, offset, clusters, place, snapshots),
                            length // 8,
                            snapshots,
                            [*why, f"The table at {l1:#x} names tables, as an L1 table does."],
                        )

    def _refcount_tables(self) -> Iterator[tuple[int, int, int, int, int]]:
        """(clusters counted, cluster bits, refcount order, offset, clusters) of each that fits."""
        sectors = self._sectors
        flat = np.flatnonzero((sectors.copied == 0) & ((sectors.joined & np.uint64(511)) == 0))
        for index in flat[:65536].tolist():
            offset = int(sectors.numbers[index]) * SECTOR
            joined = int(sectors.joined[index]) | offset
            most = min(21, (joined & -joined).bit_length() - 1)
            words = decode_u64(self._storage.read(offset, SECTOR))
            if int(words[0]) == 0 or int(words[0]) & 511:
                continue
            for bits in range(9, most + 1):
                for order in range(7):
                    score = self._counts(words, bits, order, offset)
                    if score:
                        yield score, bits, order, offset, self._clusters(offset, bits, order)

    def _counts(self, words: U64, bits: int, order: int, offset: int) -> int:
        """How many clusters the first block counts; 0 when it does not count what it must."""
        size = 1 << bits
        block = int(words[0]) & REFCOUNT_TABLE_OFFSET_MASK
        data = self._storage.read(block, size)
        counts = decode_refcounts(data, order)
        # What lies in front of the block's reach must be counted: header, table, block.
        for cluster in (0, offset >> bits, block >> bits):
            if cluster < len(counts) and counts[cluster] == 0:
                return 0
        clusters = -(-self._size // size)
        if bool((counts[clusters:] != 0).any()) or not (offset >> bits) < len(counts):
            return 0
        inside = counts[: min(clusters, len(counts))]
        used = int(np.count_nonzero(inside))
        # Counts are small: read at another width they are not.
        large = int(np.count_nonzero(inside > 255))
        return 0 if large * 8 > used else used

    def _clusters(self, offset: int, bits: int, order: int) -> int:
        """Clusters of the refcount table: as many as are counted in a row and look like one."""
        per_block = (8 << bits) >> order
        clusters = (self._size + (1 << bits) - 1) >> bits
        needed = -(-clusters // per_block)
        least = -(-needed * 8 >> bits) or 1
        return min(max(1, least), MAX_REFCOUNT_TABLE_BYTES >> bits or 1)

    def _snapshot_tables(self, geometry: Geometry) -> list[tuple[int, tuple[Snapshot, ...]]]:
        """(offset, entries) of clusters that parse as snapshot tables."""
        found: list[tuple[int, tuple[Snapshot, ...]]] = []
        size = geometry.cluster_size
        clusters = min(-(-self._size // size), 1 << 18)
        buffer = bytearray(512 * 40)
        for first in range(1, clusters, 512):
            if self._cancel is not None:
                self._cancel.check()
            offsets = [each * size for each in range(first, min(first + 512, clusters))]
            view = memoryview(buffer)[: len(offsets) * 40]
            self._storage.read_pieces(offsets, 40, view)
            rows = np.frombuffer(view, dtype=np.uint8).reshape(-1, 40)
            l1 = rows[:, :8].copy().view(">u8")[:, 0].astype(np.uint64)
            ids = rows[:, 12:14].copy().view(">u2")[:, 0]
            extra = rows[:, 36:40].copy().view(">u4")[:, 0]
            likely = (l1 != 0) & (l1 < np.uint64(self._size)) & (l1 % np.uint64(size) == 0)
            likely &= (ids > 0) & (ids < 20) & (extra <= 1024)
            for row in np.flatnonzero(likely).tolist():
                entries = self._entries(offsets[row], size)
                if entries:
                    found.append((offsets[row], entries))
        return sorted(found, key=lambda each: -len(each[1]))[:2]

    def _entries(self, offset: int, size: int) -> tuple[Snapshot, ...]:
        data = self._storage.read(offset, max(64 << 10, size))
        found: list[Snapshot] = []
        at = 0
        while True:
            try:
                entry, at = parse_snapshot(data, at, len(found), offset)
            except (NeedMoreBytes, SnapshotEntryError):
                break
            placed = 0 < entry.l1_table_offset < self._size and not entry.l1_table_offset % size
            if not (placed and entry.l1_size and entry.id.isdigit() and entry.name):
                break
            found.append(entry)
        return tuple(found)

    def judged(
        self, header: Header, room: int, snapshots: tuple[Snapshot, ...], why: list[str]
    ) -> Proposal | None:
        """What a check says of the image with that header; ``room``: entries of its L1 table."""
        extensions = self._extensions(header)
        method = CRYPT_LUKS if extensions else CRYPT_NONE
        cluster = HeaderCluster(header, extensions).with_header(crypt_method=method)
        geometry = Geometry(
            header.version, header.cluster_bits, header.refcount_order, header.extended_l2, 0
        )
        l1 = read_l1(self._storage, header.l1_table_offset, room)
        used = np.flatnonzero(l1 & OFFSETS)
        entries = int(used[-1]) + 1 if len(used) else 1
        said = {s.disk_size for s in snapshots if s.disk_size is not None}
        entries = max([entries, *(geometry.l1_entries(size) for size in said)])
        cluster = cluster.with_header(l1_size=entries, size=entries * geometry.l2_span)
        found = self._checked(cluster)
        if found is None:
            return None
        errors, leaks, packed, image = found
        if packed:
            other = cluster.with_header(
                compression_type=1,
                incompatible_features=cluster.header.incompatible_features | COMPRESSION_TYPE,
            )
            plain, zstd = self._checked(cluster, decode=True), self._checked(other, decode=True)
            if plain is not None and zstd is not None and zstd[0] < plain[0]:
                cluster, (errors, leaks, _, image) = other, zstd
                why = [*why, "Compressed clusters unpack as zstd."]
        least = self._least(image, geometry)
        size = max(said) if said and max(said) >= least else None
        if snapshots:
            why = [*why, f"The snapshot table lists {plural(len(snapshots), 'snapshot')}."]
        text = f"{errors} errors and {leaks} leaks" if errors or leaks else "no error and no leak"
        return Proposal(
            cluster.header,
            cluster.extensions,
            size,
            least,
            max(entries, room) * geometry.l2_span,
            errors,
            leaks,
            (*why, f"With this header a check of the whole image finds {text}."),
        )

    def _checked(
        self, cluster: HeaderCluster, *, decode: bool = False
    ) -> tuple[int, int, int, Image] | None:
        """(errors, leaks, compressed clusters, image) with that header."""
        made = cluster.encode()
        try:
            self._overlay.write(0, made + bytes(-len(made) % SECTOR))
            image = Image(self._overlay)
        except FormatError:
            return None
        if image.unusable is not None:
            return None
        result = check(image, cancel=self._cancel, decode=decode)
        errors = result.corruptions + result.extra_corruptions + result.check_errors
        return errors, result.leaks + result.extra_leaks, result.compressed_clusters, image

    def _least(self, image: Image, geometry: Geometry) -> int:
        """Bytes of the smallest disk, which ends in the first sector of the last cluster mapped."""
        vm_state = any(snapshot.vm_state_size for snapshot in image.snapshots)
        mapped = mapped_end(image, vm_state)
        return ((mapped - 1) << geometry.cluster_bits) + SECTOR if mapped else 0

    def _extensions(self, header: Header) -> tuple[tuple[int, bytes], ...]:
        """The encryption header extension, when a LUKS header lies at the start of a cluster."""
        size = header.cluster_size
        for offset in range(size, min(self._size, 64 * size), size):
            if self._storage.read(offset, 6) != b"LUKS\xba\xbe":
                continue
            luks = parse_luks(self._storage.read(offset, HEADER_LENGTH))
            if luks is not None and not luks.faults():
                place = CryptoExtension(offset, luks.payload_offset)
                return ((EXT_CRYPTO, place.encode()),)
        return ()


def _header(
    geometry: Geometry,
    extended: bool,
    l1: int,
    refcount_table: int,
    refcount_clusters: int,
    snapshot_table: int,
    snapshots: tuple[Snapshot, ...],
) -> Header:
    # Version 3 says all that version 2 can, except about snapshots that do not record their size.
    old = any(snapshot.disk_size is None for snapshot in snapshots)
    return Header(
        version=2 if old else 3,
        backing_file_offset=0,
        backing_file_size=0,
        cluster_bits=geometry.cluster_bits,
        size=0,
        crypt_method=0,
        l1_size=0,
        l1_table_offset=l1,
        refcount_table_offset=refcount_table,
        refcount_table_clusters=refcount_clusters,
        nb_snapshots=len(snapshots),
        snapshots_offset=snapshot_table,
        incompatible_features=EXTENDED_L2 if extended and not old else 0,
        compatible_features=0,
        autoclear_features=0,
        refcount_order=geometry.refcount_order,
        header_length=72 if old else _HEADER_LENGTH,
        compression_type=0,
        padding=b"" if old else bytes(7),
    )
