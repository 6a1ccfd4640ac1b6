"""What the selected cluster can be read as, and the fields around one byte of it."""

from __future__ import annotations

from dataclasses import dataclass

from qcow.inspect.classes import ClusterClass

from ..selection import Selection
from ..session import Session
from .annotate import annotate
from .model import Context, Note, Structure, context_for, structures_of

#: Bytes before and behind the cursor in which fields are named.
_REACH = 1024
#: A leaked cluster may be a lost table: it can be read as one.
_LOST = (Structure.DATA, Structure.L2, Structure.REFCOUNT_BLOCK)


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a cluster; ``start`` and ``stop`` are host offsets."""

    structure: Structure
    context: Context
    start: int
    stop: int


def readings_of(session: Session, place: Selection) -> tuple[Reading, ...]:
    """The ways its owners read the selected cluster; for a leaked one, what it may have been."""
    image, cluster, found = session.qcow2, place.host_cluster, place.references
    if image is None or image.geometry is None or cluster is None or found is None:
        return ()
    geometry = image.geometry
    structures = structures_of(found.references)
    if not structures and place.cluster_class is ClusterClass.LEAKED:
        structures = _LOST
    start = cluster << geometry.cluster_bits
    stop = min(start + geometry.cluster_size, session.storage.size())
    return tuple(
        Reading(one, context_for(image, geometry, cluster, one, found.references), start, stop)
        for one in structures
    )


def notes_near(reading: Reading, data: bytes | None, at: int) -> tuple[list[Note], range]:
    """Notes around host offset ``at``, their starts host offsets too, and where they are good for.

    ``data`` are the bytes of the cluster; nothing is named while they are None.
    """
    if data is None or not reading.start <= at < reading.stop:
        return [], range(0)
    inside = at - reading.start
    first, last = max(0, inside - _REACH), min(len(data), inside + _REACH)
    notes = [
        note._replace(start=note.start + reading.start)
        for note in annotate(data, reading.structure, reading.context, first, last)
    ]
    # Near the border of what is named the screen shows more: the next window is due before that.
    low = 0 if first == 0 else first + _REACH // 2
    high = len(data) if last == len(data) else last - _REACH // 2
    return notes, range(reading.start + low, reading.start + high)
