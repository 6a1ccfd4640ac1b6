"""What a header must satisfy, field by field (qcow2 spec, "Header"; limits as QEMU keeps them)."""

from __future__ import annotations

from ..findings import Finding, FindingKind
from ..text import safe, size_and_bytes
from . import problems as P
from .constants import (
    COMPRESSION_NAMES,
    COMPRESSION_ZLIB,
    CRYPT_LUKS,
    DATA_FILE_RAW,
    INT32_MAX,
    INT64_MAX,
    KNOWN_AUTOCLEAR,
    KNOWN_COMPATIBLE,
    KNOWN_INCOMPATIBLE,
    MAX_CLUSTER_BITS,
    MAX_L1_BYTES,
    MAX_NAME,
    MAX_REFCOUNT_TABLE_BYTES,
    MAX_SNAPSHOTS,
    MIN_CLUSTER_BITS,
    V2_HEADER_LENGTH,
    V3_HEADER_LENGTH,
)
from .features import FeatureName, set_features
from .geometry import Geometry
from .header import Header


def _say(kind: FindingKind, what: str, structure: str = "header") -> Finding:
    return Finding(kind, what, structure=structure)


def geometry_of(header: Header) -> tuple[Geometry | None, list[Finding]]:
    """The geometry, or None with the findings that say why the tables cannot be interpreted."""
    found: list[Finding] = []
    if header.version not in (2, 3):
        name = "a qcow version 1 image" if header.version == 1 else f"version {header.version}"
        return None, [_say(P.HEADER_VERSION, f"The header says {name}; qcow2 is version 2 or 3.")]
    if not MIN_CLUSTER_BITS <= header.cluster_bits <= MAX_CLUSTER_BITS:
        return None, [
            _say(
                P.CLUSTER_SIZE,
                f"The cluster size is 2^{header.cluster_bits} bytes; 2^9 to 2^21 are possible.",
            )
        ]
    if header.version >= 3:
        length = header.header_length
        if length < V3_HEADER_LENGTH:
            found.append(
                _say(
                    P.HEADER_LENGTH,
                    f"The header is {length} bytes long; version 3 "
                    f"needs at least {V3_HEADER_LENGTH}.",
                )
            )
        elif length > header.cluster_size:
            found.append(
                _say(
                    P.HEADER_LENGTH,
                    f"The header is {length} bytes long, more than one "
                    f"cluster of {header.cluster_size} bytes.",
                )
            )
        elif length % 8:
            found.append(
                _say(
                    P.HEADER_LENGTH,
                    f"The header is {length} bytes long, which is not a multiple of 8.",
                )
            )
    if header.refcount_order > 6:
        found.append(
            _say(
                P.REFCOUNT_WIDTH,
                f"The refcount width is 2^{header.refcount_order} bits; at most 64 are possible.",
            )
        )
    if header.extended_l2 and header.cluster_bits < 14:
        found.append(
            _say(
                P.SUBCLUSTERS,
                f"Extended L2 entries with clusters of "
                f"{header.cluster_size} bytes give subclusters of "
                f"{header.cluster_size // 32} bytes; 512 are needed.",
            )
        )
    found += _compression(header)
    if found:
        return None, found
    return Geometry(
        header.version,
        header.cluster_bits,
        header.refcount_order,
        header.extended_l2,
        header.compression_type,
    ), []


def _compression(header: Header) -> list[Finding]:
    type_ = header.compression_type
    if type_ >= len(COMPRESSION_NAMES):
        return [
            _say(
                P.COMPRESSION,
                f"Compression type {type_} is unknown; 0 (zlib) and 1 (zstd) are defined.",
            )
        ]
    if type_ != COMPRESSION_ZLIB and not header.has_compression_type_bit:
        return [
            _say(
                P.COMPRESSION,
                f"Compression type {type_} is set, but the feature bit for it is not.",
            )
        ]
    if type_ == COMPRESSION_ZLIB and header.has_compression_type_bit:
        return [
            _say(
                P.COMPRESSION,
                "The compression type feature bit is set, but the type is the default (zlib).",
            )
        ]
    return []


