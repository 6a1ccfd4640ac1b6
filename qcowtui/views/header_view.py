"""What the header pane says: the header's fields in words, in foldable sections."""

from __future__ import annotations

from dataclasses import dataclass

from qcow.image.image import Image
from qcow.layout.constants import COMPRESSION_NAMES, CRYPT_AES, CRYPT_LUKS, CRYPT_NONE
from qcow.layout.geometry import Geometry
from qcow.layout.luks import LuksHeader
from qcow.text import safe

from .feature_words import feature_field_words
from .growth import largest_length
from .reference_words import unopened
from .session import Session
from .tones import Tone
from .units import count, exact, offset, plural, size


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


def header_sections(session: Session, key: str = "f") -> tuple[Section, ...]:
    """The sections in reading order; ``key`` is what lets backing files be opened."""
    sections = [_sizes(session)]
    image = session.qcow2
    if image is None:
        sections.append(_raw_format())
        return tuple(sections)
    sections += [_format(image), _references(session, image, key)]
    if image.encrypted:
        sections.append(_encryption(image))
    sections += [_features(image), _bitmaps(session, image), _places(image), _extensions(image)]
    return tuple(section for section in sections if section.fields)


# -- sizes --------------------------------------------------------------------------------------


def _sizes(session: Session) -> Section:
    virtual = session.image.virtual_size
    length = session.file.size()
    fields = [
        Field("Virtual size", size(virtual), "what the guest sees", exact(virtual) + "."),
        Field("File length", size(length), "what ls -l shows", exact(length) + ", holes included."),
        _disk_size(session),
    ]
    image = session.qcow2
    if image is not None:
        fields.append(_image_end(session, length))
        if image.geometry is not None:
            fields.append(_can_grow_to(session, image, image.geometry))
    return Section("sizes", "Sizes", tuple(fields), f"{size(virtual)} virtual")


def _disk_size(session: Session) -> Field:
    if session.file.is_device:
        return Field("Disk size", "-", "a block device", "The image fills a device of the host.")
    used = session.file.allocated_bytes()
    if used is None:
        return Field("Disk size", "unknown", "blocks used on this host", tone=Tone.MUTED)
    return Field(
        "Disk size",
        size(used),
        "blocks used on this host",
        exact(used) + ": what du shows. Less than the file length where the file has holes.",
    )


def _image_end(session: Session, length: int) -> Field:
    end = None
    if session.owners is not None:
        end = session.owners.image_end * session.owners.cluster_size
    elif session.check is not None:
        end = session.check.image_end_offset
    if end is None:
        return Field("Image end", "not read yet", "end of the last used cluster", tone=Tone.MUTED)
    doc = f"The last used cluster ends at {offset(end)}."
    if length > end:
        doc += f" The {size(length - end)} behind it hold nothing."
    elif end > length:
        doc += f" The file ends {size(end - length)} before that."
    return Field(
        "Image end",
        size(end),
        "end of the last used cluster",
        doc,
        # A file that ends inside its last cluster is how qemu-img leaves many images.
        Tone.WARNING if end - length >= session.cluster_size else Tone.PLAIN,
    )


def _can_grow_to(session: Session, image: Image, geometry: Geometry) -> Field:
    gloss = "if the guest writes everywhere"
    kept = 0
    if image.snapshots:
        shares = session.sharing
        if shares is None:
            return Field("Can grow to", "not read yet", gloss, tone=Tone.MUTED)
        kept = shares.cluster_size * sum(n for states, n in shares.sets if states & ~1)
    largest = max(
        session.file.size(),
        largest_length(
            geometry, image.virtual_size, kept=kept, external_data=image.header.has_data_file
        ),
    )
    doc = f"{exact(largest)}: all of the disk, its tables"
    doc += f" and the {size(kept)} that snapshots keep." if image.snapshots else "."
    doc += " More snapshots let it grow further."
    return Field("Can grow to", size(largest), gloss, doc)


def _raw_format() -> Section:
    return Section(
        "format",
        "Format",
        (
            Field(
                "Format",
                "raw",
                "the file is the disk",
                "A raw image has no header, no tables, no snapshots: each byte of the file is a "
                "byte of the disk.",
            ),
        ),
        "raw",
    )


# -- format -------------------------------------------------------------------------------------


