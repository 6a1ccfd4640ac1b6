"""The one selection that all panes share: a cluster, seen from the file and from the guest disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcow.inspect.classes import ClusterClass
    from qcow.inspect.references import ClusterReferences

#: The state whose guest disk an address is on, unless a snapshot is named.
ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Selection:
    """Where the user is.  What is not known, or does not exist for this place, is None.

    A new selection holds the place alone; a job (:func:`qcowtui.views.lookup.look_up`) answers with
    one that is ``complete``.
    """

    host_cluster: int | None = None
    guest_offset: int | None = None  # bytes, of the first byte of the guest cluster
    state: str = ACTIVE  # whose guest disk: "active" or "snapshot:ID" (raw text)
    l1_index: int | None = None
    l2_index: int | None = None
    cluster_class: ClusterClass | None = None
    refcount: int | None = None
    references: ClusterReferences | None = None
    owner: str | None = None  # a few words, safe to show
    complete: bool = False
    error: str | None = None  # why the place could not be looked up; safe to show

    @property
    def empty(self) -> bool:
        return self.host_cluster is None and self.guest_offset is None

    def same_place(self, other: Selection) -> bool:
        """Whether both mean the same cluster, whatever is known of it."""
        if self.host_cluster is not None or other.host_cluster is not None:
            return self.host_cluster == other.host_cluster
        return (self.guest_offset, self.state) == (other.guest_offset, other.state)


def select_host(cluster: int) -> Selection:
    """Host cluster number ``cluster``."""
    return Selection(host_cluster=cluster)


def select_guest(offset: int, state: str = ACTIVE) -> Selection:
    """The guest cluster that byte ``offset`` of a state's disk is in."""
    return Selection(guest_offset=offset, state=state)
