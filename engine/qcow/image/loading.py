"""Reading the small structures of an image, each tolerant of the others being damaged."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import StorageError
from ..findings import Finding, Severity
from ..layout import header_rules as rules
from ..layout import problems as P
from ..layout.bitmaps import BitmapEntry
from ..layout.constants import (
    CRYPT_LUKS,
    INT64_MAX,
)
from ..layout.extensions import (
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
from ..layout.snapshots import Snapshot
from ..storage.base import Storage
from ..storage.gate import leads_outside, same_file
from ..text import is_deceptive, safe
from .bitmap_directory import read_bitmap_directory
from .snapshot_table import read_snapshot_table

_FIRST_READ = 4096
_TABLE_READ = 64 << 10


class Loaded:
    """What could be read; see :class:`qcow.image.image.Image` for the meaning of each."""

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

    def __init__(self, header: Header) -> None:
        self.header = header
        self.found: list[Finding] = []

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
    area = _extensions(loaded, cluster)
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
    if not any(finding.kind is P.SNAPSHOT_TABLE_INVALID for finding in loaded.found):
        table = read_snapshot_table(storage, header, geometry, file_size)
        loaded.snapshots, loaded.snapshot_table_length = table.snapshots, table.length
        loaded.found += table.problems
    if area.bitmaps is not None:
        directory = read_bitmap_directory(storage, header, geometry, area.bitmaps)
        loaded.bitmaps, loaded.bitmaps_valid = directory.bitmaps, directory.valid
        loaded.bitmap_directory = directory.place
        loaded.found += directory.problems
    _luks(loaded, geometry, storage)
    _names(loaded)
    return loaded


def _extensions(loaded: Loaded, cluster: bytes) -> ExtensionArea:
    header = loaded.header
    start, end = header.extension_area
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
    """Second files named in a way that could lead anywhere on this host, or in a circle."""
    backing, data = loaded.backing_name, loaded.data_file
    for purpose, name in (("backing file", backing), ("data file", data)):
        if not name:
            continue
        shown = safe(name, 80)
        why = leads_outside(storage.path, name)
        if why:
            what = f'The {purpose} "{shown}" is not to be trusted: {why}.'
            loaded.found.append(Finding(P.REFERENCE_UNTRUSTED, what, structure=purpose))
        if same_file(storage, name):
            what = f'The image names itself, as "{shown}", as its {purpose}.'
            loaded.found.append(Finding(P.REFERENCE_SELF, what, structure=purpose))
    if backing and data and same_file(storage, backing, data):
        what = f'The file "{safe(backing, 80)}" is named as backing file and as data file.'
        loaded.found.append(Finding(P.REFERENCE_SELF, what, structure="data file"))


def _names(loaded: Loaded) -> None:
    """Names that would act on a terminal, one finding for each structure that holds any."""
    groups: tuple[tuple[str, str, Iterable[bytes | None]], ...] = (
        (
            "backing file",
            "backing file name or format",
            (loaded.backing_name, loaded.backing_format),
        ),
        ("data file", "data file name", (loaded.data_file,)),
        ("header extensions", "feature name", (record.name for record in loaded.feature_names)),
        (
            "snapshot table",
            "snapshot ID or name",
            (text for snapshot in loaded.snapshots for text in (snapshot.id, snapshot.name)),
        ),
        ("bitmaps", "bitmap name", (bitmap.name for bitmap in loaded.bitmaps)),
    )
    for structure, what, names in groups:
        deceptive = [name for name in names if name and is_deceptive(name)]
        if deceptive:
            first = safe(deceptive[0], 80)
            loaded.found.append(
                Finding(
                    P.NAME_DECEPTIVE,
                    f'A {what} holds hidden characters: "{first}".',
                    len(deceptive),
                    structure,
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
        try:
            luks = parse_luks(storage.read(crypto.offset, LUKS_HEADER_LENGTH))
        except StorageError as error:
            luks, missing = None, f"The LUKS header cannot be read: {error}"
        else:
            missing = f"There is no LUKS header at {crypto.offset:#x}."
        if luks is None:
            faults.append(missing)
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
