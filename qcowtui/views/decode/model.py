"""What decoding works on, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from qcow.image.image import Image
from qcow.layout.geometry import Geometry

if TYPE_CHECKING:
    from qcow.inspect.references import Reference


class Structure(Enum):
    """What a cluster holds; the value is how ``qcow.inspect.references`` calls its owner."""

    HEADER = "header"
    L1 = "L1 table"
    L2 = "L2 table"
    REFCOUNT_TABLE = "refcount table"
    REFCOUNT_BLOCK = "refcount block"
    SNAPSHOT_TABLE = "snapshot table"
    BITMAP_DIRECTORY = "bitmap directory"
    BITMAP_TABLE = "bitmap table"
    BITMAP_DATA = "bitmap data"
    LUKS = "LUKS header"
    COMPRESSED = "compressed data"
    DATA = "data"


class Note(NamedTuple):
    """``length`` bytes from ``start`` (both count from the beginning of the cluster).

    ``label`` is the name, ``value`` what they say; both are safe to show.  ``target`` is the host
    offset they point at, ``guest`` the guest offset they are about; None where there is none.
    """

    start: int
    length: int
    label: str
    value: str
    target: int | None = None
    guest: int | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """Where the bytes lie.  ``first`` is the number of the table entry the cluster begins with.

    For a refcount block it is the first cluster it counts; for an L2 table ``guest`` is the guest
    offset of entry 0, for data that of the first byte (None where it is not known).
    """

    image: Image
    geometry: Geometry
    cluster: int
    first: int = 0
    guest: int | None = None

    @property
    def offset(self) -> int:
        """Host offset of the first byte."""
        return self.cluster << self.geometry.cluster_bits


def structures_of(references: tuple[Reference, ...]) -> tuple[Structure, ...]:
    """What the owners of a cluster take it for; tables before data, each once."""
    found = {Structure(reference.owner) for reference in references}
    return tuple(structure for structure in Structure if structure in found)


def context_for(
    image: Image,
    geometry: Geometry,
    cluster: int,
    structure: Structure,
    references: tuple[Reference, ...],
) -> Context:
    """The context of a cluster that its owners take for ``structure``."""
    offset = cluster << geometry.cluster_bits
    owners = [found for found in references if found.owner == structure.value]
    first, guest = 0, None
    if structure is Structure.L1 and owners:
        at = image.header.l1_table_offset
        for snapshot in image.snapshots:
            if snapshot.label in owners[0].states:
                at = snapshot.l1_table_offset
        first = max(0, offset - at) // 8
    elif structure is Structure.REFCOUNT_TABLE:
        first = max(0, offset - image.header.refcount_table_offset) // 8
    elif structure is Structure.REFCOUNT_BLOCK and owners:
        first = (owners[0].l1_index or 0) * geometry.refcount_block_entries
    elif structure is Structure.BITMAP_TABLE and owners:
        first = max(0, offset - (owners[0].entry_offset or offset)) // 8
    elif structure in (Structure.L2, Structure.DATA) and owners:
        guest = owners[0].guest_offset
    return Context(image, geometry, cluster, first, guest)
