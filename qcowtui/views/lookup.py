"""What is known of the selected place: its other address, its class, its owners.

Reads tables, so it runs in a worker.
"""

from __future__ import annotations

from dataclasses import replace

from qcow.errors import Cancelled, QcowError
from qcow.image.image import Image
from qcow.image.state import State
from qcow.inspect.classes import ClusterClass
from qcow.inspect.references import ClusterReferences, Reference, references_to
from qcow.jobs import CancelToken
from qcow.layout.constants import OFLAG_COMPRESSED
from qcow.layout.tables import OFFSETS

from .selection import ACTIVE, Selection
from .session import Session
from .states import state_name
from .units import plural

#: States named one by one; more are counted.
_MAX_NAMED = 3


def look_up(session: Session, place: Selection, *, cancel: CancelToken | None = None) -> Selection:
    """``place`` with everything that can be known of it.  Raises Cancelled, and nothing else."""
    try:
        image = session.qcow2
        if image is None:
            return _in_raw_file(session, place)
        if place.host_cluster is None and place.guest_offset is not None:
            place = _with_host(image, place)
        if place.host_cluster is None:
            return replace(place, owner=place.owner or "", complete=True)
        return _with_owners(image, session, place, cancel)
    except Cancelled:
        raise
    except QcowError as error:
        return replace(place, error=str(error), complete=True)


def _in_raw_file(session: Session, place: Selection) -> Selection:
    """In a raw file guest and host are the same."""
    if place.host_cluster is None and place.guest_offset is not None:
        place = replace(place, host_cluster=place.guest_offset // session.cluster_size)
    assert place.host_cluster is not None
    guest = place.host_cluster * session.cluster_size
    return replace(session.glance(place), guest_offset=guest, owner="the raw disk", complete=True)


def _with_host(image: Image, place: Selection) -> Selection:
    """Follow the tables from a guest offset to the host cluster it is stored in, if any."""
    assert place.guest_offset is not None
    state = _state(image, place.state)
    geometry = state.geometry
    cluster = place.guest_offset >> geometry.cluster_bits
    place = replace(
        place,
        guest_offset=cluster << geometry.cluster_bits,
        l1_index=cluster // geometry.l2_entries,
        l2_index=cluster % geometry.l2_entries,
    )
    for window in state.windows(cluster, 1):
        if window.entries is None:
            if window.fault is not None:
                return replace(place, cluster_class=ClusterClass.CORRUPT, owner=window.fault)
            return replace(place, cluster_class=ClusterClass.FREE, owner=_elsewhere(image))
        entry = int(window.entries[0])
        if entry & OFLAG_COMPRESSED:
            offset, _length = geometry.compressed_extent(entry)
            return replace(place, host_cluster=offset >> geometry.cluster_bits)
        offset = entry & int(OFFSETS)
        if image.header.has_data_file:
            return replace(place, owner="the external data file")
        if offset:
            return replace(place, host_cluster=offset >> geometry.cluster_bits)
        if entry & 1:
            return replace(
                place, cluster_class=ClusterClass.ZERO_ALLOCATED, owner="zeros, no space"
            )
        return replace(place, cluster_class=ClusterClass.FREE, owner=_elsewhere(image))
    return replace(place, error="This address lies beyond the end of the disk.")


def _elsewhere(image: Image) -> str:
    if image.backing is not None:
        return "not in this layer: the backing file says"
    return "not allocated: reads as zeros"


def _state(image: Image, label: str) -> State:
    if label == ACTIVE:
        return image.active
    return image.snapshot_state(image.find_snapshot(label.removeprefix("snapshot:")))


def _with_owners(
    image: Image, session: Session, place: Selection, cancel: CancelToken | None
) -> Selection:
    assert place.host_cluster is not None
    found = references_to(image, place.host_cluster, cancel=cancel)
    place = replace(session.glance(place), references=found, refcount=found.refcount)
    mapped = [
        ref for ref in found.references if ref.l2_index is not None and ref.l1_index is not None
    ]
    if place.guest_offset is None and (told := mapped or _tables(found.references)):
        best = min(told, key=lambda ref: ACTIVE not in ref.states)
        state = ACTIVE if ACTIVE in best.states else best.states[0]
        place = replace(
            place,
            guest_offset=best.guest_offset,
            state=state,
            l1_index=best.l1_index,
            l2_index=best.l2_index,
        )
    return replace(place, owner=owner_text(image, found), complete=True)


def _tables(references: tuple[Reference, ...]) -> list[Reference]:
    return [ref for ref in references if ref.owner == "L2 table"]


def owner_text(image: Image, found: ClusterReferences) -> str:
    """Who a cluster belongs to, in a few words: ``active, before-update`` or ``L1 table``."""
    if not found.references:
        return "nobody" if found.refcount == 0 else "nobody (leaked)"
    owners = list(dict.fromkeys(ref.owner for ref in found.references))
    states = list(dict.fromkeys(label for ref in found.references for label in ref.states))
    states.sort(key=lambda label: label != ACTIVE)
    names = [state_name(image, label) for label in states[:_MAX_NAMED]]
    if len(states) > _MAX_NAMED:
        names.append(plural(len(states) - _MAX_NAMED, "more state"))
    whose = ", ".join(names)
    if owners in (["data"], ["compressed data"]):
        return whose
    what = " + ".join(owners[:_MAX_NAMED])
    return f"{what} of {whose}" if whose else what
