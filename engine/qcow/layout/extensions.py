"""Header extensions: the list between the header and the backing file name (qcow2 spec)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ..findings import Finding, FindingKind
from ..record import record
from ..text import plural
from .constants import (
    EXT_BACKING_FORMAT,
    EXT_BITMAPS,
    EXT_CRYPTO,
    EXT_DATA_FILE,
    EXT_END,
    EXT_FEATURE_NAMES,
    EXTENSION_NAMES,
    MAX_BACKING_FORMAT,
)
from .problems import (
    EXTENSION_DUPLICATE,
    EXTENSION_INVALID,
    EXTENSION_ODD,
    EXTENSION_OVERRUN,
    EXTENSION_UNKNOWN,
)

#: More extensions than this are not listed one by one; nothing real has more than a dozen.
MAX_LISTED_EXTENSIONS = 1024
_HEAD = struct.Struct(">II")
_BITMAPS = struct.Struct(">IIQQ")
_CRYPTO = struct.Struct(">QQ")


@record
class HeaderExtension:
    """One extension; ``offset`` is where its 8-byte head starts, ``data`` is without padding."""

    magic: int
    offset: int
    data: bytes

    @property
    def name(self) -> str:
        return EXTENSION_NAMES.get(self.magic, f"unknown 0x{self.magic:08x}")

    @property
    def known(self) -> bool:
        return self.magic in EXTENSION_NAMES


@record
class BitmapsExtension:
    """Where the bitmap directory lies (bytes) and how many bitmaps it holds."""

    nb_bitmaps: int
    reserved: int
    directory_size: int
    directory_offset: int

    def encode(self) -> bytes:
        """The 24 bytes of the extension's data."""
        return _BITMAPS.pack(
            self.nb_bitmaps, self.reserved, self.directory_size, self.directory_offset
        )


@record
class CryptoExtension:
    """Where the LUKS header and key material lie (bytes)."""

    offset: int
    length: int

    @classmethod
    def decode(cls, data: bytes) -> CryptoExtension:
        """From the 16 bytes of the extension's data."""
        return cls(*_CRYPTO.unpack(data))

    def encode(self) -> bytes:
        """The 16 bytes of the extension's data."""
        return _CRYPTO.pack(self.offset, self.length)


@record
class ExtensionArea:
    """All extensions of one header, decoded.  The decoded ones are None when absent or unusable."""

    extensions: tuple[HeaderExtension, ...]
    problems: tuple[Finding, ...]
    backing_format: bytes | None = None
    feature_names: bytes = b""
    bitmaps: BitmapsExtension | None = None
    crypto: CryptoExtension | None = None
    data_file: bytes | None = None


def encode_extensions(extensions: Iterable[tuple[int, bytes]]) -> bytes:
    """The area of ``(magic, data)`` pairs in their order, each padded to 8 bytes, and its end."""
    return b"".join(
        _HEAD.pack(magic, len(data)) + data + bytes(-len(data) % 8)
        for magic, data in (*extensions, (EXT_END, b""))
    )


def parse_extensions(area: bytes, start: int, limit: int | None = None) -> ExtensionArea:
    """Parse ``area`` (the bytes from ``start`` to the end of the extension area).

    ``limit`` is the length the area has by the header when the file is cut shorter than that.
    """
    found: list[HeaderExtension] = []
    problems: list[Finding] = []
    at = 0
    end = len(area) if limit is None else limit
    count = 0
    while at + 8 <= len(area):
        magic, length = _HEAD.unpack_from(area, at)
        if magic == EXT_END:
            if length:
                problems.append(
                    _finding(
                        EXTENSION_ODD,
                        "The end marker of the header extensions "
                        f"at {start + at:#x} claims {length} bytes.",
                    )
                )
            break
        if length > end - at - 8:
            problems.append(
                _finding(
                    EXTENSION_OVERRUN,
                    f"The header extension {EXTENSION_NAMES.get(magic, hex(magic))} at "
                    f"{start + at:#x} "
                    f"claims {length} bytes, but only {max(0, end - at - 8)} are left.",
                )
            )
            break
        count += 1
        if count <= MAX_LISTED_EXTENSIONS:
            found.append(HeaderExtension(magic, start + at, area[at + 8 : at + 8 + length]))
        at += 8 + (length + 7 & ~7)
    if count > MAX_LISTED_EXTENSIONS:
        problems.append(
            _finding(
                EXTENSION_ODD,
                f"There are {count} header extensions; the first "
                f"{MAX_LISTED_EXTENSIONS} are listed.",
                count,
            )
        )
    return _decode(tuple(found), problems)


def _decode(found: tuple[HeaderExtension, ...], problems: list[Finding]) -> ExtensionArea:
    first: dict[int, HeaderExtension] = {}
    unknown = 0
    for extension in found:
        if extension.magic in first and extension.known:
            problems.append(
                _finding(
                    EXTENSION_DUPLICATE,
                    f"The header extension {extension.name} appears again at "
                    f"{extension.offset:#x}.",
                )
            )
        first.setdefault(extension.magic, extension)
        unknown += not extension.known
    if unknown:
        problems.append(
            _finding(
                EXTENSION_UNKNOWN,
                f"Kept as found: {plural(unknown, 'header extension')} of unknown meaning.",
                unknown,
            )
        )

    backing_format = first.get(EXT_BACKING_FORMAT)
    if backing_format is not None and len(backing_format.data) > MAX_BACKING_FORMAT:
        problems.append(
            _finding(
                EXTENSION_INVALID,
                f"The backing format name has {len(backing_format.data)} bytes; at "
                f"most {MAX_BACKING_FORMAT} are allowed.",
            )
        )
        backing_format = None
    names = first.get(EXT_FEATURE_NAMES)
    if names is not None and len(names.data) % 48:
        problems.append(
            _finding(
                EXTENSION_ODD,
                f"The feature name table has {len(names.data)} bytes, which is not a "
                "multiple of 48.",
            )
        )
    data_file = first.get(EXT_DATA_FILE)
    return ExtensionArea(
        extensions=found,
        backing_format=backing_format.data if backing_format else None,
        feature_names=names.data if names else b"",
        bitmaps=_bitmaps(first.get(EXT_BITMAPS), problems),
        crypto=_crypto(first.get(EXT_CRYPTO), problems),
        data_file=data_file.data if data_file else None,
        problems=tuple(problems),
    )


def _bitmaps(extension: HeaderExtension | None, problems: list[Finding]) -> BitmapsExtension | None:
    if extension is None:
        return None
    if len(extension.data) != 24:
        problems.append(
            _finding(
                EXTENSION_INVALID,
                f"The bitmaps extension has {len(extension.data)} bytes instead of 24.",
            )
        )
        return None
    return BitmapsExtension(*_BITMAPS.unpack(extension.data))


def _crypto(extension: HeaderExtension | None, problems: list[Finding]) -> CryptoExtension | None:
    if extension is None:
        return None
    if len(extension.data) != 16:
        problems.append(
            _finding(
                EXTENSION_INVALID,
                f"The encryption header extension has {len(extension.data)} bytes instead of 16.",
            )
        )
        return None
    return CryptoExtension.decode(extension.data)


def _finding(kind_: FindingKind, what: str, count: int = 1) -> Finding:
    return Finding(kind_, what, count, "header extensions")
