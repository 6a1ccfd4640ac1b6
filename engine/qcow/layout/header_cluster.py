"""Cluster 0 as one value: the header, its extensions and the backing file's name.

The qcow2 spec lets the three lie in cluster 0 like this: the header at 0, the extensions behind it
up to an end marker (or up to the backing file's name), the name anywhere behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from ..errors import EditRefused, FormatError, UsageError
from ..record import record, replace
from .constants import (
    EXT_BACKING_FORMAT,
    EXT_BITMAPS,
    EXT_CRYPTO,
    EXT_DATA_FILE,
    EXT_FEATURE_NAMES,
    MAX_BACKING_FORMAT,
    MAX_NAME,
)
from .extensions import (
    MAX_LISTED_EXTENSIONS,
    BitmapsExtension,
    encode_extensions,
    parse_extensions,
)
from .header import Header
from .problems import EXTENSION_OVERRUN

#: The order in which QEMU writes extensions; unknown ones come last.
_ORDER = (EXT_BACKING_FORMAT, EXT_DATA_FILE, EXT_CRYPTO, EXT_FEATURE_NAMES, EXT_BITMAPS)

Extension = tuple[int, bytes]


@record
class HeaderCluster:
    """What cluster 0 says, apart from where in it things lie.

    ``header`` keeps the place of the backing file's name as it was parsed; :meth:`encode` works it
    out anew.  ``extensions`` are ``(magic, data)`` in the order of the file, unknown ones and
    repeated ones included, without the end marker.  ``backing_name`` is raw image text.
    """

    header: Header
    extensions: tuple[Extension, ...] = ()
    backing_name: bytes | None = None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From the bytes of cluster 0; what a shorter file lacks counts as zeros.

        Raises FormatError when the structures do not fit into it.
        """
        header = Header.parse(data)
        size = header.cluster_size
        data = data[:size].ljust(size, b"\0")
        start, end = header.extension_area
        area = parse_extensions(data[start:end], start)
        overrun = next((p for p in area.problems if p.kind is EXTENSION_OVERRUN), None)
        if overrun is not None:
            raise FormatError(overrun.what)
        if len(area.extensions) >= MAX_LISTED_EXTENSIONS:
            raise FormatError(f"There are {MAX_LISTED_EXTENSIONS} header extensions or more.")
        name = None
        if header.backing_file_offset:
            at, length = header.backing_file_offset, header.backing_file_size
            if at > size or length > min(MAX_NAME, size - at):
                raise FormatError(
                    f"The backing file name of {length} bytes at {at:#x} does not lie in the "
                    "header cluster."
                )
            name = data[at : at + length]
        return cls(header, tuple((e.magic, e.data) for e in area.extensions), name)

    def extension(self, magic: int) -> bytes | None:
        """The data of the first extension with ``magic``, or None."""
        return next((data for found, data in self.extensions if found == magic), None)

    @property
    def backing_format(self) -> bytes | None:
        return self.extension(EXT_BACKING_FORMAT)

    def with_header(self, **fields: int) -> Self:
        """With other values of header fields, by their names in the spec."""
        changes: dict[str, Any] = dict(fields)
        return replace(self, header=replace(self.header, **changes))

    def with_extension(self, magic: int, data: bytes | None) -> Self:
        """With ``data`` in the place of every extension of that magic; None removes it.

        One that was not there goes where QEMU would write it.
        """
        found: list[Extension] = []
        placed = data is None
        for extension in self.extensions:
            if extension[0] != magic:
                found.append(extension)
            elif not placed and data is not None:
                found.append((magic, data))
                placed = True
        if not placed and data is not None:
            rank = _rank(magic)
            later = (i for i, (other, _) in enumerate(found) if _rank(other) > rank)
            found.insert(next(later, len(found)), (magic, data))
        return replace(self, extensions=tuple(found))

    def with_backing(self, name: bytes | None, format_: bytes | None) -> Self:
        """With another backing file, or none.  Raises UsageError for names that are too long."""
        if name is not None and not 1 <= len(name) <= MAX_NAME:
            raise UsageError(
                f"The backing file name has {len(name)} bytes; 1 to {MAX_NAME} are possible."
            )
        if format_ is not None and len(format_) > MAX_BACKING_FORMAT:
            raise UsageError(
                f"The backing format name has {len(format_)} bytes; at most {MAX_BACKING_FORMAT} "
                "are possible."
            )
        return replace(self.with_extension(EXT_BACKING_FORMAT, format_), backing_name=name)

    def with_bitmaps(self, bitmaps: BitmapsExtension | None) -> Self:
        """With another place of the bitmap directory; the feature bit is the caller's."""
        return self.with_extension(EXT_BITMAPS, bitmaps.encode() if bitmaps else None)

    def with_data_file(self, name: bytes | None) -> Self:
        """With another external data file's name; the feature bits are the caller's."""
        return self.with_extension(EXT_DATA_FILE, name)

    def with_feature_names(self, table: bytes | None) -> Self:
        """With another feature name table (48-byte records)."""
        return self.with_extension(EXT_FEATURE_NAMES, table)

    def encode(self, cluster_size: int | None = None) -> bytes:
        """The used part of cluster 0, laid out as QEMU does: the name right behind the extensions.

        ``cluster_size`` is the header's unless given.  Raises EditRefused when it does not fit.
        """
        size = self.header.cluster_size if cluster_size is None else cluster_size
        area = encode_extensions(self.extensions)
        name_at = self.header.header_length + len(area)
        if name_at + len(self.backing_name or b"") > size:
            raise EditRefused(
                "There is no space left in the file header: it, its extensions and the backing "
                f"file name take more than one cluster of {size} bytes."
            )
        return self.encode_header(name_at) + area + (self.backing_name or b"")

    def encode_header(self, name_at: int) -> bytes:
        """The header alone, with the backing file's name (where there is one) at ``name_at``."""
        named = self.backing_name is not None
        return replace(
            self.header,
            backing_file_offset=name_at if named else 0,
            backing_file_size=len(self.backing_name or b""),
        ).encode()

    def says_the_same(self, other: HeaderCluster) -> bool:
        """Whether both mean the same, wherever the name and the extensions lie."""
        return (
            self.encode_header(0) == other.encode_header(0)
            and self.backing_name == other.backing_name
            and sorted(self.extensions, key=_key) == sorted(other.extensions, key=_key)
        )


def used_ranges(data: bytes) -> tuple[tuple[int, int], ...]:
    """(start, end) of each part of cluster 0 that a structure uses, in ascending order.

    ``data`` is the cluster.  What lies in no range means nothing to a reader of this version.
    """
    header = Header.parse(data)
    size = header.cluster_size
    start, end = header.extension_area
    area = encode_extensions(
        (e.magic, e.data) for e in parse_extensions(data[start:end], start).extensions
    )
    used = [(0, min(end, start + len(area)))]
    if header.backing_file_offset:
        at = header.backing_file_offset
        used.append((at, min(size, at + header.backing_file_size)))
    return tuple(used)


def order_for_switch(extensions: Sequence[Extension]) -> tuple[Extension, ...]:
    """The same extensions with those that change often first and the feature name table last.

    Their order means nothing to a reader, except among extensions of the same magic.
    """
    return tuple(sorted(extensions, key=lambda e: (e[0] == EXT_FEATURE_NAMES, _rank(e[0]))))


def _rank(magic: int) -> int:
    return _ORDER.index(magic) if magic in _ORDER else len(_ORDER)


def _key(extension: Extension) -> tuple[int, int]:
    """Extensions of one magic keep their order: the first one counts."""
    return _rank(extension[0]), extension[0]
