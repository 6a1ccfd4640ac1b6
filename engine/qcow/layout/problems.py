"""What can be wrong with the fixed structures of an image, as kinds of findings.

ERROR here means that the named structure cannot be used; whether guest bytes can still be read is
decided in :mod:`qcow.image.image`.
"""

from __future__ import annotations

from ..findings import FindingKind, Severity, kind

_REPAIR = "Keep a copy of the file; do not let any program write to it before it is understood."
_NOT_READ = "Nothing is read through this structure; the rest of the image is still shown."


def _fatal(code: str, title: str, meaning: str) -> FindingKind:
    return kind(
        code,
        Severity.ERROR,
        title,
        meaning,
        "QEMU refuses to open the image. " + _NOT_READ,
        _REPAIR,
    )


def _odd(code: str, title: str, meaning: str, consequence: str, next_step: str) -> FindingKind:
    return kind(code, Severity.WARNING, title, meaning, consequence, next_step)


HEADER_TRUNCATED = _fatal(
    "QCOW-HEADER-TRUNCATED",
    "header cut off",
    "The file ends inside the header: it was truncated or never completely written.",
)
HEADER_VERSION = _fatal(
    "QCOW-HEADER-VERSION",
    "unsupported version",
    "The version field is not 2 or 3, so no other field can be trusted.",
)
CLUSTER_SIZE = _fatal(
    "QCOW-CLUSTER-SIZE",
    "impossible cluster size",
    "The cluster size must be a power of two from 512 bytes to 2 MiB.",
)
HEADER_LENGTH = _fatal(
    "QCOW-HEADER-LENGTH",
    "impossible header length",
    "The header length must be at least 104, a multiple of 8 and at most one cluster.",
)
REFCOUNT_WIDTH = _fatal(
    "QCOW-REFCOUNT-WIDTH",
    "impossible refcount width",
    "A refcount is 1 to 64 bits wide; the header asks for more.",
)
FEATURE_UNKNOWN = _fatal(
    "QCOW-FEATURE-UNKNOWN",
    "unknown incompatible feature",
    "A feature bit is set that a program must understand before it may interpret the tables.",
)
FEATURE_UNKNOWN_HARMLESS = kind(
    "QCOW-FEATURE-UNKNOWN-HARMLESS",
    Severity.INFO,
    "unknown feature bit",
    "A compatible or autoclear feature bit is set that this version does not know.",
    "Reading is not affected. A program that writes clears unknown autoclear bits.",
    "Nothing needs to be done.",
)
COMPRESSION = _fatal(
    "QCOW-COMPRESSION-TYPE",
    "compression type contradicts itself",
    "The compression type is unknown, or it and its feature bit do not agree.",
)
ENCRYPTION_METHOD = _fatal(
    "QCOW-ENCRYPTION-METHOD",
    "unknown encryption method",
    "The encryption method is not none, legacy AES or LUKS.",
)
SUBCLUSTERS = _fatal(
    "QCOW-SUBCLUSTER-SIZE",
    "subclusters too small",
    "Extended L2 entries need clusters of at least 16 KiB, so that a subcluster has 512 bytes.",
)
SIZE_TOO_BIG = _fatal(
    "QCOW-SIZE-TOO-BIG",
    "virtual size impossible",
    "The virtual size is larger than any L1 table can map.",
)
SIZE_UNALIGNED = _odd(
    "QCOW-SIZE-UNALIGNED",
    "virtual size not a multiple of 512",
    "A disk has whole 512-byte sectors; the header's size has a remainder.",
    "The remainder is not visible to a guest, as in QEMU.",
    "Nothing needs to be done for reading.",
)
L1_INVALID = _fatal(
    "QCOW-L1-INVALID",
    "L1 table cannot be used",
    "The active L1 table's offset or size is impossible, or the table lies outside the file.",
)
L1_CUT = kind(
    "QCOW-L1-CUT",
    Severity.CORRUPTION,
    "L1 table cut off by the end of the file",
    "The file ends inside the active L1 table: it was truncated.",
    "Guest ranges mapped by the missing entries cannot be read.",
    "Compare the file's length with where it was copied from. " + _REPAIR,
)
REFCOUNT_TABLE_INVALID = _fatal(
    "QCOW-REFTABLE-INVALID",
    "refcount table cannot be used",
    "The refcount table's offset or size is impossible.",
)
SNAPSHOT_TABLE_INVALID = _fatal(
    "QCOW-SNAPTABLE-INVALID",
    "snapshot table cannot be used",
    "The snapshot table's offset or size is impossible, or an entry is damaged so that those "
    "behind it cannot be found.",
)
SNAPSHOT_ENTRY = kind(
    "QCOW-SNAPSHOT-INVALID",
    Severity.CORRUPTION,
    "snapshot entry damaged",
    "A field of a snapshot's table entry is impossible.",
    "This snapshot cannot be read or reverted to; the active disk is not affected.",
    "Do not delete or revert snapshots before the entry is repaired. " + _REPAIR,
)
SNAPSHOT_ODD = _odd(
    "QCOW-SNAPSHOT-ODD",
    "unusual snapshot entry",
    "A snapshot's recorded size or VM state size cannot be right, or two snapshots carry the same "
    "ID and name.",
    "Programs that pick a snapshot by name may pick the wrong one or trust a wrong size.",
    "Address the snapshot by its ID, or by its place in the table.",
)
BACKING_NAME_INVALID = _fatal(
    "QCOW-BACKING-NAME-INVALID",
    "backing file name cannot be used",
    "The backing file name lies outside the first cluster, is longer than 1023 bytes, overlaps the "
    "header or holds a NUL byte.",
)
BACKING_NAME_EMPTY = _odd(
    "QCOW-BACKING-NAME-EMPTY",
    "empty backing file name",
    "The header says where a backing file name is stored, but its length is zero.",
    "The image is read as having no backing file, as QEMU does.",
    "If ranges read as zeros that should not, the reference to the base was lost.",
)
BACKING_FORMAT_MISSING = _odd(
    "QCOW-BACKING-FORMAT-MISSING",
    "backing format not stated",
    "The image names a backing file but not its format, so programs would have to guess it.",
    "A base whose guest can write its first bytes could pass for another format.",
    "State the format (qcowtui relink -F FORMAT); until then the base is not followed.",
)
EXTENSION_OVERRUN = _fatal(
    "QCOW-EXT-OVERRUN",
    "header extension too large",
    "A header extension claims more bytes than the extension area has.",
)
EXTENSION_INVALID = _fatal(
    "QCOW-EXT-INVALID",
    "header extension cannot be used",
    "A header extension has an impossible length or content.",
)
EXTENSION_DUPLICATE = _odd(
    "QCOW-EXT-DUPLICATE",
    "duplicate header extension",
    "The same header extension appears more than once, so programs may disagree on its value.",
    "Which value counts depends on the program; this may be an attempt to pass a check.",
    "Do not follow references of this image before its maker has been asked.",
)
EXTENSION_ODD = _odd(
    "QCOW-EXT-ODD",
    "unusual header extensions",
    "The extension area is malformed in a way that programs tolerate.",
    "Reading is not affected.",
    "Nothing needs to be done for reading.",
)
EXTENSION_UNKNOWN = kind(
    "QCOW-EXT-UNKNOWN",
    Severity.INFO,
    "unknown header extension",
    "The image carries a header extension this version does not know.",
    "It is shown and kept. Clusters it may own cannot be told from leaks.",
    "Do not reclaim leaks of this image with a program that does not know the extension.",
)
BITMAPS_INVALID = _fatal(
    "QCOW-BITMAPS-INVALID",
    "bitmap directory cannot be used",
    "The bitmaps extension or the bitmap directory is damaged.",
)
BITMAPS_STALE = _odd(
    "QCOW-BITMAPS-STALE",
    "bitmaps are stale",
    "The bitmaps extension is present but its autoclear bit is not: a program without bitmap "
    "support wrote to the image.",
    "The bitmaps no longer say what changed; the next backup has to be a full one.",
    "Remove the bitmaps and start a new backup chain.",
)
BITMAP_INCONSISTENT = _odd(
    "QCOW-BITMAP-IN-USE",
    "bitmap is inconsistent",
    "A bitmap is marked in use: the program that kept it ended without writing it back.",
    "It does not say what changed and can only be removed; incremental backups stop.",
    "Remove this bitmap (qcowtui bitmap --remove) and start a new backup chain.",
)
CRYPTO_HEADER = _fatal(
    "QCOW-CRYPTO-HEADER",
    "encryption header missing or misplaced",
    "The encryption method and the encryption header extension do not agree, or the extension "
    "points at an impossible place.",
)
LUKS_INVALID = _fatal(
    "QCOW-LUKS-INVALID",
    "LUKS header damaged",
    "A field of the LUKS header is impossible, so no key could be derived from it.",
)
LUKS_COSTLY = _odd(
    "QCOW-LUKS-COSTLY",
    "LUKS iteration count is extreme",
    "The key derivation count is so high that unlocking would keep a processor busy for minutes.",
    "A program that tries the passphrase hangs; this may be intended by the image's maker.",
    "Do not unlock this image unless you know where it comes from.",
)
DATA_FILE_NAME = _fatal(
    "QCOW-DATA-FILE-NAME",
    "external data file not named",
    "Guest data lies in an external file, but the image does not say which.",
)
DATA_FILE_CONTRADICTION = _fatal(
    "QCOW-DATA-FILE-CONTRADICTION",
    "external data file contradicts itself",
    "The raw external data feature is set together with something it excludes (no data file, or a "
    "backing file).",
)
DIRTY_BIT = _odd(
    "QCOW-DIRTY",
    "not cleanly shut down",
    "Refcounts were postponed (lazy refcounts) and not written before the last program ended. "
    "Mappings are intact.",
    "Guest data is not affected. Counts on disk are out of date until they are rebuilt; QEMU does "
    "so at the next read-write open.",
    "Rebuilding the refcounts is safe; nothing has to be done for reading.",
)
CORRUPT_BIT = _odd(
    "QCOW-CORRUPT-BIT",
    "marked corrupt",
    "A program met damaged metadata while writing and set the corrupt bit.",
    "QEMU refuses to open the image read-write. Guest data may be wrong where the findings of a "
    "check say so.",
    "Run a check to see what is damaged. " + _REPAIR,
)
NAME_DECEPTIVE = _odd(
    "QCOW-NAME-DECEPTIVE",
    "name with hidden characters",
    "A name in the image holds control, invisible or text-reversing characters.",
    "Programs that print it unchanged let it act on the terminal or show something else than it "
    "says.",
    "Here it is shown escaped. Do not print it with other programs; ask where the image is from.",
)
REFERENCE_SELF = _odd(
    "QCOW-REF-SELF",
    "refers to itself",
    "The image names itself as its backing file or data file, or one file as both.",
    "Programs that follow the reference never end, or read metadata as guest data.",
    "Do not give the image to programs that follow it; point it at its real base (qcowtui relink).",
)
REFERENCE_UNTRUSTED = _odd(
    "QCOW-REF-UNTRUSTED",
    "reference outside the image's folder",
    "The image names a second file by a protocol, an absolute path, a path that leaves its folder, "
    "or a name with control characters.",
    "A program that follows it could read files of this host into the guest's view.",
    "It is shown as text and not opened. Grant it only if you know the image's maker.",
)
