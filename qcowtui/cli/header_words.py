"""What the fields of a header say, in words.  Texts are safe to show."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from qcow.image.image import Image
from qcow.layout.constants import COMPRESSION_NAMES
from qcow.layout.extensions import HeaderExtension
from qcow.layout.features import FEATURE_TYPES, FeatureBit
from qcow.layout.header import FIELDS, HeaderField
from qcow.text import safe
from qcowtui.views.units import plural, size, size_and_bytes


class FieldWords(NamedTuple):
    """One field as it is stored and what that means; ``raw`` is None where the file ends before."""

    field: HeaderField
    raw: bytes | None
    meaning: str

    @property
    def value(self) -> int | None:
        return None if self.raw is None else int.from_bytes(self.raw, "big")

    @property
    def hex(self) -> str:
        """The stored bytes as one number, all digits shown."""
        return "-" if self.raw is None else "0x" + self.raw.hex()


def header_words(image: Image) -> tuple[FieldWords, ...]:
    """Every field the image's version has, in the order of the file."""
    data = image.storage.read(0, FIELDS[-1].offset + FIELDS[-1].size)
    told = []
    for field in FIELDS:
        if field.since > image.header.version:
            continue
        if field.since >= 3 and field.offset >= image.header.header_length:
            continue
        raw = data[field.offset : field.offset + field.size]
        whole = len(raw) == field.size
        meaning = _MEANINGS[field.name](image) if whole else "cut off by the end of the file"
        told.append(FieldWords(field, raw if whole else None, meaning))
    return tuple(told)


def _place(offset: int, nothing: str = "none") -> str:
    return nothing if offset == 0 else f"at {offset:#x}"


def _cluster_bits(image: Image) -> str:
    bits = image.header.cluster_bits
    if not 9 <= bits <= 21:
        return "impossible: 9 (512 B) to 21 (2 MiB) are"
    return f"clusters of {size(1 << bits)}"


def _l1_size(image: Image) -> str:
    entries = image.header.l1_size
    if image.geometry is None:
        return plural(entries, "entry", "entries")
    span = size(entries * image.geometry.l2_span)
    return f"{plural(entries, 'entry', 'entries')}, room for {span}"


def _refcount_clusters(image: Image) -> str:
    clusters = image.header.refcount_table_clusters
    if image.geometry is None:
        return plural(clusters, "cluster")
    entries = clusters * image.geometry.cluster_size // 8
    span = entries * image.geometry.refcount_block_entries << image.geometry.cluster_bits
    return f"{plural(clusters, 'cluster')}, counts a file of up to {size(span)}"


def _encryption(image: Image) -> str:
    method = image.header.crypt_method
    known = ("none", "legacy AES-CBC", "LUKS")
    return known[method] if method < len(known) else "unknown method"


def _features(type_: int) -> Callable[[Image], str]:
    def meaning(image: Image) -> str:
        set_ = [bit for bit in image.features if bit.type == FEATURE_TYPES[type_]]
        return ", ".join(map(feature_words, set_)) or "none set"

    return meaning


def _refcount_order(image: Image) -> str:
    order = image.header.refcount_order
    return f"refcounts of {plural(1 << order, 'bit')}" if order <= 6 else "impossible: 0 to 6 are"


def _compression(image: Image) -> str:
    type_ = image.header.compression_type
    return COMPRESSION_NAMES[type_] if type_ < len(COMPRESSION_NAMES) else "unknown"


_MEANINGS: dict[str, Callable[[Image], str]] = {
    "magic": lambda image: "a qcow2 image",
    "version": lambda image: f"compat {image.header.compat}",
    "backing_file_offset": lambda image: _place(image.header.backing_file_offset),
    "backing_file_size": lambda image: plural(image.header.backing_file_size, "byte"),
    "cluster_bits": _cluster_bits,
    "size": lambda image: size_and_bytes(image.header.size),
    "crypt_method": _encryption,
    "l1_size": _l1_size,
    "l1_table_offset": lambda image: _place(image.header.l1_table_offset),
    "refcount_table_offset": lambda image: _place(image.header.refcount_table_offset),
    "refcount_table_clusters": _refcount_clusters,
    "nb_snapshots": lambda image: plural(image.header.nb_snapshots, "snapshot"),
    "snapshots_offset": lambda image: _place(image.header.snapshots_offset),
    "incompatible_features": _features(0),
    "compatible_features": _features(1),
    "autoclear_features": _features(2),
    "refcount_order": _refcount_order,
    "header_length": lambda image: plural(image.header.header_length, "byte"),
    "compression_type": _compression,
}


def feature_words(bit: FeatureBit) -> str:
    """``dirty bit``, ``unknown bit 17``, or what the image's own table calls an unknown one."""
    known = bit.known or bit.name == f"unknown bit {bit.bit}"
    return bit.name if known else f'unknown bit {bit.bit} ("{bit.name}")'


def extension_words(image: Image, extension: HeaderExtension) -> str:
    """What a header extension holds."""
    name, data = extension.name, extension.data
    if name in ("backing format", "external data file name"):
        return f'"{safe(data, 200)}"'
    if name == "feature name table":
        return plural(len(image.feature_names), "name")
    if name == "bitmaps" and len(data) == 24:
        count, place = int.from_bytes(data[:4], "big"), int.from_bytes(data[16:], "big")
        stale = "" if image.bitmaps_valid else ", no longer valid"
        return f"{plural(count, 'bitmap')}, directory at {place:#x}{stale}"
    if name == "full disk encryption header" and len(data) == 16:
        place, length = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")
        return f"at {place:#x}, {plural(length, 'byte')}"
    return f"starts with {data[:16].hex(' ')}" if data else "empty"
