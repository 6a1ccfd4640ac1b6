"""What a check can find, one kind for each root cause."""

from __future__ import annotations

from ...findings import FindingKind, Severity, kind

_COPY = "Keep a copy of the file before anything writes to it."
_REPAIRABLE = (
    "A repair writes only metadata and can be undone; preview it first. Until then let no program "
    "write to the image."
)
_LOST = (
    "Compare the file's length with its source and copy it again. No repair can bring missing "
    "bytes back, so keep this copy as it is."
)


def _corruption(code: str, title: str, meaning: str, consequence: str, next_: str) -> FindingKind:
    return kind(code, Severity.CORRUPTION, title, meaning, consequence, next_)


def _leak(code: str, title: str, meaning: str, consequence: str, next_step: str) -> FindingKind:
    return kind(code, Severity.LEAK, title, meaning, consequence, next_step)


# --- refcounts -----------------------------------------------------------------------------

REFCOUNT_ZERO = _corruption(
    "QCOW-REFCOUNT-ZERO",
    "in use but counted as free",
    "Something refers to the cluster, but its refcount on disk is 0: a count was not written, or "
    "a refcount block was lost.",
    "The cluster reads correctly now. The next program that allocates space may hand it out again "
    "and overwrite it.",
    "Do not start a guest on this image. " + _REPAIRABLE,
)
REFCOUNT_LOW = _corruption(
    "QCOW-REFCOUNT-LOW",
    "used more often than counted",
    "More tables refer to the cluster than its refcount on disk says.",
    "It reads correctly now. A write through one owner changes what the other sees, and deleting "
    "one frees what the other still needs.",
    "Delete no snapshot and start no guest on this image. " + _REPAIRABLE,
)
REFCOUNT_HIGH = _leak(
    "QCOW-REFCOUNT-HIGH",
    "counted more often than used",
    "The refcount on disk is higher than the number of references, usually after an interrupted "
    "snapshot or discard.",
    "No harm to data: the cluster is never freed, and each write to it copies it first.",
    "Lowering the count is safe once no other problem is left; it can be undone until the space "
    "is used.",
)
REFCOUNT_HIGH_COPIED = _corruption(
    "QCOW-REFCOUNT-HIGH-COPIED",
    "counted more often than used, against the COPIED flag",
    "The refcount on disk is higher than the number of references, while OFLAG_COPIED says, "
    "rightly, that there is one owner.",
    "No harm to data: the flag is right and the count is not. qemu-img check calls it corrupt "
    "because the two disagree.",
    "Lowering the count is safe once no other problem is left; it can be undone until the space "
    "is used.",
)
REFCOUNT_STALE = _corruption(
    "QCOW-REFCOUNT-STALE",
    "refcounts were postponed",
    "The image uses lazy refcounts and the last program that wrote to it did not end cleanly, so "
    "counts were not brought up to date. This is expected after a crash.",
    "Guest data and mappings are intact. Only the bookkeeping of free space is out of date, and "
    "QEMU rebuilds it when it next opens the image for writing.",
    "Reading is safe. Rebuilding the refcounts is safe, too; it writes metadata only and can be "
    "undone.",
)
REFCOUNT_OVERFLOW = _corruption(
    "QCOW-REFCOUNT-OVERFLOW",
    "more references than a refcount can hold",
    "A cluster is referred to more often than its refcount has room for at this refcount width.",
    "The cluster cannot be counted correctly, so it may be freed while it is still used.",
    "Copy the image (qemu-img convert) or widen its refcounts (qcowtui amend) before anything "
    "writes to it.",
)
COPIED_SET = _corruption(
    "QCOW-COPIED-SET",
    "COPIED flag on a shared cluster",
    "OFLAG_COPIED says that the cluster has exactly one owner, but its refcount is not 1; seen "
    "after an interrupted revert to a snapshot.",
    "It reads correctly now. The next write goes in place, so a snapshot that shares the cluster "
    "changes with it.",
    "Do not start a guest on this image. Clearing the flag is safe and can be undone.",
)
COPIED_MISSING = _corruption(
    "QCOW-COPIED-MISSING",
    "COPIED flag missing",
    "The cluster has exactly one owner, but OFLAG_COPIED does not say so.",
    "No harm to data: the next write copies the cluster although it need not.",
    "Setting the flag is safe and can be undone. It may also be left as it is.",
)
OVERLAP = _corruption(
    "QCOW-OVERLAP",
    "one cluster, two owners",
    "Structures that can never share a cluster refer to the same one, such as a table and guest "
    "data.",
    "At least one of the owners reads what belongs to the other. A write through one destroys the "
    "other.",
    "Let no program write to the image, and do not run qemu-img check -r all: it makes the counts "
    "fit and leaves the wrong data in place. " + _COPY,
)
LEAK = _leak(
    "QCOW-LEAK",
    "leaked clusters",
    "The clusters are counted as used, but nothing refers to them. Usually a program stopped after "
    "it had reserved space; sometimes a table entry was lost that pointed at guest data.",
    "The space is wasted. The content may be rubbish, or it may be lost guest data that could "
    "still be brought back.",
    "Do not reclaim the clusters before they have been looked at: reclaiming discards their "
    "content and cannot be undone after that.",
)
LEAK_BITMAPS = _leak(
    "QCOW-LEAK-BITMAPS",
    "clusters of stale bitmaps",
    "The clusters hold persistent dirty bitmaps that a program without bitmap support made "
    "invalid.",
    "The space is wasted until the bitmaps are removed; guest data is not affected.",
    "Remove the bitmaps and start a new backup chain; the clusters are then free.",
)
BEYOND_END = _leak(
    "QCOW-REFCOUNT-BEYOND-END",
    "refcounts beyond the end of the file",
    "Clusters behind the end of the file are counted as used, and nothing refers to them.",
    "No guest data is affected. When the file grows that far, these clusters stay unused; if the "
    "file was cut, what was in them is gone.",
    "Compare the file's length with its source. Clearing the counts is safe and can be undone.",
)

