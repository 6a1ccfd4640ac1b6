"""Other names of the same length, so that a bundle tells nobody's."""

from __future__ import annotations

from itertools import count

from ..image.image import Image
from ..layout.bitmaps import ENTRY_HEAD
from ..layout.constants import EXT_DATA_FILE

#: Bytes of a snapshot's extra data whose meaning is known.
_KNOWN_EXTRA = 24


class Redaction:
    """What stands in the small tables of ``image`` instead of names; equal ones stay equal.

    Header extensions of unknown meaning and unknown extra data of snapshots become zeros.
    """

    def __init__(self, image: Image) -> None:
        self._given: dict[bytes, bytes] = {}
        self._numbers: dict[int, count[int]] = {}
        self._patches: list[tuple[int, bytes]] = []
        self._in_header(image)
        for snapshot in image.snapshots:
            name_at = snapshot.entry_offset + snapshot.entry_length - len(snapshot.name)
            self._put(name_at, snapshot.name)
            unknown = snapshot.extra[_KNOWN_EXTRA:]
            extra_at = name_at - len(snapshot.id) - len(unknown)
            self._patches.append((extra_at, bytes(len(unknown))))
        if image.bitmap_directory is not None:
            at = image.bitmap_directory[0]
            for bitmap in image.bitmaps:
                name_at = at + ENTRY_HEAD + bitmap.extra_size
                self._put(name_at, bitmap.name)
                at = name_at + len(bitmap.name) + 7 & ~7

    def applied(self, offset: int, data: bytes) -> bytes:
        """``data`` of the image at ``offset`` with the other names."""
        changed = bytearray(data)
        for at, replacement in self._patches:
            low, high = max(at, offset), min(at + len(replacement), offset + len(data))
            if low < high:
                changed[low - offset : high - offset] = replacement[low - at : high - at]
        return bytes(changed)

    def _in_header(self, image: Image) -> None:
        header = image.header
        if image.backing is not None:
            self._put(header.backing_file_offset, image.backing.name)
        for extension in image.extensions:
            if extension.magic == EXT_DATA_FILE:
                self._put(extension.offset + 8, extension.data)
            elif not extension.known:
                self._patches.append((extension.offset + 8, bytes(len(extension.data))))

    def _put(self, at: int, name: bytes) -> None:
        if name not in self._given:
            numbers = self._numbers.setdefault(len(name), count(1))
            text = str(next(numbers)).encode()
            self._given[name] = text.rjust(len(name), b"x")[-len(name) :] if name else b""
        self._patches.append((at, self._given[name]))
