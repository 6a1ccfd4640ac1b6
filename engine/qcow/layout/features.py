"""Names of feature bits: what this version knows, and what the image's own table adds."""

from __future__ import annotations

from collections.abc import Iterable

from ..record import record
from ..text import safe

_INCOMPATIBLE, _COMPATIBLE, _AUTOCLEAR = 0, 1, 2
FEATURE_TYPES = ("incompatible", "compatible", "autoclear")

#: (type, bit) -> name, as QEMU writes them into its feature name table.
KNOWN_FEATURES = {
    (_INCOMPATIBLE, 0): "dirty bit",
    (_INCOMPATIBLE, 1): "corrupt bit",
    (_INCOMPATIBLE, 2): "external data file",
    (_INCOMPATIBLE, 3): "compression type",
    (_INCOMPATIBLE, 4): "extended L2 entries",
    (_COMPATIBLE, 0): "lazy refcounts",
    (_AUTOCLEAR, 0): "bitmaps",
    (_AUTOCLEAR, 1): "raw external data",
}
#: Bytes of a record of the feature name table.
FEATURE_RECORD = 48
_FEATURE_NAMES_ABOVE = 4096


@record
class FeatureName:
    """One record of a feature name table; ``name`` is raw image text."""

    type: int
    bit: int
    name: bytes


@record
class FeatureBit:
    """A bit that is set in a header.  ``name`` is safe to show."""

    type: str
    bit: int
    name: str
    known: bool


def parse_feature_names(data: bytes) -> tuple[FeatureName, ...]:
    """The whole 48-byte records of a feature name table (a rest is ignored)."""
    return tuple(
        FeatureName(data[at], data[at + 1], data[at + 2 : at + FEATURE_RECORD].split(b"\0", 1)[0])
        for at in range(0, len(data) - FEATURE_RECORD + 1, FEATURE_RECORD)
    )


def encode_feature_names(names: Iterable[FeatureName]) -> bytes:
    """A feature name table: 48 bytes for each record."""
    return b"".join(
        bytes((name.type, name.bit)) + name.name.ljust(FEATURE_RECORD - 2, b"\0") for name in names
    )


def qemu_feature_names(cluster_size: int, version: int = 3) -> bytes | None:
    """The feature name table QEMU 7.2 puts into each header it writes; None where it puts none.

    It leaves the table out where it would fill much of the header cluster.
    """
    if version < 3 or cluster_size <= _FEATURE_NAMES_ABOVE:
        return None
    return encode_feature_names(
        FeatureName(type_, bit, name.encode()) for (type_, bit), name in KNOWN_FEATURES.items()
    )


def set_features(
    masks: tuple[int, int, int], names: tuple[FeatureName, ...] = ()
) -> tuple[FeatureBit, ...]:
    """The bits set in (incompatible, compatible, autoclear), named by us or by the image."""
    told = {(record.type, record.bit): safe(record.name, 46) for record in reversed(names)}
    found = []
    for type_, mask in enumerate(masks):
        for bit in range(64):
            if mask >> bit & 1:
                key = (type_, bit)
                name = KNOWN_FEATURES.get(key) or told.get(key) or f"unknown bit {bit}"
                found.append(FeatureBit(FEATURE_TYPES[type_], bit, name, key in KNOWN_FEATURES))
    return tuple(found)
