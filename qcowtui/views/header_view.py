"""What the header pane says: the header's fields in words, in foldable sections."""

from __future__ import annotations

from qcow.errors import UsageError
from qcow.image.image import Image
from qcow.inspect.measure import Target, measure_size
from qcow.layout.constants import COMPRESSION_NAMES
from qcow.layout.geometry import Geometry
from qcow.text import safe

from .header_fields import (
    Field,
    Section,
    bitmaps,
    encryption,
    extensions,
    features,
    places,
)
from .reference_words import unopened
from .session import Session
from .tones import Tone
from .units import count, exact, offset, size


def header_sections(session: Session, key: str = "f") -> tuple[Section, ...]:
    """The sections in reading order; ``key`` is what lets backing files be opened."""
    sections = [_sizes(session)]
    image = session.qcow2
    if image is None:
        sections.append(_raw_format())
        return tuple(sections)
    sections += [_format(image), _references(session, image, key)]
    if image.encrypted:
        sections.append(encryption(image))
    sections += [features(image), bitmaps(session, image), places(image), extensions(image)]
    return tuple(section for section in sections if section.fields)


# -- sizes --------------------------------------------------------------------------------------


def _sizes(session: Session) -> Section:
    virtual = session.image.virtual_size
    length = session.storage.size()
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
    full = _fully_allocated(image, geometry)
    if full is None:
        return Field("Can grow to", "unknown", "its tables would be too large", tone=Tone.MUTED)
    largest = max(session.storage.size(), full + kept)
    doc = f"{exact(largest)}: all of the disk, its tables"
    doc += f" and the {size(kept)} that snapshots keep." if image.snapshots else "."
    doc += " More snapshots let it grow further."
    return Field("Can grow to", size(largest), gloss, doc)


def _fully_allocated(image: Image, geometry: Geometry) -> int | None:
    """Bytes of a file in which every guest cluster has space of its own; None: none can be made."""
    target = Target(
        geometry.cluster_size, geometry.refcount_bits, geometry.version, geometry.extended_l2
    )
    try:
        measured = measure_size(image.virtual_size, target)
    except UsageError:
        return None
    if measured.impossible:
        return None
    elsewhere = image.virtual_size if image.header.has_data_file else 0
    return measured.fully_allocated - elsewhere


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