# --- refcount structures -------------------------------------------------------------------

REFBLOCK_RESERVED = _corruption(
    "QCOW-REFBLOCK-RESERVED",
    "reserved bits in the refcount table",
    "A refcount table entry has bits set that must be zero.",
    "The counts are still found, but the refcount block does not count as used itself and may be "
    "overwritten.",
    _REPAIRABLE,
)
REFBLOCK_UNALIGNED = _corruption(
    "QCOW-REFBLOCK-UNALIGNED",
    "refcount block not at the start of a cluster",
    "A refcount table entry points into the middle of a cluster, so it cannot be right.",
    "The counts it stands for are unknown. Guest data still reads correctly.",
    "Do not start a guest on this image. " + _REPAIRABLE,
)
REFBLOCK_OUTSIDE = _corruption(
    "QCOW-REFBLOCK-OUTSIDE",
    "refcount block beyond the end of the file",
    "A refcount table entry points at a place that the file does not have.",
    "The counts it stands for read as 0. Guest data still reads correctly, but may be overwritten "
    "by the next allocation.",
    "Do not start a guest on this image. " + _REPAIRABLE,
)
REFBLOCK_SHARED = _corruption(
    "QCOW-REFBLOCK-SHARED",
    "refcount block has another owner",
    "A cluster that holds refcounts is also used for something else, or for two refcount blocks.",
    "The counts in it cannot be trusted, and the next change of a count damages the other owner.",
    "Let no program write to the image. " + _COPY,
)

# --- L1 and L2 tables ----------------------------------------------------------------------

