"""Feature bits in words: what each means for whoever opens the image."""

from __future__ import annotations

from qcow.layout.features import FeatureBit

from .tones import Tone

_KNOWN: dict[tuple[str, int], tuple[str, str, Tone]] = {
    ("incompatible", 0): (
        "not cleanly shut down",
        "Refcounts were postponed and not written before the last program ended. Mappings are "
        "intact.",
        Tone.WARNING,
    ),
    ("incompatible", 1): (
        "marked corrupt",
        "A program met damaged metadata while writing. QEMU opens the image read-only from then "
        "on.",
        Tone.BAD,
    ),
    ("incompatible", 2): (
        "data in another file",
        "Guest data lies in an external data file; this file holds the tables.",
        Tone.PLAIN,
    ),
    ("incompatible", 3): (
        "not zlib",
        "Compressed clusters use the type the header names instead of zlib.",
        Tone.PLAIN,
    ),
    ("incompatible", 4): (
        "32 subclusters each",
        "Each cluster is tracked in 32 parts.",
        Tone.PLAIN,
    ),
    ("compatible", 0): (
        "counts may be late",
        "Refcounts may be written late, which is faster; after a crash they are rebuilt.",
        Tone.PLAIN,
    ),
    ("autoclear", 0): (
        "bitmaps are valid",
        "Every program that wrote to the image kept the persistent bitmaps up to date.",
        Tone.PLAIN,
    ),
    ("autoclear", 1): (
        "data file is a raw disk",
        "The external data file can be read alone, as a raw image.",
        Tone.PLAIN,
    ),
}
_UNKNOWN: dict[str, tuple[str, str, Tone]] = {
    "incompatible": (
        "unknown: QEMU refuses",
        "A program must know every incompatible bit; QEMU refuses to open this image.",
        Tone.BAD,
    ),
    "compatible": (
        "unknown, harmless",
        "A program that does not know it may ignore it.",
        Tone.NOTE,
    ),
    "autoclear": (
        "unknown, cleared on write",
        "A program that does not know it clears it when it writes to the image.",
        Tone.NOTE,
    ),
}


def feature_field_words(bit: FeatureBit) -> tuple[str, str, Tone]:
    """(gloss, sentence, tone) for a feature bit that is set."""
    known = _KNOWN.get((bit.type, bit.bit))
    return known if known is not None else _UNKNOWN[bit.type]
