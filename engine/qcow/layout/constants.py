"""Numbers of the qcow2 format and the caps every reader keeps (qcow2 spec; caps as in QEMU 7.2)."""

from __future__ import annotations

from typing import Final

MAGIC: Final = b"QFI\xfb"
#: What a disk writes as one; bytes are old or new by such pieces after a power cut.
SECTOR: Final = 512

MIN_CLUSTER_BITS: Final = 9
MAX_CLUSTER_BITS: Final = 21
V2_HEADER_LENGTH: Final = 72
V3_HEADER_LENGTH: Final = 104
#: The longest header with fields known to this version (compression_type and its padding).
KNOWN_HEADER_LENGTH: Final = 112

MAX_L1_BYTES: Final = 32 << 20
MAX_REFCOUNT_TABLE_BYTES: Final = 8 << 20
MAX_SNAPSHOTS: Final = 65536
MAX_SNAPSHOT_TABLE_BYTES: Final = 64 << 20
MAX_SNAPSHOT_EXTRA: Final = 1024
MAX_BITMAPS: Final = 65535
MAX_BITMAP_DIRECTORY_BYTES: Final = MAX_BITMAPS * 1024
MAX_BITMAP_TABLE_ENTRIES: Final = 0x8000000
#: Bits of one bitmap.
MAX_BITMAP_BYTES: Final = 512 << 20
MAX_NAME: Final = 1023
MAX_BACKING_FORMAT: Final = 15
INT64_MAX: Final = (1 << 63) - 1
INT32_MAX: Final = (1 << 31) - 1

# incompatible features
DIRTY: Final = 1 << 0
CORRUPT: Final = 1 << 1
EXTERNAL_DATA_FILE: Final = 1 << 2
COMPRESSION_TYPE: Final = 1 << 3
EXTENDED_L2: Final = 1 << 4
KNOWN_INCOMPATIBLE: Final = DIRTY | CORRUPT | EXTERNAL_DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2
# compatible features
LAZY_REFCOUNTS: Final = 1 << 0
KNOWN_COMPATIBLE: Final = LAZY_REFCOUNTS
# autoclear features
BITMAPS_VALID: Final = 1 << 0
DATA_FILE_RAW: Final = 1 << 1
KNOWN_AUTOCLEAR: Final = BITMAPS_VALID | DATA_FILE_RAW

# crypt_method
CRYPT_NONE: Final = 0
CRYPT_AES: Final = 1
CRYPT_LUKS: Final = 2

# compression_type
COMPRESSION_ZLIB: Final = 0
COMPRESSION_ZSTD: Final = 1
COMPRESSION_NAMES: Final = ("zlib", "zstd")

# header extensions
EXT_END: Final = 0
EXT_BACKING_FORMAT: Final = 0xE2792ACA
EXT_FEATURE_NAMES: Final = 0x6803F857
EXT_BITMAPS: Final = 0x23852875
EXT_CRYPTO: Final = 0x0537BE77
EXT_DATA_FILE: Final = 0x44415441
EXTENSION_NAMES: Final = {
    EXT_END: "end of extensions",
    EXT_BACKING_FORMAT: "backing format",
    EXT_FEATURE_NAMES: "feature name table",
    EXT_BITMAPS: "bitmaps",
    EXT_CRYPTO: "full disk encryption header",
    EXT_DATA_FILE: "external data file name",
}

# L1 and L2 entries
OFLAG_COPIED: Final = 1 << 63
OFLAG_COMPRESSED: Final = 1 << 62
OFLAG_ZERO: Final = 1
OFFSET_MASK: Final = 0x00FFFFFFFFFFFE00
L1_RESERVED_MASK: Final = 0x7F000000000001FF
L2_RESERVED_MASK: Final = 0x3F000000000001FE
SUBCLUSTERS: Final = 32
# refcount table entries
REFCOUNT_TABLE_OFFSET_MASK: Final = 0xFFFFFFFFFFFFFE00
REFCOUNT_TABLE_RESERVED_MASK: Final = 0x1FF
# bitmap table entries
BITMAP_TABLE_OFFSET_MASK: Final = 0x00FFFFFFFFFFFE00
BITMAP_TABLE_ALL_ONES: Final = 1
BITMAP_TABLE_RESERVED_MASK: Final = 0xFF000000000001FE
# bitmap directory flags
BITMAP_IN_USE: Final = 1 << 0
BITMAP_AUTO: Final = 1 << 1