def feature_findings(header: Header, names: tuple[FeatureName, ...]) -> list[Finding]:
    """Unknown bits (named by the image if it can), and the dirty and corrupt marks."""
    found = []
    unknown = header.incompatible_features & ~KNOWN_INCOMPATIBLE
    if unknown:
        listed = ", ".join(
            f"bit {bit.bit} ({bit.name})" for bit in set_features((unknown, 0, 0), names)
        )
        found.append(_say(P.FEATURE_UNKNOWN, f"Unknown incompatible feature: {listed}."))
    harmless = (
        0,
        header.compatible_features & ~KNOWN_COMPATIBLE,
        header.autoclear_features & ~KNOWN_AUTOCLEAR,
    )
    if any(harmless):
        listed = ", ".join(
            f"{bit.type} bit {bit.bit} ({bit.name})" for bit in set_features(harmless, names)
        )
        found.append(_say(P.FEATURE_UNKNOWN_HARMLESS, f"Unknown feature: {listed}."))
    if header.corrupt:
        found.append(_say(P.CORRUPT_BIT, "The image is marked corrupt."))
    if header.dirty:
        lazy = " It uses lazy refcounts." if header.lazy_refcounts else ""
        found.append(_say(P.DIRTY_BIT, "The image was not cleanly shut down." + lazy))
    return found


def table_findings(header: Header, geometry: Geometry, file_size: int) -> list[Finding]:
    """Sizes and offsets of the tables the header points at.  ``file_size`` in bytes."""
    return [
        *_size(header, geometry),
        *_l1(header, geometry, file_size),
        *_refcount_table(header, geometry),
        *_snapshot_table(header, geometry),
    ]


def _size(header: Header, geometry: Geometry) -> list[Finding]:
    if header.size > INT64_MAX or geometry.l1_entries(header.size) > INT32_MAX:
        return [
            _say(
                P.SIZE_TOO_BIG,
                f"The virtual size of {size_and_bytes(header.size)} is larger than an L1 table can "
                "map.",
            )
        ]
    if header.size % 512:
        return [
            _say(
                P.SIZE_UNALIGNED,
                f"The virtual size of {size_and_bytes(header.size)} is not a multiple of 512; a "
                f"guest sees {size_and_bytes(header.virtual_size)}.",
            )
        ]
    return []


def l1_fault(offset: int, entries: int, geometry: Geometry, file_size: int) -> str | None:
    """Why an L1 table (active or a snapshot's) cannot be used, as a phrase, or None."""
    length = entries * 8
    if length > MAX_L1_BYTES:
        return f"it has {entries} entries; at most {MAX_L1_BYTES // 8} are possible"
    if offset % geometry.cluster_size:
        return f"its offset {offset:#x} is not at the start of a cluster"
    if offset + length > INT64_MAX:
        return f"its offset {offset:#x} is impossible"
    if entries and offset >= file_size:
        return f"its offset {offset:#x} lies beyond the end of the file"
    if entries and offset == 0:
        return "its offset is 0, where the header is"
    return None


def _l1(header: Header, geometry: Geometry, file_size: int) -> list[Finding]:
    fault = l1_fault(header.l1_table_offset, header.l1_size, geometry, file_size)
    if fault is None:
        needed = geometry.l1_entries(header.size) if header.size <= INT64_MAX else 0
        if header.l1_size < needed:
            fault = f"it has {header.l1_size} entries, the virtual size needs {needed}"
    if fault is not None:
        return [_say(P.L1_INVALID, f"The active L1 table cannot be used: {fault}.", "L1 table")]
    end = header.l1_table_offset + header.l1_size * 8
    if header.l1_size and end > file_size:
        missing = (end - file_size) // 8 or 1
        return [
            Finding(
                P.L1_CUT,
                f"The file ends {end - file_size} bytes before the end of the "
                f"active L1 table; {missing} of {header.l1_size} entries are missing.",
                missing,
                "L1 table",
            )
        ]
    return []


