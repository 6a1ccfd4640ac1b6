"""One cluster in words: what it is, how often it is counted and used, and who points at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcow.image.image import Image
from qcow.inspect.classes import ClusterClass

from .selection import ACTIVE, Selection
from .session import Session
from .states import state_name
from .tones import Tone
from .units import count, offset, plural, size

if TYPE_CHECKING:
    from qcow.inspect.references import ClusterReferences, Reference

#: States named one by one; more are counted.
_MAX_NAMED = 4
_GUEST = ("data", "compressed data")


@dataclass(frozen=True, slots=True)
class Owner:
    """One thing that points at the cluster.  ``pointer`` is the host offset of the pointer."""

    text: str  # safe to show
    pointer: int | None


@dataclass(frozen=True, slots=True)
class ClusterView:
    """``title`` names the place, ``note`` says what it is or why that is not known.

    ``unlisted`` references are beyond those in ``owners``.
    """

    title: str
    note: str
    tone: Tone = Tone.PLAIN
    counts: str = ""
    counts_tone: Tone = Tone.PLAIN
    owners: tuple[Owner, ...] = ()
    unlisted: int = 0


def cluster_view(session: Session, place: Selection) -> ClusterView:
    """What is known of the selected place."""
    if place.empty:
        return ClusterView("", "Nothing is selected: pick a cluster on the map.")
    title = _title(session, place)
    if place.error is not None:
        return ClusterView(title, place.error, Tone.BAD)
    found, image = place.references, session.qcow2
    if place.host_cluster is None:
        note = f"Not in this file: {place.owner}." if place.owner else "Looking it up ..."
        return ClusterView(title, note, Tone.MUTED)
    note, tone = _class_words(place)
    if found is None or image is None:
        more = "" if place.complete else "  (looking up who uses it ...)"
        return ClusterView(title, note + more, tone)
    counts, counts_tone = _counts(found, place, image)
    return ClusterView(
        title=title,
        note=note,
        tone=tone,
        counts=counts,
        counts_tone=counts_tone,
        owners=tuple(_owners(image, found)),
        unlisted=max(0, found.total - sum(_times(one) for one in found.references)),
    )


def _title(session: Session, place: Selection) -> str:
    cluster_size = session.cluster_size
    parts = []
    if place.host_cluster is not None:
        total = -(-session.storage.size() // cluster_size)
        parts.append(f"Cluster {count(place.host_cluster)} of {count(total)}")
        parts.append(f"host {offset(place.host_cluster * cluster_size)}")
    if place.guest_offset is not None:
        parts.append(f"guest {offset(place.guest_offset)} ({size(place.guest_offset)})")
    return " · ".join(parts)


_CLASS_WORDS = {
    ClusterClass.FREE: "Free: nothing uses it, and its refcount is 0.",
    ClusterClass.BEYOND_END: "Behind the last used cluster: nothing uses it.",
    ClusterClass.ZERO_ALLOCATED: "Space kept for a cluster that reads as zeros.",
    ClusterClass.DATA: "Guest data.",
    ClusterClass.COMPRESSED: "Compressed guest data; several clusters can share one.",
    ClusterClass.SHARED: "Guest data that several states share.",
    ClusterClass.VM_STATE: "Memory of a machine, saved with a snapshot.",
    ClusterClass.BITMAP: "Part of a persistent dirty bitmap.",
    ClusterClass.SNAPSHOT_L1: "L1 table of a snapshot: where its map of the disk begins.",
    ClusterClass.SNAPSHOT_TABLE: "The list of snapshots.",
    ClusterClass.LUKS_HEADER: "LUKS header and key material.",
    ClusterClass.REFCOUNT_BLOCK: "Refcounts: how often each of a stretch of clusters is used.",
    ClusterClass.REFCOUNT_TABLE: "Refcount table: where the refcount blocks are.",
    ClusterClass.L2: "L2 table: where each cluster of a part of the disk is.",
    ClusterClass.L1: "L1 table: where the L2 tables of the disk are.",
    ClusterClass.HEADER: "The header: where everything begins.",
    ClusterClass.LEAKED: "Leaked: counted as used, but nothing points at it. It may hold lost "
    "guest data, so look before it is reclaimed.",
    ClusterClass.CORRUPT: "Corrupt: counted less often than it is used, or pointed at in a way "
    "that cannot be right.",
    ClusterClass.OVERLAPPING: "Overlapping: two owners that can never share a cluster use it.",
}


def _class_words(place: Selection) -> tuple[str, Tone]:
    found = place.cluster_class
    if found is None or found is ClusterClass.UNREAD:
        return place.owner or "", Tone.MUTED
    tone = Tone.PLAIN
    if found.is_problem:
        tone = Tone.WARNING if found is ClusterClass.LEAKED else Tone.BAD
    return _CLASS_WORDS[found], tone


def _counts(found: ClusterReferences, place: Selection, image: Image) -> tuple[str, Tone]:
    text = f"refcount on disk {count(found.refcount)}, references found {count(found.total)}"
    if found.refcount == found.total:
        return text + ": they agree", Tone.GOOD
    if found.refcount > found.total:
        return text + ": counted too often (leak)", Tone.WARNING
    if image.header.dirty:
        return text + ": not yet counted (lazy refcounts)", Tone.WARNING
    return text + ": counted too seldom", Tone.BAD


def _times(reference: Reference) -> int:
    """How often a reference counts: once for each state that has it through its own table."""
    return len(reference.states) if reference.owner in _GUEST else 1


def _owners(image: Image, found: ClusterReferences) -> Iterator[Owner]:
    for reference in sorted(found.references, key=lambda one: ACTIVE not in one.states):
        yield Owner(_owner_words(image, reference), reference.entry_offset)


def _owner_words(image: Image, reference: Reference) -> str:
    whose = _states(image, reference.states)
    at = f" at {offset(reference.entry_offset)}" if reference.entry_offset is not None else ""
    if reference.owner in _GUEST:
        guest = reference.guest_offset
        what = "guest" if guest is None or guest < image.virtual_size else "VM state at"
        if reference.owner != "data":
            what = f"compressed {what}"
        where = "" if guest is None else f" {offset(guest)}"
        entry = f"L2[{reference.l2_index}]{at}"
        return f"{what}{where} ← {entry} ← L1[{reference.l1_index}] of {whose}"
    if reference.owner == "L2 table":
        guest = reference.guest_offset
        part = "" if guest is None else f" from guest {offset(guest)} on"
        return f"L2 table{part} ← L1[{reference.l1_index}]{at} of {whose}"
    if reference.owner == "L1 table":
        source = "header" if ACTIVE in reference.states else "snapshot table"
        return f"L1 table of {whose} ← {source}"
    if reference.owner == "refcount block":
        return f"refcount block ← refcount table [{reference.l1_index}]{at}"
    if reference.owner == "bitmap data":
        return f"bitmap data ← bitmap table [{reference.l2_index}]{at}"
    return {
        "header": "header, always used",
        "refcount table": "refcount table ← header",
        "snapshot table": "snapshot table ← header",
        "LUKS header": "LUKS header ← header extension",
        "bitmap directory": "bitmap directory ← header extension",
        "bitmap table": "bitmap table ← bitmap directory",
    }.get(reference.owner, reference.owner)


def _states(image: Image, labels: tuple[str, ...]) -> str:
    names = [state_name(image, label) for label in labels[:_MAX_NAMED]]
    if len(labels) > _MAX_NAMED:
        names.append(plural(len(labels) - _MAX_NAMED, "more state"))
    return ", ".join(names)
