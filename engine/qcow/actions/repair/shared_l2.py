"""L2 tables that one state names twice: two guest ranges share all their data, and each write.

Counted right, that is no error to a check, and still no program makes it: one of the L1 entries is
damaged.  The ranges get tables of their own, or one gets the lost table back that it had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...findings import Finding, GuestRange, Range
from ...inspect.check import kinds as K
from ...inspect.triage import Orphan
from ...jobs import CancelToken
from ...layout.constants import OFLAG_COMPRESSED
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, decode_u64, encode_u64
from ...storage.buffers import page_aligned
from ...text import plural
from .diagnosis import Case
from .giving_up import shown_by_nothing
from .reattach import has_signs, l1_of
from .remedy import Option, Remedy
from .scan import L1Table, disk_size, l1_name, l1_tables, state_key

if TYPE_CHECKING:
    from ...edit.repairing import Repair

_COMPRESSED = np.uint64(OFLAG_COMPRESSED)
#: Bytes of data that are read and placed at a time.
_RUN = 4 << 20
#: Tables that get a remedy each, and lost tables offered for each of them.
_SINGLE, _CANDIDATES = 64, 4


class SharedTable(Remedy):
    """One L2 table and the L1 entries of one state that name it."""

    order = 25  # entries that name impossible places were treated before

    def __init__(
        self, finding: Finding, id_: str, snapshot: int | None, places: I64, options: list[Option]
    ) -> None:
        """``places``: int64, the indices of the entries, ascending."""
        self.id = id_
        self.finding = finding
        self.options = tuple(options)
        self.default = "apart" if options[0].key == "apart" else None
        self._snapshot = snapshot
        self._places = places

    def apply(self, tx: Repair, option: Option) -> None:
        l1 = l1_of(tx, self._snapshot)
        offset = int(l1[self._places[0]] & OFFSETS)
        places = self._places[(l1[self._places] & OFFSETS) == np.uint64(offset)].tolist()
        way, _, rest = option.key.partition("-")
        if way == "table":
            index, _, lost = rest.partition("-")
            l1[int(index)] = np.uint64(int(lost, 16))
            places.remove(int(index))
        elif way == "drop":
            l1[int(rest)] = np.uint64(0)
            places.remove(int(rest))
        for index in () if tx.image.encrypted else places[1:]:
            l1[index] = np.uint64(_copy(tx, offset))


def _copy(tx: Repair, offset: int) -> int:
    """Place a copy of the L2 table at ``offset``, and of all its data that is not compressed.

    Data shared within one state would be no error now; after a write to one of its owners, COPIED
    would be missing at the other.
    """
    geometry, storage = tx.geometry, tx.image.storage
    words = decode_u64(storage.read(offset, geometry.cluster_size)).astype(np.uint64)
    entries = words[::2] if geometry.extended_l2 else words
    offsets = entries & OFFSETS
    low = np.uint64(geometry.cluster_size - 1)
    plain = ((entries & _COMPRESSED) == 0) & (offsets != 0) & ((offsets & low) == 0)
    plain &= offsets < np.uint64(storage.size())
    numbers = np.flatnonzero(plain)
    step = max(1, _RUN >> geometry.cluster_bits)
    buffer = page_aligned(min(step, len(numbers)) << geometry.cluster_bits).data
    for at in range(0, len(numbers), step):
        part = numbers[at : at + step]
        tx.step("copying data", at, len(numbers))
        view = buffer[: len(part) << geometry.cluster_bits]
        storage.read_pieces(offsets[part].tolist(), geometry.cluster_size, view)
        first = tx.place(view)
        places = first + np.arange(len(part), dtype=np.int64) * geometry.cluster_size
        entries[part] = (entries[part] & ~OFFSETS) | places.astype(np.uint64)
    return tx.place(encode_u64(words).data)


def find_shared_tables(case: Case, cancel: CancelToken | None) -> list[Remedy]:
    """A remedy for each L2 table that a state names more than once."""
    geometry = case.image.geometry
    if geometry is None or case.image.unusable is not None or case.image.header.has_data_file:
        return []
    made: list[Remedy] = []
    for table in l1_tables(case.image):
        for offset in _twice(case, geometry, table)[: _SINGLE - len(made)].tolist():
            places = np.flatnonzero((table.entries & OFFSETS) == np.uint64(offset))
            made.append(_remedy(case, geometry, table, offset, places))
    return made


def _twice(case: Case, geometry: Geometry, table: L1Table) -> I64:
    """Host offsets (int64) of whole tables in the file that ``table`` names more than once."""
    offsets, times = np.unique(table.entries & OFFSETS, return_counts=True)
    aligned = (offsets & np.uint64(geometry.cluster_size - 1)) == 0
    inside = offsets + np.uint64(geometry.cluster_size) <= np.uint64(case.image.storage.size())
    twice: I64 = offsets[(offsets != 0) & (times > 1) & aligned & inside].astype(np.int64)
    return twice


def _remedy(
    case: Case,
    geometry: Geometry,
    table: L1Table,
    offset: int,
    places: I64,
) -> Remedy:
    ranges = [_range(case, geometry, table, index) for index in places.tolist()]
    owner = l1_name(table.state)
    listed = ", ".join(str(index) for index in places[:8].tolist())
    finding = Finding(
        K.OVERLAP,
        f"{len(places)} entries of {owner} ({listed}) name one L2 table, at {offset:#x}: what is "
        "written to one of the guest ranges appears in the others.",
        len(places),
        "L1 table",
        (Range(offset, geometry.cluster_size),),
        tuple(ranges),
    )
    options = []
    if not case.image.encrypted:  # ciphertext depends on its place
        apart = Option(
            "apart",
            "Give each range a table and data of its own",
            "What each of the ranges reads now; writes to one no longer appear in the others.",
            "",
            "Copies of the L2 table and its data for each further range, and the L1 table anew.",
            moves=True,
        )
        options.append(apart)
    for orphan in _lost_tables(case):
        for index, where in zip(places.tolist(), ranges, strict=True):
            if orphan.last * geometry.cluster_size < where.length:
                options.append(_point(orphan, index, where, owner))
    for index, where in zip(places.tolist(), ranges, strict=True):
        options.append(_drop(case, index, where, owner))
    id_ = f"l2-shared-{state_key(table.snapshot)}-{offset:x}"
    return SharedTable(finding, id_, table.snapshot, places, options)


def _range(case: Case, geometry: Geometry, table: L1Table, index: int) -> GuestRange:
    span = geometry.l2_span
    end = max(index * span, min((index + 1) * span, disk_size(case.image, table.state)))
    return GuestRange(index * span, end - index * span, table.state)


def _lost_tables(case: Case) -> list[Orphan]:
    """Leaked L2 tables, of which one may be what a range had before."""
    if not has_signs(case):
        return []
    lost = [orphan for orphan in case.triage.orphans if not orphan.shared_with]
    return lost[:_CANDIDATES]


def _point(orphan: Orphan, index: int, where: GuestRange, owner: str) -> Option:
    return Option(
        f"table-{index}-{orphan.offset:x}",
        f"Point entry {index} of {owner} at the lost table at {orphan.offset:#x}",
        f"The {plural(orphan.entries, 'cluster')} of guest data that it maps, and "
        "the other ranges.",
        "",
        "The L1 table, anew.",
        certain=False,
        changes=(where,),
        evidence=(f"It maps {plural(orphan.claimed, 'other leaked cluster')}.",),
    )


def _drop(case: Case, index: int, where: GuestRange, owner: str) -> Option:
    backed = case.image.backing is not None
    return Option(
        f"drop-{index}",
        f"Empty entry {index} of {owner}: the guest reads {shown_by_nothing(backed=backed)}",
        "What the other ranges read.",
        "What the range reads now, if it was meant.",
        "The L1 table, anew.",
        certain=False,
        changes=(where,),
    )