def refcount_table_fault(header: Header, geometry: Geometry) -> str | None:
    """Why the refcount table cannot be used, as a phrase, or None."""
    offset, clusters = header.refcount_table_offset, header.refcount_table_clusters
    if clusters == 0:
        return "it has no clusters"
    if clusters << geometry.cluster_bits > MAX_REFCOUNT_TABLE_BYTES:
        return (
            f"it has {clusters} clusters; at most "
            f"{MAX_REFCOUNT_TABLE_BYTES >> geometry.cluster_bits or 1} are possible"
        )
    if offset % geometry.cluster_size:
        return f"its offset {offset:#x} is not at the start of a cluster"
    if offset + (clusters << geometry.cluster_bits) > INT64_MAX:
        return f"its offset {offset:#x} is impossible"
    if offset == 0:
        return "its offset is 0, where the header is"
    return None


def _refcount_table(header: Header, geometry: Geometry) -> list[Finding]:
    fault = refcount_table_fault(header, geometry)
    if fault is None:
        return []
    return [
        _say(
            P.REFCOUNT_TABLE_INVALID,
            f"The refcount table cannot be used: {fault}.",
            "refcount table",
        )
    ]


def _snapshot_table(header: Header, geometry: Geometry) -> list[Finding]:
    offset, count = header.snapshots_offset, header.nb_snapshots
    fault = None
    if count > MAX_SNAPSHOTS:
        fault = f"it has {count} entries; at most {MAX_SNAPSHOTS} are possible"
    elif offset % geometry.cluster_size:
        fault = f"its offset {offset:#x} is not at the start of a cluster"
    elif count and offset > INT64_MAX:
        fault = f"its offset {offset:#x} is impossible"
    elif count and offset == 0:
        fault = "its offset is 0, where the header is"
    if fault is None:
        return []
    return [
        _say(
            P.SNAPSHOT_TABLE_INVALID,
            f"The snapshot table cannot be used: {fault}.",
            "snapshot table",
        )
    ]


def backing_name_fault(header: Header, geometry: Geometry) -> str | None:
    """Why the place of the backing file name is impossible, as a phrase, or None."""
    offset, length = header.backing_file_offset, header.backing_file_size
    first = header.header_length if header.version >= 3 else V2_HEADER_LENGTH
    if offset == 0:
        return None
    if offset > geometry.cluster_size:
        return f"it is stored at {offset:#x}, outside the first cluster"
    if length > min(MAX_NAME, geometry.cluster_size - offset):
        return f"it has {length} bytes"
    if offset < first:
        return f"it is stored at {offset:#x}, inside the header"
    return None


def encryption_findings(header: Header, *, has_crypto_extension: bool) -> list[Finding]:
    """The encryption method, and whether its header extension goes with it."""
    method = header.crypt_method
    if method > CRYPT_LUKS:
        return [_say(P.ENCRYPTION_METHOD, f"Encryption method {method} is unknown.")]
    if method == CRYPT_LUKS and not has_crypto_extension:
        return [
            _say(
                P.CRYPTO_HEADER,
                "The image is LUKS-encrypted but has no encryption header extension.",
                "LUKS header",
            )
        ]
    if method != CRYPT_LUKS and has_crypto_extension:
        return [
            _say(
                P.CRYPTO_HEADER,
                "The image has an encryption header extension, but its "
                "encryption method is not LUKS.",
                "LUKS header",
            )
        ]
    return []


def data_file_findings(header: Header, name: bytes | None) -> list[Finding]:
    """The external data file feature, its name, and what excludes it."""
    found = []
    raw = bool(header.autoclear_features & DATA_FILE_RAW)
    if header.has_data_file and not name:
        found.append(
            _say(
                P.DATA_FILE_NAME,
                "Guest data lies in an external data file that is not named in the image.",
                "data file",
            )
        )
    if raw and not header.has_data_file:
        found.append(
            _say(
                P.DATA_FILE_CONTRADICTION,
                "The raw external data feature is set, but there is no external data file.",
                "data file",
            )
        )
    if raw and header.has_data_file and header.backing_file_offset:
        shown = safe(name or b"", 80)
        found.append(
            _say(
                P.DATA_FILE_CONTRADICTION,
                f'The raw external data file "{shown}" is set '
                "together with a backing file; they exclude each other.",
                "data file",
            )
        )
    return found