L1_RESERVED = _corruption(
    "QCOW-L1-RESERVED",
    "reserved bits in the L1 table",
    "An L1 entry has bits set that must be zero; QEMU masks them out when it reads.",
    "Guest data reads as before, but the entry was damaged by something.",
    _REPAIRABLE,
)
L1_STRAY = _corruption(
    "QCOW-L1-STRAY",
    "L1 entry with flags but no table",
    "An L1 entry has bits set but its offset is 0, where the header is. A check takes the header "
    "for an L2 table then.",
    "The guest range reads as never written. If there was a table, its offset was lost.",
    "Look at the leaked clusters before anything is reclaimed: one of them may be the table.",
)
L2_TABLE_UNALIGNED = _corruption(
    "QCOW-L2-TABLE-UNALIGNED",
    "L2 table not at the start of a cluster",
    "An L1 entry points into the middle of a cluster, so its offset cannot be right.",
    "The whole guest range behind it cannot be read.",
    "Do not run qemu-img check -r all: it may write over the real table, which is probably among "
    "the leaked clusters. " + _COPY,
)
L2_TABLE_OUTSIDE = _corruption(
    "QCOW-L2-TABLE-OUTSIDE",
    "L2 table beyond the end of the file",
    "An L1 entry points at a place that the file does not have: the file was cut, or the entry is "
    "damaged.",
    "The whole guest range behind it cannot be read; QEMU gives zeros or an error.",
    _LOST,
)
TABLE_OUTSIDE = _corruption(
    "QCOW-TABLE-OUTSIDE",
    "structure beyond the end of the file",
    "A table or header area reaches beyond the end of the file: the file was cut, or its place is "
    "recorded wrongly.",
    "What the missing part described is not accessible.",
    _LOST,
)
L2_RESERVED = _corruption(
    "QCOW-L2-RESERVED",
    "reserved bits in an L2 table",
    "An L2 entry has bits set that must be zero; QEMU masks them out when it reads.",
    "Guest data reads as before, but the entry was damaged by something.",
    _REPAIRABLE,
)
DATA_UNALIGNED = _corruption(
    "QCOW-DATA-UNALIGNED",
    "data cluster not at the start of a cluster",
    "An L2 entry points into the middle of a cluster, so its offset cannot be right.",
    "The guest range cannot be read; QEMU marks the image corrupt when a guest touches it.",
    "The real cluster is probably among the leaked ones. " + _COPY,
)
ZERO_UNALIGNED = _corruption(
    "QCOW-ZERO-UNALIGNED",
    "reserved space not at the start of a cluster",
    "An entry that reads as zeros reserves space in the middle of a cluster.",
    "The guest range reads as zeros, as it should; a write to it fails and marks the image "
    "corrupt.",
    "Dropping the reserved space loses no data. " + _REPAIRABLE,
)
DATA_OUTSIDE = _corruption(
    "QCOW-DATA-OUTSIDE",
    "data beyond the end of the file",
    "Table entries point at clusters that the file does not have: the file was cut or only half "
    "copied, or the entries are damaged.",
    "What the guest had stored there is missing. QEMU reads zeros without an error.",
    _LOST,
)
ZERO_FLAG = _corruption(
    "QCOW-ZERO-FLAG",
    "zero flag where it cannot be",
    "An L2 entry carries the zero flag, which neither version 2 images nor extended L2 entries "
    "have. qemu-img check does not notice.",
    "In a version 2 image the range cannot be read: QEMU fails and marks the image corrupt.",
    "Converting the image to version 3 or clearing the flag are both possible; they differ in what "
    "the guest then reads. " + _COPY,
)
SUBCLUSTERS = _corruption(
    "QCOW-SUBCLUSTER-BITMAP",
    "subcluster bitmap contradicts itself",
    "A subcluster is marked as data and as zeros at once, or as data although the cluster has no "
    "place in the file.",
    "These subclusters cannot be read; QEMU marks the image corrupt when a guest touches them.",
    _COPY,
)
COMPRESSED_COPIED = _corruption(
    "QCOW-COMPRESSED-COPIED",
    "COPIED flag on a compressed cluster",
    "Compressed clusters are never written in place, so their entries never carry the flag.",
    "Guest data reads as before, but the entry was damaged by something.",
    "Clearing the flag is safe and can be undone.",
)
COMPRESSED_MISPLACED = _corruption(
    "QCOW-COMPRESSED-MISPLACED",
    "compressed cluster where none can be",
    "An entry is marked compressed in an image with an external data file, or together with a "
    "subcluster bitmap.",
    "The guest range cannot be read.",
    _COPY,
)
COMPRESSED_OUTSIDE = _corruption(
    "QCOW-COMPRESSED-OUTSIDE",
    "compressed data beyond the end of the file",
    "The bytes of compressed clusters lie beyond the end of the file: the file was cut, or the "
    "entries are damaged.",
    "What the guest had stored there is missing; reading it fails.",
    _LOST,
)
COMPRESSED_DAMAGED = _corruption(
    "QCOW-COMPRESSED-DAMAGED",
    "compressed cluster cannot be unpacked",
    "The stored bytes do not unpack to exactly one cluster. qemu-img check does not look at them.",
    "The guest range cannot be read: QEMU returns an input/output error.",
    "Only a backup can bring the content back. " + _COPY,
)

# --- snapshots, bitmaps, encryption --------------------------------------------------------

SNAPSHOT_INCOMPLETE = _corruption(
    "QCOW-SNAPSHOT-INCOMPLETE",
    "snapshot entry without its disk size",
    "Version 3 requires each snapshot to record its disk size and VM state size; this entry does "
    "not.",
    "The snapshot is taken to have the disk's present size, which may be wrong.",
    _REPAIRABLE,
)
SNAPSHOT_DATA_FILE = _corruption(
    "QCOW-SNAPSHOT-DATA-FILE",
    "snapshots with an external data file",
    "An image whose guest data lies in an external file cannot have internal snapshots.",
    "The snapshots do not hold the data they should: later writes changed it.",
    "Do not revert to these snapshots. " + _COPY,
)
BITMAP_TABLE = _corruption(
    "QCOW-BITMAP-TABLE",
    "bitmap table damaged",
    "An entry of a persistent bitmap's table is impossible.",
    "QEMU refuses to open the image. Guest data is not affected; the bitmap is lost.",
    "Remove the bitmap and start a new backup chain.",
)
LUKS_LENGTH = _corruption(
    "QCOW-LUKS-LENGTH",
    "LUKS header area impossibly long",
    "The encryption header extension claims far more space than a LUKS header can take.",
    "Clusters that seem to belong to the header may be guest data.",
    "Back up the key slots before anything is changed. " + _COPY,
)

# --- what kept the check from being complete -----------------------------------------------

UNREADABLE = kind(
    "QCOW-CHECK-UNREADABLE",
    Severity.ERROR,
    "metadata cannot be read",
    "The storage returned an error for a place where a table lies.",
    "What the table describes is unknown, so clusters it uses may be listed as leaked.",
    "Copy the image to sound storage (ddrescue) and check the copy. Repair nothing here.",
)
TOO_LARGE = kind(
    "QCOW-CHECK-TOO-LARGE",
    Severity.ERROR,
    "tables claim an absurd amount of space",
    "The sizes recorded for tables add up to far more than the file really holds.",
    "The check leaves the rest of them out, so its counts are incomplete.",
    "Such an image does not come from a normal program; do not trust it.",
)
