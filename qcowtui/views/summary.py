"""The one line that says what an image is, and the one that says where the user is."""

from __future__ import annotations

import os
from typing import NamedTuple

from qcow.text import safe

from .health import health, health_words
from .selection import ACTIVE, Selection
from .session import Order, Part, PartState, Session
from .units import count, offset, size


def file_name(session: Session, limit: int = 60) -> str:
    """The last component of the path, safe to show."""
    return safe(os.path.basename(session.path) or session.path, limit)


def facts(session: Session) -> tuple[str, ...]:
    """``qcow2 v3``, ``64 GiB virtual``, ``21.4 GiB on disk``, ``3.2 GiB reclaimable``.

    Only what is known, most important first: a narrow screen leaves the last ones out.
    """
    image = session.qcow2
    found = [session.image.format if image is None else f"qcow2 v{image.header.version}"]
    found.append(f"{size(session.image.virtual_size)} virtual")
    disk = session.file.allocated_bytes()
    if disk is not None and not session.file.is_device:
        found.append(f"{size(disk)} on disk")
    if session.space is not None:
        reclaimable = session.space.reclaimable.certain
        found.append(f"{size(reclaimable)} reclaimable" if reclaimable else "nothing to reclaim")
    return tuple(found)


class Place(NamedTuple):
    """One piece of the status line; ``label`` may be empty.  Both are safe to show."""

    label: str
    value: str


def places(session: Session, selection: Selection) -> tuple[Place, ...]:
    """``host 0x… · guest 0x… · L1[i] L2[j] · refcount n · class · owner …``."""
    if selection.empty:
        return ()
    cluster_size = session.cluster_size
    host, guest = selection.host_cluster, selection.guest_offset
    found = [Place("host", "none" if host is None else offset(host * cluster_size))]
    if guest is not None:
        whose = "" if selection.state == ACTIVE else " (in a snapshot)"
        found.append(Place("guest", offset(guest) + whose))
    elif selection.complete:
        found.append(Place("guest", "none"))
    if selection.l1_index is not None:
        l2 = "" if selection.l2_index is None else f" L2[{selection.l2_index}]"
        found.append(Place("", f"L1[{selection.l1_index}]{l2}"))
    if selection.refcount is not None:
        found.append(Place("refcount", count(selection.refcount)))
    if selection.cluster_class is not None:
        found.append(Place("", selection.cluster_class.label))
    if selection.error is not None:
        found.append(Place("", selection.error))
    elif selection.owner and selection.owner != found[-1].value:
        found.append(Place("owner", selection.owner))
    return tuple(found)


def cell_of(session: Session, selection: Selection) -> str:
    """``cluster 708/6,301``: where the selection is in the order that is shown."""
    if session.order is Order.GUEST:
        if selection.guest_offset is None:
            return ""
        number = selection.guest_offset // session.cluster_size
        total = -(-session.image.virtual_size // session.cluster_size)
    else:
        if selection.host_cluster is None:
            return ""
        number = selection.host_cluster
        total = -(-session.storage.size() // session.cluster_size)
    return f"cluster {count(number)}/{count(total)}"


def verdict(session: Session) -> str:
    """What the check says, in a sentence for the line below; empty while there is none."""
    check = session.check
    if session.qcow2 is None:
        return "A raw image: no metadata that could be checked"
    if check is None:
        if session.state_of(Part.CHECK) is PartState.FAILED:
            return session.failures.get(Part.CHECK, "")
        return ""
    return health_words(health(check, session.triage))
