"""What a new image is to be, and which of these wishes exclude each other (QEMU 7.2's rules)."""

from __future__ import annotations

from typing import Any, Literal, get_args

from ..errors import UsageError
from ..layout.constants import (
    COMPRESSION_NAMES,
    COMPRESSION_TYPE,
    COMPRESSION_ZLIB,
    DATA_FILE_RAW,
    EXTENDED_L2,
    EXTERNAL_DATA_FILE,
    INT64_MAX,
    KNOWN_HEADER_LENGTH,
    LAZY_REFCOUNTS,
    MAX_CLUSTER_BITS,
    MAX_L1_BYTES,
    MIN_CLUSTER_BITS,
    SECTOR,
    V2_HEADER_LENGTH,
)
from ..layout.features import qemu_feature_names
from ..layout.geometry import Geometry
from ..layout.header import FIELDS, Header
from ..layout.header_cluster import HeaderCluster
from ..record import record, replace
from ..text import safe

Preallocation = Literal["off", "metadata", "falloc", "full"]

#: Formats QEMU knows, so that a backing file may be said to have one.
_DRIVER_NAMES = (
    "blkdebug blklogwrites blkreplay blkverify bochs cloop copy-before-write copy-on-read dmg file "
    "ftp ftps gluster host_cdrom host_device http https iscsi luks nbd nfs null-aio null-co nvme "
    "parallels preallocate qcow qcow2 qed quorum raw rbd replication ssh throttle vdi vhdx vmdk "
    "vpc vvfat"
)
_DRIVERS = frozenset(_DRIVER_NAMES.split(" "))
_SMALLEST_EXTENDED = 16384


