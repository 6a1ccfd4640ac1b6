"""Reading the snapshot table: every entry that can be told, and what is wrong with them."""

from __future__ import annotations

from ..errors import StorageError
from ..findings import Finding, Range
from ..layout import header_rules as rules
from ..layout import problems as P
from ..layout.constants import INT64_MAX, MAX_SNAPSHOT_TABLE_BYTES
from ..layout.geometry import Geometry
from ..layout.header import Header
from ..layout.snapshots import NeedMoreBytes, Snapshot, SnapshotEntryError, parse_snapshot
from ..record import record
from ..storage.base import Storage
from ..text import safe, size_and_bytes

_TABLE_READ = 64 << 10


@record
class SnapshotTable:
    """The entries before the first that cannot be parsed; ``length``: bytes they take."""

    snapshots: tuple[Snapshot, ...]
    length: int
    problems: tuple[Finding, ...]


def read_snapshot_table(
    storage: Storage, header: Header, geometry: Geometry, file_size: int
) -> SnapshotTable:
    """Read the table the header points at, in growing pieces: a lying count costs nothing."""
    if header.nb_snapshots == 0:
        return SnapshotTable((), 0, ())
    table = _TableReader(storage, header.snapshots_offset, file_size)
    found: list[Snapshot] = []
    problems: list[Finding] = []
    try:
        for index in range(header.nb_snapshots):
            found.append(table.next(index))
    except SnapshotEntryError as error:
        problems.append(
            Finding(
                P.SNAPSHOT_TABLE_INVALID,
                f"{error.reason} {header.nb_snapshots - len(found)} of "
                f"{header.nb_snapshots} snapshots cannot be listed.",
                structure="snapshot table",
            )
        )
    problems += _judge(found, header, geometry, file_size)
    return SnapshotTable(tuple(found), table.at, tuple(problems))


class _TableReader:
    def __init__(self, storage: Storage, offset: int, file_size: int) -> None:
        self._storage = storage
        self._offset = offset
        self._limit = max(0, min(MAX_SNAPSHOT_TABLE_BYTES, file_size - offset))
        self._data = b""
        self._base = 0  # where _data starts, relative to the table
        self.at = 0  # relative to the table: where the next entry starts

    def next(self, index: int) -> Snapshot:
        while True:
            try:
                snapshot, end = parse_snapshot(
                    self._data, self.at - self._base, index, self._offset + self._base
                )
            except NeedMoreBytes:
                self._more(index)
                continue
            self.at = self._base + end
            return snapshot

    def _more(self, index: int) -> None:
        have = self._base + len(self._data)
        if have >= self._limit:
            raise SnapshotEntryError(
                index,
                f"Snapshot table entry {index} is incomplete: it runs past the end of the "
                "file or of the 64 MiB a table may have.",
            )
        step = max(_TABLE_READ, len(self._data))
        rest = self._data[self.at - self._base :]
        try:
            more = self._storage.read(self._offset + have, min(step, self._limit - have))
        except StorageError as error:
            said = f"Snapshot table entry {index} cannot be read: {error}"
            raise SnapshotEntryError(index, said) from error
        if not more:
            self._limit = have
        self._data = rest + more
        self._base = self.at


def _judge(
    snapshots: list[Snapshot], header: Header, geometry: Geometry, file_size: int
) -> list[Finding]:
    problems: list[Finding] = []
    seen: dict[tuple[bytes, bytes], int] = {}
    l2_span = geometry.l2_span
    for snapshot in snapshots:
        size = header.virtual_size if snapshot.disk_size is None else snapshot.disk_size
        span = snapshot.l1_size * l2_span
        fault = rules.l1_fault(snapshot.l1_table_offset, snapshot.l1_size, geometry, file_size)
        if fault is None and snapshot.l1_size == 0 and size > 0:
            fault = f"it is empty although the disk has {size_and_bytes(size)}"
        odd = []
        if snapshot.disk_size is None and geometry.version >= 3:
            odd.append("its disk size is not recorded, which version 3 requires")
        if size > INT64_MAX or (fault is None and size > span and snapshot.l1_size):
            odd.append(f"its disk size of {size_and_bytes(size)} is more than its L1 table can map")
        if snapshot.vm_state_size > span:
            vm_state = size_and_bytes(snapshot.vm_state_size)
            odd.append(f"its VM state of {vm_state} is more than its L1 table can map")
        first = seen.setdefault((snapshot.id, snapshot.name), snapshot.index)
        if first != snapshot.index:
            odd.append(f"it has the same ID and name as table entry {first}")
        if fault is not None or odd:
            problems += _entry_findings(snapshot, fault, odd)
    return problems


def _entry_findings(snapshot: Snapshot, fault: str | None, odd: list[str]) -> list[Finding]:
    shown = f'Snapshot {safe(snapshot.id, 20)} ("{safe(snapshot.name, 60)}")'
    said = [(P.SNAPSHOT_ODD, f"{shown}: {phrase}.") for phrase in odd]
    if fault is not None:
        said.insert(0, (P.SNAPSHOT_ENTRY, f"{shown} cannot be read: as for its L1 table, {fault}."))
    where = (Range(snapshot.entry_offset, snapshot.entry_length),)
    return [
        Finding(kind, what, structure="snapshot table", host_ranges=where) for kind, what in said
    ]
