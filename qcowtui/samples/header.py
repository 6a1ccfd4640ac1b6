"""The header cluster of a new image, as QEMU lays it out."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from qcow.layout.constants import (
    EXT_BACKING_FORMAT,
    EXT_BITMAPS,
    EXT_FEATURE_NAMES,
    KNOWN_HEADER_LENGTH,
    MAGIC,
    V2_HEADER_LENGTH,
)
from qcow.layout.extensions import encode_extensions
from qcow.layout.features import qemu_feature_names
from qcow.layout.header import FIELDS


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
    names = qemu_feature_names(cluster_size, version)
    if names is not None:
        listed.append((EXT_FEATURE_NAMES, names))
    if bitmaps is not None:
        count, size, offset = bitmaps
        listed.append((EXT_BITMAPS, struct.pack(">IIQQ", count, 0, size, offset)))
    area = encode_extensions((*listed, *extensions))

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
