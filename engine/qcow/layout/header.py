"""The qcow2 header: one declarative table of fields, and the value decoded from it.

The field table feeds the parser, the `header` verb, the header pane and the hex view.
"""

from __future__ import annotations

from ..record import record
from .constants import (
    COMPRESSION_TYPE,
    CORRUPT,
    DIRTY,
    EXTENDED_L2,
    EXTERNAL_DATA_FILE,
    KNOWN_HEADER_LENGTH,
    LAZY_REFCOUNTS,
    MAGIC,
    V2_HEADER_LENGTH,
    V3_HEADER_LENGTH,
)


@record
class HeaderField:
    """Where a field lies (bytes from the start of the file) and what it means."""

    name: str  # spelling of the spec
    offset: int
    size: int
    title: str
    doc: str
    since: int = 2  # first version that has it


FIELDS: tuple[HeaderField, ...] = (
    HeaderField("magic", 0, 4, "Magic", "The bytes QFI\\xfb that mark a qcow2 image."),
    HeaderField("version", 4, 4, "Version", "2 (compat 0.10) or 3 (compat 1.1)."),
    HeaderField(
        "backing_file_offset",
        8,
        8,
        "Backing file name at",
        "Where the backing file's name is stored; 0 means there is none.",
    ),
    HeaderField(
        "backing_file_size",
        16,
        4,
        "Backing file name length",
        "Length of that name in bytes, at most 1023.",
    ),
    HeaderField(
        "cluster_bits",
        20,
        4,
        "Cluster bits",
        "The cluster size is 2 to this power: 9 (512 bytes) to 21 (2 MiB).",
    ),
    HeaderField("size", 24, 8, "Virtual size", "The size of the disk as the guest sees it."),
    HeaderField("crypt_method", 32, 4, "Encryption", "0: none, 1: legacy AES-CBC, 2: LUKS."),
    HeaderField(
        "l1_size", 36, 4, "L1 entries", "Entries of the active L1 table, each for one L2 table."
    ),
    HeaderField("l1_table_offset", 40, 8, "L1 table at", "Where the active L1 table starts."),
    HeaderField(
        "refcount_table_offset", 48, 8, "Refcount table at", "Where the refcount table starts."
    ),
    HeaderField(
        "refcount_table_clusters",
        56,
        4,
        "Refcount table clusters",
        "How many clusters the refcount table takes.",
    ),
    HeaderField("nb_snapshots", 60, 4, "Snapshots", "Number of internal snapshots."),
    HeaderField("snapshots_offset", 64, 8, "Snapshot table at", "Where the snapshot table starts."),
    HeaderField(
        "incompatible_features",
        72,
        8,
        "Incompatible features",
        "Bits a program must know before it may open the image.",
        3,
    ),
    HeaderField(
        "compatible_features", 80, 8, "Compatible features", "Bits a program may ignore.", 3
    ),
    HeaderField(
        "autoclear_features",
        88,
        8,
        "Autoclear features",
        "Bits a program that does not know them clears when it writes.",
        3,
    ),
    HeaderField(
        "refcount_order",
        96,
        4,
        "Refcount order",
        "A refcount is 2 to this power bits wide: 0 (1 bit) to 6 (64 bits).",
        3,
    ),
    HeaderField(
        "header_length",
        100,
        4,
        "Header length",
        "Length of the header; the extensions start there.",
        3,
    ),
    HeaderField("compression_type", 104, 1, "Compression type", "0: zlib (deflate), 1: zstd.", 3),
)
_BY_NAME = {field.name: field for field in FIELDS}
#: What a header without these fields says; 0 for the others.
_IMPLIED = {"refcount_order": 4, "header_length": V2_HEADER_LENGTH}
_PADDING_OFFSET = FIELDS[-1].offset + FIELDS[-1].size


def header_field(name: str) -> HeaderField:
    """The field called ``name`` in the spec."""
    return _BY_NAME[name]


