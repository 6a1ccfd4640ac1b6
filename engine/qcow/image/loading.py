"""Reading the small structures of an image, each tolerant of the others being damaged."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..findings import Finding, Range, Severity
from ..layout import header_rules as rules
from ..layout import problems as P
from ..layout.bitmaps import BitmapDirectoryError, BitmapEntry, parse_bitmap_directory
from ..layout.constants import (
    BITMAPS_VALID,
    CRYPT_LUKS,
    INT64_MAX,
    MAX_BITMAP_DIRECTORY_BYTES,
    MAX_BITMAPS,
    MAX_SNAPSHOT_TABLE_BYTES,
)
from ..layout.extensions import (
    BitmapsExtension,
    CryptoExtension,
    ExtensionArea,
    HeaderExtension,
    parse_extensions,
)
from ..layout.features import FeatureName, parse_feature_names
from ..layout.geometry import Geometry
from ..layout.header import Header
from ..layout.luks import HEADER_LENGTH as LUKS_HEADER_LENGTH
from ..layout.luks import LuksHeader, parse_luks
from ..layout.snapshots import NeedMoreBytes, Snapshot, SnapshotEntryError, parse_snapshot
from ..storage.base import Storage
from ..storage.gate import leads_outside
from ..text import safe

_FIRST_READ = 4096
_TABLE_READ = 64 << 10


@dataclass(slots=True)
class Loaded:
    """What could be read; see :class:`qcow.image.image.Image` for the meaning of each."""

    header: Header
    geometry: Geometry | None = None
    extensions: tuple[HeaderExtension, ...] = ()
    feature_names: tuple[FeatureName, ...] = ()
    backing_name: bytes | None = None
    backing_format: bytes | None = None
    data_file: bytes | None = None
    snapshots: tuple[Snapshot, ...] = ()
    snapshot_table_length: int = 0
    bitmaps: tuple[BitmapEntry, ...] = ()
    bitmap_directory: tuple[int, int] | None = None
    bitmaps_valid: bool = False
    crypto: CryptoExtension | None = None
    luks: LuksHeader | None = None
    found: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Gravest first, otherwise in the order of the file."""
        return tuple(sorted(self.found, key=lambda finding: -finding.severity))


def load(storage: Storage) -> Loaded | None:
    """Read the header and the small tables; None when the file does not start with the magic."""
    head = storage.read(0, _FIRST_READ)
    if not Header.has_magic(head):
        return None
    header = Header.parse(head)
    loaded = Loaded(header)
    geometry, faults = rules.geometry_of(header)
    loaded.found += faults
    if len(head) < 72 or (header.version >= 3 and len(head) < 104):
        loaded.found.append(
            Finding(
                P.HEADER_TRUNCATED,
                f"The file ends after {len(head)} bytes, inside the header.",
                structure="header",
            )
        )
    if geometry is None:
        return loaded
    file_size = storage.size()
    cluster = head[: geometry.cluster_size]
    if geometry.cluster_size > len(head) == _FIRST_READ:
        cluster = storage.read(0, geometry.cluster_size)
        header = loaded.header = Header.parse(cluster)
    area = _extensions(loaded, geometry, cluster)
    features = rules.feature_findings(header, loaded.feature_names)
    loaded.found += features
    if any(finding.severity is Severity.ERROR for finding in features):
        return loaded
    loaded.geometry = geometry
    loaded.found += rules.table_findings(header, geometry, file_size)
    loaded.found += rules.encryption_findings(header, has_crypto_extension=area.crypto is not None)
    loaded.found += rules.data_file_findings(header, area.data_file)
    _backing(loaded, geometry, cluster, area)
    _references(loaded, storage)
    _snapshots(loaded, geometry, storage, file_size)
    _bitmaps(loaded, geometry, storage, area.bitmaps)
    _luks(loaded, geometry, storage)
    return loaded


def _extensions(loaded: Loaded, geometry: Geometry, cluster: bytes) -> ExtensionArea:
    header = loaded.header
    start = header.header_length
    end = geometry.cluster_size
    if start < header.backing_file_offset <= end:
        end = header.backing_file_offset
    area = parse_extensions(cluster[start:end], start, end - start)
    loaded.extensions = area.extensions
    loaded.feature_names = parse_feature_names(area.feature_names)
    loaded.data_file = area.data_file
    loaded.backing_format = area.backing_format
    loaded.crypto = area.crypto
    loaded.found += area.problems
    return area