@record
class CreateOptions:
    """A new image; the names are those of ``qemu-img create -o``.

    ``size`` in bytes may be None where a backing file tells it.  With ``unsafe`` the backing file
    is not looked at.  For ``format`` "raw" only size and preallocation mean anything.
    """

    size: int | None = None
    format: Literal["qcow2", "raw"] = "qcow2"
    compat: str = "1.1"
    cluster_size: int = 65536
    preallocation: str = "off"
    lazy_refcounts: bool = False
    refcount_bits: int = 16
    backing_file: str | None = None
    backing_fmt: str | None = None
    data_file: str | None = None
    data_file_raw: bool = False
    extended_l2: bool = False
    compression_type: str = "zlib"
    unsafe: bool = False

    @property
    def version(self) -> int:
        return 2 if self.compat in ("0.10", "v2") else 3

    @property
    def disk_size(self) -> int:
        """The size of the disk: whole sectors.  Raises ValueError while it is not known."""
        if self.size is None:
            raise ValueError("the size is not known yet")
        return -(-self.size // SECTOR) * SECTOR

    @property
    def mode(self) -> Preallocation:
        """What is allocated in effect: a raw data file goes with complete tables."""
        modes: tuple[Preallocation, ...] = get_args(Preallocation)
        found = modes[modes.index(self.preallocation)]
        return "metadata" if found == "off" and self.data_file_raw else found

    def geometry(self) -> Geometry:
        return Geometry(
            self.version,
            self.cluster_size.bit_length() - 1,
            self.refcount_bits.bit_length() - 1,
            self.extended_l2,
            COMPRESSION_NAMES.index(self.compression_type),
        )

    def with_size(self, size: int) -> CreateOptions:
        return replace(self, size=size)

    def require_possible(self) -> None:
        """Raise UsageError, in QEMU's words, for wishes that no image can fulfil."""
        if self.format == "raw":
            self._require_possible_raw()
        else:
            self._require_values()
            self._require_version_3()
            self._require_compatible()
        if self.size is None:
            return
        if not 0 <= self.disk_size <= INT64_MAX:
            raise UsageError(f"Image size must be between 0 and {INT64_MAX} bytes")
        if self.format == "qcow2" and self.geometry().l1_entries(self.disk_size) * 8 > MAX_L1_BYTES:
            raise too_large()

    def _require_possible_raw(self) -> None:
        if self.backing_file is not None:
            raise UsageError("Backing file not supported for file format 'raw'")
        if self.backing_fmt is not None:
            raise UsageError("Backing format not supported for file format 'raw'")
        if self.preallocation == "metadata":
            raise UsageError("Unsupported preallocation mode: metadata")
        if self.preallocation not in get_args(Preallocation):
            raise UsageError(f"invalid parameter value: {safe(self.preallocation)}")

    def _require_values(self) -> None:
        if self.backing_file == "":
            raise UsageError("Expected backing file name, got empty string")
        if self.backing_fmt is not None and self.backing_file is None:
            raise UsageError("Backing format cannot be used without backing file")
        for name, value, allowed in (
            ("version", self.compat, ("0.10", "v2", "1.1", "v3")),
            ("preallocation", self.preallocation, get_args(Preallocation)),
            ("compression-type", self.compression_type, COMPRESSION_NAMES),
            ("backing-fmt", self.backing_fmt, (None, *_DRIVERS)),
        ):
            if value not in allowed:
                shown = safe(value or "")
                raise UsageError(f"Parameter '{name}' does not accept value '{shown}'")
        if self.data_file == "":
            raise UsageError("Could not create '': No such file or directory")
        if not _power(self.cluster_size, MIN_CLUSTER_BITS, MAX_CLUSTER_BITS):
            raise UsageError("Cluster size must be a power of two between 512 and 2048k")
        if not _power(self.refcount_bits, 0, 6):
            raise UsageError("Refcount width must be a power of two and may not exceed 64 bits")

    def _require_version_3(self) -> None:
        if self.version >= 3:
            return
        for wanted, what in (
            (
                self.refcount_bits != 16,
                "Different refcount widths than 16 bits require compatibility level 1.1 or above",
            ),
            (
                self.data_file is not None,
                "External data files are only supported with compatibility level 1.1 and above",
            ),
            (
                self.lazy_refcounts,
                "Lazy refcounts only supported with compatibility level 1.1 and above",
            ),
            (
                self.extended_l2,
                "Extended L2 entries are only supported with compatibility level 1.1 and above",
            ),
            (
                self.compression_type != "zlib",
                "Non-zlib compression type is only supported with compatibility level 1.1 and "
                "above",
            ),
        ):
            if wanted:
                raise UsageError(f"{what} (use version=v3 or greater)")

    def _require_compatible(self) -> None:
        if self.extended_l2 and self.cluster_size < _SMALLEST_EXTENDED:
            raise UsageError(
                "Extended L2 entries are only supported with cluster sizes of at least "
                f"{_SMALLEST_EXTENDED} bytes"
            )
        if self.backing_file is not None and self.preallocation != "off" and not self.extended_l2:
            raise UsageError(
                "Backing file and preallocation can only be used at the same time if extended_l2 "
                "is on"
            )
        if self.data_file_raw and self.data_file is None:
            raise UsageError("data-file-raw requires data-file")
        if self.data_file_raw and self.backing_file is not None:
            raise UsageError("Backing file and data-file-raw cannot be used at the same time")

    def header(self) -> HeaderCluster:
        """Cluster 0 of a qcow2 image, without the places of its tables.

        Raises UsageError for a backing file name that is too long.
        """
        geometry = self.geometry()
        incompatible = EXTENDED_L2 if self.extended_l2 else 0
        if geometry.compression_type != COMPRESSION_ZLIB:
            incompatible |= COMPRESSION_TYPE
        if self.data_file is not None:
            incompatible |= EXTERNAL_DATA_FILE
        v3 = self.version >= 3
        values: dict[str, Any] = {field.name: 0 for field in FIELDS if field.name != "magic"}
        values.update(
            version=self.version,
            cluster_bits=geometry.cluster_bits,
            incompatible_features=incompatible,
            compatible_features=LAZY_REFCOUNTS if self.lazy_refcounts else 0,
            autoclear_features=DATA_FILE_RAW if self.data_file_raw else 0,
            refcount_order=geometry.refcount_order,
            header_length=KNOWN_HEADER_LENGTH if v3 else V2_HEADER_LENGTH,
            compression_type=geometry.compression_type,
        )
        made = HeaderCluster(Header(**values))
        if self.backing_file is not None:
            made = made.with_backing(_raw(self.backing_file), _raw(self.backing_fmt or "") or None)
        if self.data_file is not None:
            made = made.with_data_file(_raw(self.data_file))
        return made.with_feature_names(qemu_feature_names(self.cluster_size, self.version))


def too_large() -> UsageError:
    return UsageError(
        "The image size is too large for file format 'qcow2' (try using a larger cluster size)"
    )


def _power(value: int, low: int, high: int) -> bool:
    return value in (1 << bits for bits in range(low, high + 1))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
