"""The header cluster of a new image, as QEMU lays it out."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from qcow.layout.constants import (
    EXT_BACKING_FORMAT,
    EXT_BITMAPS,
    EXT_END,
    EXT_FEATURE_NAMES,
    KNOWN_HEADER_LENGTH,
    MAGIC,
    V2_HEADER_LENGTH,
)
from qcow.layout.features import KNOWN_FEATURES
from qcow.layout.header import FIELDS

#: QEMU leaves the feature name table out where it would fill much of the header cluster.
_FEATURE_NAMES_ABOVE = 4096


def encode_header_cluster(
    fields: Mapping[str, int],
    *,
    backing_file: bytes | None = None,
    backing_format: bytes | None = None,
    bitmaps: tuple[int, int, int] | None = None,
    extensions: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """The bytes of cluster 0 in the order QEMU writes them, without trailing zeros.

    ``fields`` has the header's values by their names in the spec, except those of the backing file
    name, which are worked out here.  ``bitmaps`` is (count, directory bytes, directory offset).
    Raises ValueError when it does not fit into a cluster.
    """
    version = fields["version"]
    cluster_size = 1 << fields["cluster_bits"]
    length = KNOWN_HEADER_LENGTH if version >= 3 else V2_HEADER_LENGTH

    listed: list[tuple[int, bytes]] = []
    if backing_format is not None:
        listed.append((EXT_BACKING_FORMAT, backing_format))
    if version >= 3 and cluster_size > _FEATURE_NAMES_ABOVE:
        listed.append((EXT_FEATURE_NAMES, _feature_names()))
    if bitmaps is not None:
        count, size, offset = bitmaps
        listed.append((EXT_BITMAPS, struct.pack(">IIQQ", count, 0, size, offset)))
    listed += extensions
    listed.append((EXT_END, b""))
    area = b"".join(
        struct.pack(">II", magic, len(data)) + data + bytes(-len(data) % 8)
        for magic, data in listed
    )

    name = backing_file or b""
    if length + len(area) + len(name) > cluster_size:
        raise ValueError("the header, its extensions and the backing file name exceed one cluster")
    values = {
        **fields,
        "magic": int.from_bytes(MAGIC, "big"),
        "backing_file_offset": length + len(area) if name else 0,
        "backing_file_size": len(name),
        "header_length": length,
    }
    head = bytearray(length)
    for field in FIELDS:
        if field.since <= version:
            head[field.offset : field.offset + field.size] = values[field.name].to_bytes(
                field.size, "big"
            )
    return bytes(head) + area + name


def _feature_names() -> bytes:
    return b"".join(
        bytes((type_, bit)) + name.encode().ljust(46, b"\0")
        for (type_, bit), name in KNOWN_FEATURES.items()
    )
