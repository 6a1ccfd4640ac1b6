"""A damaged LUKS header, put back from a backup that the user names (``luks-header=FILE``).

It goes to new clusters and the switch points the encryption header extension at them, so that undo
and crashes find the old one as it was.  Key material is in the backup and there, nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...edit.mending import Mending
from ...errors import EditRefused, FormatError
from ...findings import Finding
from ...image.image import Image
from ...layout import problems as P
from ...layout.constants import CRYPT_LUKS, EXT_CRYPTO
from ...layout.extensions import CryptoExtension
from ...layout.luks import HEADER_LENGTH, STRIPES, LuksHeader, parse_luks
from ...storage.base import Storage
from ...storage.local import open_local
from ...text import safe
from .mends import Mend, Sight
from .remedy import LEAVE, Option

if TYPE_CHECKING:
    from ...edit.repairing import Repair

#: More than eight slots of the longest key take.
_MOST = 64 << 20


def find_luks(sight: Sight) -> list[Mend]:
    """One remedy when the LUKS header, or the reference to it, cannot be used."""
    if sight.image.geometry is None or sight.image.header.crypt_method != CRYPT_LUKS:
        return []
    problem = sight.problem(P.LUKS_INVALID, P.CRYPTO_HEADER)
    return [] if problem is None else [LuksMend(problem, sight.image)]


class LuksMend(Mend):
    """Without an answer there is nothing to do: no other copy of a master key exists."""

    id = "luks-header"

    def __init__(self, finding: Finding, image: Image) -> None:
        self.finding = finding
        self.options = (_option("FILE", "FILE"),)
        self._image = image

    def chosen(self, choices: Mapping[str, str]) -> Option | None:
        path = choices.get(self.id)
        return None if path is None or path == LEAVE else _option(path, f"'{safe(path)}'")

    def mend(self, mending: Mending, option: Option) -> Mending:
        """Only looks at the backup: the place of the new header is not known yet."""
        _read(option.key, self._image)
        return mending

    def apply(self, tx: Repair, option: Option) -> None:
        data = _read(option.key, self._image)
        extension = CryptoExtension(tx.place(data), len(data))
        tx.header_cluster = tx.header_cluster.with_extension(EXT_CRYPTO, extension.encode())


def _option(key: str, shown: str) -> Option:
    return Option(
        key=key,
        title=f"Put the LUKS header and key slots back from the backup {shown}",
        keeps="All guest data, which can be unlocked again with a passphrase of that backup.",
        loses="",
        writes="The LUKS header area, to new clusters.",
        certain=False,
    )


def _read(path: str, image: Image) -> bytes:
    """The LUKS header area in the file at ``path``: bare, or that of another qcow2 image.

    Raises EditRefused when it is none, or not that of ``image``; StorageError.
    """
    storage = open_local(path)
    try:
        start, limit = _place(storage, path)
        header = storage.read(start, HEADER_LENGTH)
        luks = parse_luks(header)
        if luks is None:
            raise EditRefused(f"There is no LUKS header in '{safe(path)}'.")
        faults = luks.faults()
        if faults:
            raise EditRefused(f"The LUKS header in '{safe(path)}' is damaged too: {faults[0]}")
        _same(luks, image, path)
        material = max(slot.key_offset + luks.key_bytes * STRIPES for slot in luks.slots)
        length = max(material, luks.payload_offset)
        data = storage.read(start, length)
        if length > min(limit, _MOST) or len(data) < material:
            raise EditRefused(
                f"The backup '{safe(path)}' is not whole: the key material of the LUKS header ends "
                f"at byte {material}, the file has {min(limit, len(data))}."
            )
    finally:
        storage.close()
    return data.ljust(length, b"\0")


def _place(storage: Storage, path: str) -> tuple[int, int]:
    """(start, most bytes) of the LUKS area."""
    try:
        other = Image(storage)
    except FormatError:
        return 0, storage.size()
    if other.crypto is None:
        raise EditRefused(f"The image '{safe(path)}' has no LUKS header.")
    return other.crypto.offset, other.crypto.length


def _same(luks: LuksHeader, image: Image, path: str) -> None:
    """What can still be read of the damaged header must not speak of another disk."""
    crypto = image.crypto
    there = None
    if crypto is not None and crypto.offset < image.storage.size():
        there = parse_luks(image.storage.read(crypto.offset, HEADER_LENGTH))
    if there is not None and len(there.uuid) == 36 and there.uuid != luks.uuid:
        raise EditRefused(
            f"The backup '{safe(path)}' is that of another disk: its UUID is {safe(luks.uuid)}, "
            f"the image has {safe(there.uuid)}."
        )
