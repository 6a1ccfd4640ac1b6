"""The snapshot tree as rows: where you are, what each snapshot holds, what deleting it frees."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum

from qcow.errors import GuestDataError
from qcow.layout.snapshots import Snapshot
from qcow.text import safe

from .session import Session
from .tones import Tone
from .tree_lines import Placed, tree_lines
from .units import duration, exact, size

#: State index of the active disk; snapshot n of the table is n + 1 (as in qcow.inspect.sharing).
ACTIVE_INDEX = 0
YOU_ARE_HERE = "you are here"


class Sort(Enum):
    """Orders of the list; the value is for people."""

    TREE = "tree"
    DATE = "newest first"
    FREES = "frees most first"
    NAME = "by name"


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """One state.  ``index`` is its state index; ``guides`` are the lines of the tree before it."""

    index: int
    guides: str
    name: str  # safe to show
    id: str  # safe to show; empty for the active state
    tone: Tone = Tone.PLAIN

    @property
    def is_active(self) -> bool:
        return self.index == ACTIVE_INDEX


class SnapshotView:
    """Rows of the pane, made once; what costs time to know is asked row by row.

    Sizes are bytes, None until the snapshots were compared.
    """

    def __init__(self, session: Session, sort: Sort = Sort.TREE, filter: str = "") -> None:
        self._session = session
        self._image = session.qcow2
        self.snapshots: tuple[Snapshot, ...] = () if self._image is None else self._image.snapshots
        names = Counter(snapshot.name for snapshot in self.snapshots)
        self._twins = frozenset(name for name, times in names.items() if times > 1)
        self._frees: dict[int, int] = {}
        self.inferred = session.ancestry is not None and session.ancestry.inferred
        self._order = self._placed(sort)
        if filter:
            wanted = filter.casefold()
            self._order = [
                placed
                for placed in self._order
                if wanted in "\n".join(self._names(placed.node)).casefold()
            ]

    def __len__(self) -> int:
        return len(self._order)

    def row(self, position: int) -> SnapshotRow:
        """The row at a position of the list."""
        placed = self._order[position]
        name, id = self._names(placed.node)
        if placed.node == ACTIVE_INDEX:
            return SnapshotRow(ACTIVE_INDEX, placed.guides, name, id, Tone.STRONG)
        tone = Tone.BAD if self._fault(placed.node) else Tone.PLAIN
        return SnapshotRow(placed.node, placed.guides, name, id, tone)

    def position(self, index: int) -> int | None:
        """Where a state stands in the list; None when it is filtered out."""
        return next((at for at, placed in enumerate(self._order) if placed.node == index), None)

    def snapshot(self, index: int) -> Snapshot | None:
        """The snapshot with a state index; None for the active state."""
        return None if index == ACTIVE_INDEX else self.snapshots[index - 1]

    def label(self, index: int) -> str:
        """How commands address the state: ``active`` or ``snapshot:ID`` (raw text)."""
        snapshot = self.snapshot(index)
        return "active" if snapshot is None else snapshot.label

    def l1_cluster(self, index: int) -> int | None:
        """The host cluster where the state's L1 table begins."""
        if self._image is None or self._image.geometry is None:
            return None
        snapshot = self.snapshot(index)
        header = self._image.header
        at = header.l1_table_offset if snapshot is None else snapshot.l1_table_offset
        return at >> self._image.geometry.cluster_bits

    def frees(self, index: int) -> int | None:
        """What goes when the snapshot is deleted; for the active state what only it holds."""
        found = self._frees.get(index)
        if found is None:
            shares, space = self._session.sharing, self._session.space
            if shares is None or self._image is None:
                return None
            if space is not None:
                found = space.states[index].frees_if_deleted
            elif index == ACTIVE_INDEX:
                found = shares.exclusive(index)
            else:
                found = self.frees_together((index,))
            if found is not None:
                self._frees[index] = found
        return found

    def frees_together(self, members: Collection[int]) -> int | None:
        """What goes when all of these snapshots are deleted: also what only they share."""
        shares = self._session.sharing
        if shares is None or self._image is None:
            return None
        from qcow.inspect.space import frees_if_deleted

        return frees_if_deleted(self._image, shares, [m for m in members if m != ACTIVE_INDEX])

    def parent(self, index: int) -> int | None:
        """State index of the inferred parent; None for a root, and while nothing is known."""
        found = self._session.ancestry
        return None if found is None else found.parents[index]

    def differs(self, index: int) -> int | None:
        """Bytes that the state and its parent do not share."""
        parent, shares = self.parent(index), self._session.sharing
        return None if parent is None or shares is None else shares.apart(index, parent)

    def marked_words(self, members: Collection[int]) -> str:
        """``3 marked: free 12 MiB together``."""
        freed = self.frees_together(members)
        verb = "frees" if len(members) == 1 else "free"
        what = "not read yet" if freed is None else f"{verb} {size(freed)}"
        return f"{len(members):,} marked: {what}{' together' if len(members) > 1 else ''}"

    def details(self, index: int) -> tuple[tuple[str, str], ...]:
        """(label, text) pairs on one state, safe to show."""
        return tuple(self._details(index))

    def _details(self, index: int) -> Iterator[tuple[str, str]]:
        snapshot = self.snapshot(index)
        freed = self.frees(index)
        if snapshot is None:
            yield "active", "the disk as the guest sees it now"
            if freed is not None:
                yield "holds alone", f"{size(freed)} that no snapshot shares"
        else:
            twin = "  (another snapshot has this name: use the ID)" * (snapshot.name in self._twins)
            yield "name", (safe(snapshot.name) or "(empty)") + twin
            yield "ID", safe(snapshot.id)
            yield "taken", taken_words(snapshot)
            if freed is not None:
                yield "frees", f"{size(freed)} if it is deleted ({exact(freed)})"
            if snapshot.vm_state_size:
                yield "VM state", f"{size(snapshot.vm_state_size)} of a running machine's memory"
            if self._image is not None and snapshot.disk_size not in (
                None,
                self._image.header.size,
            ):
                yield "disk size", f"{size(snapshot.disk_size or 0)} when it was taken"
        fault = self._fault(index)
        if fault:
            yield "damaged", fault
        parent = self.parent(index)
        apart = self.differs(index)
        if parent is not None and apart is not None:
            base = self.snapshot(parent)
            assert base is not None, "only snapshots are parents"
            name = safe(base.name, 40) or safe(base.id, 12)
            how = "" if self.inferred else ", which is the one before it in time"
            yield "parent", f"{name}{how}; {size(apart)} differ"

    def _fault(self, index: int) -> str:
        """Why the state cannot be read, or nothing."""
        if self._image is None:
            return ""
        try:
            snapshot = self.snapshot(index)
            _ = self._image.active if snapshot is None else self._image.snapshot_state(snapshot)
        except GuestDataError as error:
            return str(error)
        return ""

    def _placed(self, sort: Sort) -> list[Placed]:
        count = len(self.snapshots) + 1
        if self._image is None:
            return []
        ancestry = self._session.ancestry
        if sort is Sort.TREE and ancestry is not None and len(ancestry.parents) == count:
            return tree_lines(ancestry.parents, self._time)
        order = sorted(range(1, count), key=self._time)
        if sort is Sort.DATE:
            order.reverse()
        elif sort is Sort.NAME:
            order.sort(key=lambda i: self.snapshots[i - 1].name)
        elif sort is Sort.FREES:
            order.sort(key=lambda i: -(self.frees(i) or 0))
        return [Placed(index, "") for index in [*order, ACTIVE_INDEX]]

    def _time(self, index: int) -> tuple[int, int, int]:
        if index == ACTIVE_INDEX:
            return (1 << 64, 0, 0)
        snapshot = self.snapshots[index - 1]
        return snapshot.date_sec, snapshot.date_nsec, index

    def _names(self, index: int) -> tuple[str, str]:
        """Name and ID as they are shown."""
        snapshot = self.snapshot(index)
        if snapshot is None:
            return YOU_ARE_HERE, ""
        name, id = safe(snapshot.name) or "(no name)", safe(snapshot.id)
        return (f"{name} #{id}" if snapshot.name in self._twins else name), id


def date_words(snapshot: Snapshot) -> str:
    """``2025-03-08 19:25`` in local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(snapshot.date_sec))


def taken_words(snapshot: Snapshot) -> str:
    """When it was taken, and how long the machine had been running then."""
    words = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.date_sec))
    if snapshot.vm_clock_nsec:
        words += f", the machine had run for {duration(snapshot.vm_clock_nsec / 1e9)}"
    return words
