"""The open qcow2 image.  Opening always answers: what cannot be used is a finding, not a crash."""

from __future__ import annotations

from typing import Final

from ..closing import Closing
from ..errors import EncryptedError, FormatError, GuestDataError, NotFoundError
from ..findings import Finding, Severity
from ..layout.bitmaps import BitmapEntry
from ..layout.constants import CRYPT_AES, CRYPT_LUKS, CRYPT_NONE, DATA_FILE_RAW
from ..layout.extensions import CryptoExtension, HeaderExtension
from ..layout.features import FeatureBit, FeatureName, set_features
from ..layout.geometry import Geometry
from ..layout.header import Header
from ..layout.luks import LuksHeader
from ..layout.snapshots import Snapshot
from ..record import record
from ..storage.base import Storage
from ..text import safe
from .loading import load
from .state import State

#: Structures without which no guest byte can be mapped.
_NEEDED_FOR_GUEST = frozenset({"header", "header extensions", "L1 table", "data file"})


@record
class BackingReference:
    """What the image says about its backing file: raw image text, not resolved, not trusted."""

    name: bytes
    format: bytes | None


class Image(Closing):
    """A qcow2 image that was opened read-only.

    Everything here comes from the header cluster, the snapshot table and the bitmap directory; the
    large tables are read when a :class:`State` is asked.  ``geometry`` is None when the header does
    not allow any table to be interpreted.
    """

    format: Final = "qcow2"

    def __init__(self, storage: Storage) -> None:
        """Read the small structures.  Raises FormatError only when the magic is not qcow2's."""
        self.storage = storage
        loaded = load(storage)
        if loaded is None:
            raise FormatError(
                f"{safe(storage.name)} is not a qcow2 image: the magic bytes are missing."
            )
        self.header: Header = loaded.header
        self.geometry: Geometry | None = loaded.geometry
        self.extensions: tuple[HeaderExtension, ...] = loaded.extensions
        self.feature_names: tuple[FeatureName, ...] = loaded.feature_names
        self.snapshots: tuple[Snapshot, ...] = loaded.snapshots
        self.snapshot_table_length: int = loaded.snapshot_table_length  # bytes parsed
        self.bitmaps: tuple[BitmapEntry, ...] = loaded.bitmaps
        self.bitmap_directory: tuple[int, int] | None = loaded.bitmap_directory
        self.bitmaps_valid: bool = loaded.bitmaps_valid
        self.crypto: CryptoExtension | None = loaded.crypto
        self.luks: LuksHeader | None = loaded.luks
        self.backing: BackingReference | None = (
            BackingReference(loaded.backing_name, loaded.backing_format)
            if loaded.backing_name is not None
            else None
        )
        self.data_file: bytes | None = loaded.data_file
        self.problems: tuple[Finding, ...] = loaded.problems

    @property
    def name(self) -> str:
        """The path it was opened by (raw: pass it through ``safe`` before showing it)."""
        return self.storage.name

    @property
    def virtual_size(self) -> int:
        """Bytes the guest sees."""
        return self.header.virtual_size

    @property
    def features(self) -> tuple[FeatureBit, ...]:
        """The feature bits that are set, with names safe to show."""
        header = self.header
        return set_features(
            (header.incompatible_features, header.compatible_features, header.autoclear_features),
            self.feature_names,
        )

    @property
    def encryption(self) -> str | None:
        """None, "aes" or "luks"."""
        return {CRYPT_AES: "aes", CRYPT_LUKS: "luks"}.get(self.header.crypt_method)

    @property
    def encrypted(self) -> bool:
        return self.header.crypt_method != CRYPT_NONE

    @property
    def data_file_raw(self) -> bool:
        return bool(self.header.autoclear_features & DATA_FILE_RAW)

    @property
    def unusable(self) -> Finding | None:
        """The first finding that keeps guest bytes from being mapped, or None."""
        for finding in self.problems:
            if finding.severity is Severity.ERROR and finding.structure in _NEEDED_FOR_GUEST:
                return finding
        return None

    @property
    def refused(self) -> Finding | None:
        """The first finding for which QEMU would not open the image at all, or None."""
        return next((f for f in self.problems if f.severity is Severity.ERROR), None)

    @property
    def active(self) -> State:
        """The disk as a guest sees it now (this layer only).  Raises GuestDataError."""
        return State(self, self.usable_geometry(), None)

    def snapshot_state(self, snapshot: Snapshot) -> State:
        """The disk as it was when ``snapshot`` was taken.  Raises GuestDataError."""
        return State(self, self.usable_geometry(), snapshot)

    def states(self) -> tuple[State, ...]:
        """The active state and every snapshot, in table order."""
        return (self.active, *(self.snapshot_state(snapshot) for snapshot in self.snapshots))

    def usable_geometry(self) -> Geometry:
        """The geometry, or GuestDataError with the reason why nothing can be mapped."""
        unusable = self.unusable
        if unusable is not None or self.geometry is None:
            why = unusable.what if unusable else "The header cannot be interpreted."
            raise GuestDataError(f"{safe(self.name)} cannot be read: {why}")
        return self.geometry

    def usable_geometry_for_tables(self) -> Geometry:
        """The geometry for walking host structures, which may work where guest reads do not.

        Raises GuestDataError when the header does not allow any table to be interpreted.
        """
        return self.geometry if self.geometry is not None else self.usable_geometry()

    def find_snapshot(self, key: str) -> Snapshot:
        """By ID first, then by name (the first that matches), as QEMU does.

        Raises NotFoundError.
        """
        wanted = key.encode("utf-8", "surrogateescape")
        for snapshot in self.snapshots:
            if snapshot.id == wanted:
                return snapshot
        for snapshot in self.snapshots:
            if snapshot.name == wanted:
                return snapshot
        raise NotFoundError(
            f'There is no snapshot "{safe(key)}" in {safe(self.name)}; `qcowtui snapshot -l` lists '
            "them."
        )

    def require_plain(self) -> None:
        """Raise EncryptedError when data clusters hold ciphertext and there is no key."""
        if self.encrypted:
            method = "LUKS" if self.encryption == "luks" else "legacy AES"
            raise EncryptedError(
                f"{safe(self.name)} is encrypted ({method}): its guest data cannot be read without "
                "the key."
            )

    def close(self) -> None:
        self.storage.close()
