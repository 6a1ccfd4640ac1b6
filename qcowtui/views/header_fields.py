"""Fields and sections of the header pane, and the sections on encryption, features and tables."""

from __future__ import annotations

from dataclasses import dataclass

from qcow.image.image import Image
from qcow.layout.constants import CRYPT_AES, CRYPT_LUKS
from qcow.layout.luks import LuksHeader
from qcow.text import safe

from .feature_words import feature_field_words
from .session import Session
from .tones import Tone
from .units import count, offset, plural, size


@dataclass(frozen=True, slots=True)
class Field:
    """One line; every text is safe to show.

    ``gloss`` is a few words beside the value, ``doc`` one or two sentences for who asks.
    ``host_cluster`` is where the thing itself lies in the file.
    """

    label: str
    value: str
    gloss: str = ""
    doc: str = ""
    tone: Tone = Tone.PLAIN
    host_cluster: int | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """``summary`` is what the folded section says; ``folded`` how it starts."""

    key: str
    title: str
    fields: tuple[Field, ...]
    summary: str = ""
    folded: bool = False


def encryption(image: Image) -> Section:
    """How guest data is encrypted, as far as that is known without a key."""
    method = image.header.crypt_method
    if method == CRYPT_AES:
        first = Field(
            "Encryption",
            "legacy AES",
            "AES-CBC, weak",
            "QEMU still reads it, for converting only. What is stored cannot be shown here.",
            Tone.WARNING,
        )
        return Section("encryption", "Encryption", (first,), "legacy AES")
    if method != CRYPT_LUKS:
        first = Field("Encryption", f"unknown method {method}", tone=Tone.BAD)
        return Section("encryption", "Encryption", (first,), first.value)
    first = Field(
        "Encryption",
        "LUKS",
        "guest data needs the key",
        "The header below is readable without a key; guest data is not.",
        Tone.NOTE,
    )
    if image.luks is None:
        missing = Field("LUKS header", "cannot be read", "guest data is lost without it")
        return Section("encryption", "Encryption", (first, missing), "LUKS, header unreadable")
    return Section("encryption", "Encryption", (first, *_luks(image, image.luks)), "LUKS")


def _luks(image: Image, luks: LuksHeader) -> list[Field]:
    used = [slot for slot in luks.slots if slot.active]
    doc = "; ".join(f"slot {s.index}: {count(s.iterations)} iterations" for s in used)
    place = None
    if image.crypto is not None and image.geometry is not None:
        place = image.crypto.offset >> image.geometry.cluster_bits
    return [
        Field("Cipher", safe(luks.cipher_algorithm, 24), safe(luks.mode, 24)),
        Field("Hash", safe(luks.hash, 24)),
        Field(
            "Key slots",
            f"{len(used)} of {len(luks.slots)} used",
            "each opens with its own passphrase",
            doc,
            Tone.PLAIN if used else Tone.BAD,
        ),
        Field("LUKS UUID", safe(luks.uuid, 40), host_cluster=place),
    ]


def features(image: Image) -> Section:
    """The feature bits that are set."""
    fields = [Field(bit.name, bit.type, *feature_field_words(bit)) for bit in image.features] or [
        Field("none", "", "no feature bit is set")
    ]
    names = ", ".join(bit.name for bit in image.features)
    return Section("features", "Features", tuple(fields), names or "none")


def bitmaps(session: Session, image: Image) -> Section:
    """The persistent dirty bitmaps, and whether they still count."""
    fields = []
    for bitmap in image.bitmaps:
        words, doc, tone = "recording" if bitmap.auto else "not recording", "", Tone.PLAIN
        fault = None
        if image.geometry is not None:
            fault = bitmap.fault(image.geometry.cluster_size, image.virtual_size)
        if fault is not None:
            words, doc, tone = "unusable", f"QEMU refuses it: {fault}.", Tone.BAD
        elif not image.bitmaps_valid:
            words = "stale"
            doc = "A program that does not know bitmaps wrote to the image; they no longer count."
            tone = Tone.WARNING
        elif bitmap.in_use and session.live:
            words, doc = "in use", "The program that has the image open keeps it in memory."
        elif bitmap.in_use:
            words = "inconsistent"
            doc = "It was in use when a program ended without saving it: its contents are lost."
            tone = Tone.WARNING
        granularity = (
            f"{size(bitmap.granularity)} per bit"
            if bitmap.granularity_bits < 64
            else f"2^{bitmap.granularity_bits} per bit"
        )
        place = None
        if image.geometry is not None:
            place = bitmap.table_offset >> image.geometry.cluster_bits
        fields.append(Field(safe(bitmap.name), granularity, words, doc, tone, place))
    summary = plural(len(fields), "bitmap")
    return Section("bitmaps", "Bitmaps", tuple(fields), summary, folded=len(fields) > 6)


def extensions(image: Image) -> Section:
    """The header extensions, known or not."""
    fields = [
        Field(
            extension.name,
            plural(len(extension.data), "byte"),
            f"at {offset(extension.offset)}",
            "" if extension.known else "Of unknown meaning: kept as it is.",
            Tone.PLAIN if extension.known else Tone.NOTE,
        )
        for extension in image.extensions
    ]
    if image.header.unknown.strip(b"\0"):
        fields.append(
            Field(
                "Unknown header fields",
                plural(len(image.header.unknown), "byte"),
                "kept as they are",
                tone=Tone.NOTE,
            )
        )
    return Section(
        "extensions", "Extensions", tuple(fields), plural(len(fields), "extension"), folded=True
    )


def places(image: Image) -> Section:
    """Where the tables lie in the file."""
    header, geometry = image.header, image.geometry
    if geometry is None:
        return Section("places", "Structures", ())

    def place(label: str, at: int, gloss: str, doc: str = "") -> Field:
        return Field(label, offset(at), gloss, doc, host_cluster=at >> geometry.cluster_bits)

    fields = [
        place("L1 table", header.l1_table_offset, plural(header.l1_size, "entry", "entries")),
        place(
            "Refcount table",
            header.refcount_table_offset,
            plural(header.refcount_table_clusters, "cluster"),
        ),
    ]
    if header.nb_snapshots:
        fields.append(
            place(
                "Snapshot table",
                header.snapshots_offset,
                plural(header.nb_snapshots, "snapshot"),
            )
        )
    if image.bitmap_directory is not None:
        at, length = image.bitmap_directory
        fields.append(place("Bitmap directory", at, plural(length, "byte")))
    if image.crypto is not None:
        fields.append(place("LUKS header", image.crypto.offset, size(image.crypto.length)))
    return Section("places", "Structures", tuple(fields), "where tables lie", folded=True)