@record
class Header:
    """The decoded header.  Values are as stored, not judged; see :mod:`qcow.layout.header_rules`.

    Fields that a version 2 header does not have carry the value version 2 implies.
    """

    version: int
    backing_file_offset: int
    backing_file_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int
    incompatible_features: int
    compatible_features: int
    autoclear_features: int
    refcount_order: int
    header_length: int
    compression_type: int
    #: Header bytes behind the fields known here, kept verbatim.
    unknown: bytes = b""
    #: What stands in the padding behind the compression type, kept verbatim; zeros in practice.
    padding: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Decode ``data``, the first bytes of a file that starts with the magic.

        Bytes missing at the end count as zero, as QEMU's block layer reads them.
        """
        padded = data[:KNOWN_HEADER_LENGTH].ljust(KNOWN_HEADER_LENGTH, b"\0")
        values = {
            field.name: int.from_bytes(padded[field.offset : field.offset + field.size], "big")
            for field in FIELDS
            if field.name != "magic"
        }
        unknown = padding = b""
        if values["version"] < 3:
            values.update(
                incompatible_features=0,
                compatible_features=0,
                autoclear_features=0,
                refcount_order=4,
                header_length=V2_HEADER_LENGTH,
                compression_type=0,
            )
        else:
            length = values["header_length"]
            if length <= header_field("compression_type").offset:
                values["compression_type"] = 0
            unknown = data[KNOWN_HEADER_LENGTH:length]
            padding = data[_PADDING_OFFSET : min(length, KNOWN_HEADER_LENGTH)]
        return cls(**values, unknown=unknown, padding=padding)

    def encode(self) -> bytes:
        """The ``header_length`` bytes this was parsed from (72 for version 2).

        Raises ValueError when a value does not fit its field, or the header has no room for it.
        """
        length = self.header_length
        if self.version < 3:
            if length != V2_HEADER_LENGTH:
                raise ValueError(f"a version 2 header has {V2_HEADER_LENGTH} bytes, not {length}")
        elif length < V3_HEADER_LENGTH:
            raise ValueError(f"a version 3 header of {length} bytes is too short")
        head = bytearray(MAGIC.ljust(length, b"\0"))
        for field in FIELDS[1:]:
            value: int = getattr(self, field.name)
            if field.since > self.version or field.offset + field.size > length:
                if value != _IMPLIED.get(field.name, 0):
                    raise ValueError(f"this header has no field for {field.name} = {value}")
                continue
            try:
                head[field.offset : field.offset + field.size] = value.to_bytes(field.size, "big")
            except OverflowError:
                raise ValueError(f"{field.name} = {value} does not fit its field") from None
        for offset, kept in ((_PADDING_OFFSET, self.padding), (KNOWN_HEADER_LENGTH, self.unknown)):
            kept = kept[: max(0, length - offset)]
            head[offset : offset + len(kept)] = kept
        return bytes(head)

    @staticmethod
    def has_magic(data: bytes) -> bool:
        return data[:4] == MAGIC

    @property
    def cluster_size(self) -> int:
        """Bytes; only meaningful for 9 <= cluster_bits <= 21."""
        return 1 << self.cluster_bits

    @property
    def extension_area(self) -> tuple[int, int]:
        """(start, end) of the bytes of cluster 0 in which extensions may lie.

        They end at the backing file's name, as QEMU reads it: where the name follows the header at
        once, as in images of very old programs, there is no extension and no end marker.
        """
        size = self.cluster_size
        start = min(self.header_length, size)
        name_at = self.backing_file_offset
        return start, max(start, name_at) if 0 < name_at <= size else size

    @property
    def virtual_size(self) -> int:
        """What a guest sees: whole 512-byte sectors (QEMU drops a remainder)."""
        return self.size & ~511

    @property
    def dirty(self) -> bool:
        return bool(self.incompatible_features & DIRTY)

    @property
    def corrupt(self) -> bool:
        return bool(self.incompatible_features & CORRUPT)

    @property
    def has_data_file(self) -> bool:
        return bool(self.incompatible_features & EXTERNAL_DATA_FILE)

    @property
    def has_compression_type_bit(self) -> bool:
        return bool(self.incompatible_features & COMPRESSION_TYPE)

    @property
    def extended_l2(self) -> bool:
        return bool(self.incompatible_features & EXTENDED_L2)

    @property
    def lazy_refcounts(self) -> bool:
        return bool(self.compatible_features & LAZY_REFCOUNTS)

    @property
    def compat(self) -> str:
        """QEMU's name of the version."""
        return "0.10" if self.version < 3 else "1.1"
