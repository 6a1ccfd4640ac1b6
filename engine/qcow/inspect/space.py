"""What uses the space: sizes, the breakdown by class, what could be had back, and per snapshot."""

from __future__ import annotations

from collections.abc import Collection

from ..image.image import Image
from ..record import record
from .classes import ClusterClass
from .owners import OwnerMap
from .sharing import ACTIVE, Sharing


@record
class Reclaimable:
    """Bytes of the file that hold nothing: free below the image end, leaked, behind the end."""

    free_inside: int
    leaked: int
    beyond_end: int

    @property
    def total(self) -> int:
        return self.free_inside + self.leaked + self.beyond_end

    @property
    def certain(self) -> int:
        """Without what is leaked, which may be lost guest data."""
        return self.free_inside + self.beyond_end


@record
class StateSpace:
    """Bytes of one state, tables included.  ``index``: 0 active, n + 1 for snapshot n."""

    index: int
    referenced: int  # everything it refers to, shared or not
    exclusive: int  # what nothing else refers to
    frees_if_deleted: int  # exclusive, and what the snapshot table shrinks by
    vm_state_size: int


@record
class Space:
    """All bytes.  ``by_class`` adds up to ``file_length``; ``disk_size`` is None when unknown."""

    virtual_size: int
    file_length: int
    disk_size: int | None
    image_end_offset: int
    by_class: dict[ClusterClass, int]
    reclaimable: Reclaimable
    states: tuple[StateSpace, ...]  # active first, then the snapshots in table order

    @property
    def active(self) -> StateSpace:
        return self.states[ACTIVE]

    @property
    def snapshots(self) -> tuple[StateSpace, ...]:
        return self.states[1:]


def space(image: Image, owners: OwnerMap, shares: Sharing) -> Space:
    """Put the owner map and the sharing of an image into sizes."""
    by_class = _by_class(image, owners)
    return Space(
        virtual_size=image.virtual_size,
        file_length=image.storage.size(),
        disk_size=image.storage.allocated_bytes(),
        image_end_offset=owners.image_end * owners.cluster_size,
        by_class=by_class,
        reclaimable=Reclaimable(
            by_class.get(ClusterClass.FREE, 0),
            by_class.get(ClusterClass.LEAKED, 0),
            by_class.get(ClusterClass.BEYOND_END, 0),
        ),
        states=tuple(_state(image, shares, index) for index in range(shares.states)),
    )


def _by_class(image: Image, owners: OwnerMap) -> dict[ClusterClass, int]:
    sizes = {kind: count * owners.cluster_size for kind, count in owners.counts.items()}
    overhang = owners.total * owners.cluster_size - image.storage.size()
    if overhang:  # the file ends inside its last cluster
        sizes[owners.class_of(owners.total - 1)] -= overhang
    return sizes


def _state(image: Image, shares: Sharing, index: int) -> StateSpace:
    snapshot = None if index == ACTIVE else image.snapshots[index - 1]
    exclusive = shares.exclusive(index)
    return StateSpace(
        index=index,
        referenced=shares.referenced(index),
        exclusive=exclusive,
        frees_if_deleted=exclusive
        if snapshot is None
        else frees_if_deleted(image, shares, (index,)),
        vm_state_size=0 if snapshot is None else snapshot.vm_state_size,
    )


def frees_if_deleted(image: Image, shares: Sharing, members: Collection[int]) -> int:
    """Bytes that become free when all the snapshots ``members`` (state indices) are deleted."""
    size = shares.cluster_size
    before = image.snapshot_table_length  # entries are padded to 8 bytes, the last one, too
    gone = sum(image.snapshots[index - 1].entry_length + 7 & ~7 for index in members)
    table = -(-before // size) - -(-(before - gone) // size)
    return shares.exclusive(members) + table * size