def _backing(loaded: Loaded, geometry: Geometry, cluster: bytes, area: ExtensionArea) -> None:
    header = loaded.header
    if header.backing_file_offset == 0:
        return
    fault = rules.backing_name_fault(header, geometry)
    if fault is not None:
        loaded.found.append(
            Finding(
                P.BACKING_NAME_INVALID,
                f"The backing file name cannot be used: {fault}.",
                structure="backing file",
            )
        )
        return
    start = header.backing_file_offset
    name = cluster[start : start + header.backing_file_size].ljust(header.backing_file_size, b"\0")
    if not name:
        loaded.found.append(
            Finding(
                P.BACKING_NAME_EMPTY,
                f"The backing file name at {start:#x} has no bytes.",
                structure="backing file",
            )
        )
        return
    loaded.backing_name = name
    if b"\0" in name:
        loaded.found.append(
            Finding(
                P.BACKING_NAME_INVALID,
                f'The backing file name "{safe(name, 80)}" holds a NUL byte: '
                "programs would cut it there and open another file.",
                structure="backing file",
            )
        )
    if area.backing_format is None:
        loaded.found.append(
            Finding(
                P.BACKING_FORMAT_MISSING,
                f'The format of the backing file "{safe(name, 80)}" is not stated.',
                structure="backing file",
            )
        )


def _references(loaded: Loaded, storage: Storage) -> None:
    """Second files named in a way that could lead anywhere on this host."""
    for purpose, name in (("backing file", loaded.backing_name), ("data file", loaded.data_file)):
        why = leads_outside(storage.path, name) if name else None
        if name and why:
            loaded.found.append(
                Finding(
                    P.REFERENCE_UNTRUSTED,
                    f'The {purpose} "{safe(name, 80)}" is not to be trusted: {why}.',
                    structure=purpose,
                )
            )


def _snapshots(loaded: Loaded, geometry: Geometry, storage: Storage, file_size: int) -> None:
    header = loaded.header
    if header.nb_snapshots == 0 or any(
        finding.kind is P.SNAPSHOT_TABLE_INVALID for finding in loaded.found
    ):
        return
    table = _SnapshotTable(storage, header.snapshots_offset, file_size)
    found: list[Snapshot] = []
    try:
        for index in range(header.nb_snapshots):
            found.append(table.next(index))
    except SnapshotEntryError as error:
        loaded.found.append(
            Finding(
                P.SNAPSHOT_TABLE_INVALID,
                f"{error.reason} {header.nb_snapshots - len(found)} of "
                f"{header.nb_snapshots} snapshots cannot be listed.",
                structure="snapshot table",
            )
        )
    loaded.snapshots = tuple(found)
    loaded.snapshot_table_length = table.at
    _judge_snapshots(loaded, geometry, file_size)


class _SnapshotTable:
    """Reads the table in growing pieces, so that a lying count costs nothing."""

    def __init__(self, storage: Storage, offset: int, file_size: int) -> None:
        self._storage = storage
        self._offset = offset
        self._limit = max(0, min(MAX_SNAPSHOT_TABLE_BYTES, file_size - offset))
        self._data = b""
        self._base = 0  # where _data starts, relative to the table
        self.at = 0  # relative to the table: where the next entry starts

    def next(self, index: int) -> Snapshot:
        while True:
            try:
                snapshot, end = parse_snapshot(
                    self._data, self.at - self._base, index, self._offset + self._base
                )
            except NeedMoreBytes:
                self._more(index)
                continue
            self.at = self._base + end
            return snapshot

    def _more(self, index: int) -> None:
        have = self._base + len(self._data)
        if have >= self._limit:
            raise SnapshotEntryError(
                index,
                f"Snapshot table entry {index} is incomplete: it runs past the end of the "
                "file or of the 64 MiB a table may have.",
            )
        step = max(_TABLE_READ, len(self._data))
        rest = self._data[self.at - self._base :]
        more = self._storage.read(self._offset + have, min(step, self._limit - have))
        if not more:
            self._limit = have
        self._data = rest + more
        self._base = self.at


def _judge_snapshots(loaded: Loaded, geometry: Geometry, file_size: int) -> None:
    seen: dict[tuple[bytes, bytes], int] = {}
    for snapshot in loaded.snapshots:
        shown = f'Snapshot {safe(snapshot.id, 20)} ("{safe(snapshot.name, 60)}")'
        where = (Range(snapshot.entry_offset, snapshot.entry_length),)
        fault = rules.l1_fault(snapshot.l1_table_offset, snapshot.l1_size, geometry, file_size)
        size = loaded.header.virtual_size if snapshot.disk_size is None else snapshot.disk_size
        if fault is None and snapshot.l1_size == 0 and size > 0:
            fault = f"it is empty although the disk has {size} bytes"
        if fault is not None:
            loaded.found.append(
                Finding(
                    P.SNAPSHOT_ENTRY,
                    f"{shown} cannot be read: as for its L1 table, {fault}.",
                    structure="snapshot table",
                    host_ranges=where,
                )
            )
        odd = []
        if snapshot.disk_size is None and geometry.version >= 3:
            odd.append("its disk size is not recorded, which version 3 requires")
        if size > INT64_MAX or (
            fault is None and size > snapshot.l1_size * geometry.l2_span and snapshot.l1_size
        ):
            odd.append(f"its disk size {size} is more than its L1 table can map")
        span = snapshot.l1_size * geometry.l2_span
        if snapshot.vm_state_size > span:
            odd.append(
                f"its VM state of {snapshot.vm_state_size} bytes is more than its L1 table can map"
            )
        first = seen.setdefault((snapshot.id, snapshot.name), snapshot.index)
        if first != snapshot.index:
            odd.append(f"it has the same ID and name as table entry {first}")
        loaded.found += [
            Finding(
                P.SNAPSHOT_ODD, f"{shown}: {phrase}.", structure="snapshot table", host_ranges=where
            )
            for phrase in odd
        ]