def _format(image: Image) -> Section:
    header, geometry = image.header, image.geometry
    known = header.version in (2, 3)
    fields = [
        Field(
            "Format",
            f"qcow2 v{header.version}",
            f"compat {header.compat}" if known else "unknown version",
            "Version 3 (compat 1.1) added zero clusters, feature bits and other refcount widths.",
            Tone.PLAIN if known else Tone.BAD,
            0,
        )
    ]
    if geometry is None:
        fields.append(
            Field(
                "Clusters",
                f"2^{header.cluster_bits} bytes",
                "not usable",
                "The header does not allow any table to be read; the findings say why.",
                Tone.BAD,
            )
        )
        return Section("format", "Format", tuple(fields), f"qcow2 v{header.version}")
    fields += [
        Field(
            "Clusters",
            size(geometry.cluster_size),
            "the unit of space",
            f"{exact(geometry.cluster_size)}. One L2 table maps {size(geometry.l2_span)} of the "
            "disk.",
        ),
        Field(
            "Refcounts",
            f"{geometry.refcount_bits} bit",
            "how often a cluster is used",
            f"A cluster can be shared {count(geometry.refcount_max)} times at most.",
        ),
        Field(
            "Compression",
            _compression(geometry.compression_type),
            "of compressed clusters",
            "",
        ),
    ]
    if geometry.extended_l2:
        fields.append(
            Field(
                "Subclusters",
                size(geometry.subcluster_size),
                "32 in a cluster",
                "Extended L2 entries: each cluster is tracked in 32 parts, so a small write to an "
                "overlay copies less.",
            )
        )
    if not image.encrypted:
        fields.append(Field("Encryption", "none", "guest data is stored plainly"))
    summary = f"qcow2 v{header.version}, {size(geometry.cluster_size)} clusters"
    return Section("format", "Format", tuple(fields), summary)


def _compression(number: int) -> str:
    if number < len(COMPRESSION_NAMES):
        return COMPRESSION_NAMES[number]
    return f"unknown type {number}"


# -- references ---------------------------------------------------------------------------------


def _references(session: Session, image: Image, key: str) -> Section:
    fields = [_backing(session, image, key)]
    if image.backing is not None:
        fields.append(_backing_format(image.backing.format))
    if image.header.has_data_file or image.data_file is not None:
        fields.append(_data_file(session, image, key))
    summary = "none" if image.backing is None else safe(image.backing.name, 40)
    return Section("references", "Other files", tuple(fields), summary)


def _backing(session: Session, image: Image, key: str) -> Field:
    if image.backing is None:
        return Field("Backing file", "none", "the image stands alone")
    name = image.backing.name
    chain = session.chain
    if chain is not None and len(chain.layers) > 1 and chain.layers[1].image is not None:
        return Field("Backing file", safe(name), "opened for reading")
    words = unopened(session.gate, session.file.path, name, key)
    return Field("Backing file", safe(name), words.words, words.sentence, words.tone)


def _backing_format(stated: bytes | None) -> Field:
    if stated is not None:
        return Field("Backing format", safe(stated, 16), "as stated by the image")
    return Field(
        "Backing format",
        "not stated",
        "its first bytes decide",
        "A guest that can write to a raw backing file can make it pass for another format.",
        Tone.WARNING,
    )


def _data_file(session: Session, image: Image, key: str) -> Field:
    name = image.data_file
    if name is None:
        return Field("Data file", "not named", "guest data cannot be found", tone=Tone.BAD)
    chain = session.chain
    if chain is not None and chain.layers[0].data_file is not None:
        return Field("Data file", safe(name), "opened for reading")
    words = unopened(session.gate, session.file.path, name, key)
    return Field("Data file", safe(name), words.words, words.sentence, words.tone)


# -- encryption ---------------------------------------------------------------------------------


def _encryption(image: Image) -> Section:
    method = image.header.crypt_method
    names = {CRYPT_NONE: "none", CRYPT_AES: "legacy AES", CRYPT_LUKS: "LUKS"}
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
        names[method],
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


# -- features, bitmaps, extensions ------------------------------------------------------------


def _features(image: Image) -> Section:
    fields = [Field(bit.name, bit.type, *feature_field_words(bit)) for bit in image.features] or [
        Field("none", "", "no feature bit is set")
    ]
    names = ", ".join(bit.name for bit in image.features)
    return Section("features", "Features", tuple(fields), names or "none")


def _bitmaps(session: Session, image: Image) -> Section:
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


def _extensions(image: Image) -> Section:
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


def _places(image: Image) -> Section:
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