def _bitmaps(
    loaded: Loaded, geometry: Geometry, storage: Storage, extension: BitmapsExtension | None
) -> None:
    if extension is None:
        return
    if not loaded.header.autoclear_features & BITMAPS_VALID:
        loaded.found.append(
            Finding(
                P.BITMAPS_STALE,
                f"{extension.nb_bitmaps} bitmap(s) are no longer valid.",
                structure="bitmaps",
            )
        )
    else:
        loaded.bitmaps_valid = True
    fault = _bitmaps_extension_fault(extension, geometry)
    if fault is None:
        loaded.bitmap_directory = (extension.directory_offset, extension.directory_size)
        data = storage.read(extension.directory_offset, extension.directory_size)
        if len(data) < extension.directory_size:
            fault = "The bitmap directory is cut off by the end of the file."
        else:
            try:
                loaded.bitmaps = parse_bitmap_directory(data, extension.nb_bitmaps)
            except BitmapDirectoryError as error:
                fault = str(error)
    if fault is not None and loaded.bitmaps_valid:
        loaded.found.append(Finding(P.BITMAPS_INVALID, fault, structure="bitmaps"))
    if loaded.bitmaps_valid:
        _judge_bitmaps(loaded, geometry)


def _bitmaps_extension_fault(extension: BitmapsExtension, geometry: Geometry) -> str | None:
    if geometry.version < 3:
        return "A version 2 image cannot hold bitmaps."
    if extension.reserved:
        return "The reserved field of the bitmaps extension is not zero."
    if extension.nb_bitmaps == 0:
        return "The bitmaps extension announces no bitmap."
    if extension.nb_bitmaps > MAX_BITMAPS:
        return f"The bitmaps extension announces {extension.nb_bitmaps} bitmaps."
    if extension.directory_offset % geometry.cluster_size or extension.directory_offset == 0:
        return (
            f"The bitmap directory offset {extension.directory_offset:#x} is not at the start "
            "of a cluster."
        )
    if not 0 < extension.directory_size <= MAX_BITMAP_DIRECTORY_BYTES:
        return f"The bitmap directory has an impossible size of {extension.directory_size} bytes."
    return None


def _judge_bitmaps(loaded: Loaded, geometry: Geometry) -> None:
    for entry in loaded.bitmaps:
        shown = f'Bitmap "{safe(entry.name, 60)}"'
        fault = entry.fault(geometry.cluster_size, loaded.header.virtual_size)
        if fault is not None:
            loaded.found.append(
                Finding(P.BITMAPS_INVALID, f"{shown} cannot be used: {fault}.", structure="bitmaps")
            )
        elif entry.in_use:
            loaded.found.append(
                Finding(
                    P.BITMAP_INCONSISTENT,
                    f"{shown} was not written back by the program that kept it.",
                    structure="bitmaps",
                )
            )


def _luks(loaded: Loaded, geometry: Geometry, storage: Storage) -> None:
    crypto = loaded.crypto
    if loaded.header.crypt_method != CRYPT_LUKS or crypto is None:
        return
    faults: list[str] = []
    if crypto.offset % geometry.cluster_size or crypto.offset > INT64_MAX:
        faults.append(
            f"The LUKS header offset {crypto.offset:#x} is not at the start of a cluster."
        )
    elif crypto.length < LUKS_HEADER_LENGTH:
        faults.append(
            f"The LUKS header has {crypto.length} bytes; {LUKS_HEADER_LENGTH} are needed."
        )
    else:
        luks = parse_luks(storage.read(crypto.offset, LUKS_HEADER_LENGTH))
        if luks is None:
            faults.append(f"There is no LUKS header at {crypto.offset:#x}.")
        else:
            loaded.luks = luks
            faults += luks.faults()
            if luks.payload_offset > crypto.length and not faults:
                faults.append(
                    f"The LUKS header and key material take {luks.payload_offset} bytes, "
                    f"but only {crypto.length} are reserved."
                )
            if luks.costly_slots:
                loaded.found.append(
                    Finding(
                        P.LUKS_COSTLY,
                        f"Unlocking would take an extreme number of iterations ({_costly(luks)}).",
                        structure="LUKS header",
                    )
                )
    loaded.found += [Finding(P.LUKS_INVALID, fault, structure="LUKS header") for fault in faults]


def _costly(luks: LuksHeader) -> str:
    names = []
    for index in luks.costly_slots:
        if index < 0:
            names.append(f"master key: {luks.master_key_iterations}")
        else:
            names.append(f"key slot {index}: {luks.slots[index].iterations}")
    return ", ".join(names)
