"""Bugs planted on purpose, each of which must be caught: the harness is able to fail.

Every bug is run with the write guard and the verification switched off, as if nobody watched: then
a state that a crash leaves must be judged bad.  With both on, those of them that show before the
switch must be stopped there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from qcow.edit.editor import Editor
from qcow.edit.guard import WriteGuard
from qcow.edit.ledger import LIVE, Ledger
from qcow.edit.refcount_blocks import _Writer
from qcow.edit.transaction import Transaction
from qcow.errors import VerificationError
from qcow.storage.base import ReadableBuffer, WritableStorage
from tests.support.storages import Forwarding

from .acting import Wrap
from .cases import case_of

Planted = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Bug:
    """``plant`` or ``wrap`` puts it in; ``stopped``: whether guard or verification see it too."""

    name: str
    case: str
    variant: str
    plant: Planted | None = None
    wrap: Wrap | None = None
    stopped: bool = True

    @contextmanager
    def planted(self) -> Iterator[None]:
        with ExitStack() as held:
            if self.plant is not None:
                held.enter_context(self.plant())
            yield


@contextmanager
def unwatched() -> Iterator[None]:
    """Neither guard nor check nor comparison."""
    clean = SimpleNamespace(leaks=0, extra_leaks=0)
    with (
        patch.object(WriteGuard, "_allow", lambda *_: None),
        patch("qcow.edit.editor.check_candidate", lambda *_: clean),
        patch("qcow.edit.editor.compare_views", lambda *_, **__: None),
        patch.object(Editor, "_must_be_sound", lambda _: 0),
    ):
        yield


# ---- storages that do things in another order


class NoFlush(Forwarding):
    """Forgets flush number ``which``; all for None."""

    def __init__(self, inner: WritableStorage, which: int | None = None) -> None:
        super().__init__(inner)
        self._which = which
        self._flushes = 0

    def flush(self) -> None:
        self._flushes += 1
        if self._which is not None and self._flushes - 1 != self._which:
            super().flush()


def without_flush(which: int) -> Wrap:
    return lambda storage: NoFlush(storage, which)


class SwitchFirst(Forwarding):
    """Everything but sector 0 reaches the file after it; reads see it at once."""

    def __init__(self, inner: WritableStorage) -> None:
        super().__init__(inner)
        self._held: list[tuple[int, bytes]] = []

    def write(self, offset: int, data: ReadableBuffer) -> None:
        if offset >= 512:
            self._held.append((offset, bytes(data)))
            return
        self.inner.write(offset, data)
        self.inner.flush()
        held, self._held = self._held, []
        for at, piece in held:
            self.inner.write(at, piece)

    def read(self, offset: int, length: int) -> bytes:
        found = bytearray(self.inner.read(offset, length))
        for at, piece in self._held:
            low, high = max(at, offset), min(at + len(piece), offset + length)
            if low < high:
                found.extend(bytes(max(0, high - offset - len(found))))
                found[low - offset : high - offset] = piece[low - at : high - at]
        return bytes(found)

    def read_into(self, offset: int, buffer: Any) -> int:
        found = self.read(offset, len(buffer))
        memoryview(buffer)[: len(found)] = found
        return len(found)

    def size(self) -> int:
        return max([self.inner.size(), *(at + len(piece) for at, piece in self._held)])


class TornSwitch(Forwarding):
    """Writes sector 0 in two calls."""

    def write(self, offset: int, data: ReadableBuffer) -> None:
        if offset >= 512:
            self.inner.write(offset, data)
            return
        self.inner.write(offset, bytes(data)[: 56 - offset])
        self.inner.write(56, bytes(data)[56 - offset :])


class FieldByField(TornSwitch):
    """The same, each made durable: first the counts, then what they count."""

    def write(self, offset: int, data: ReadableBuffer) -> None:
        if offset >= 512:
            self.inner.write(offset, data)
            return
        self.inner.write(48, bytes(data)[48 - offset : 60 - offset])
        self.inner.flush()
        self.inner.write(offset, data)


class LastWriteLater(Forwarding):
    """Makes the last write before the switch after it."""

    def __init__(self, inner: WritableStorage) -> None:
        super().__init__(inner)
        self._held: tuple[int, bytes] | None = None

    def write(self, offset: int, data: ReadableBuffer) -> None:
        held, self._held = self._held, None
        if offset >= 512:
            if held is not None:
                self.inner.write(*held)
            self._held = offset, bytes(data)
            return
        self.inner.write(offset, data)
        if held is not None:
            self.inner.write(*held)


class HalfWrites(Forwarding):
    """Writes less than asked for and does not say so."""

    def write(self, offset: int, data: ReadableBuffer) -> None:
        self.inner.write(offset, bytes(data)[: max(512, len(data) // 2)])


class TruncateMore(Forwarding):
    def truncate(self, length: int) -> None:
        self.inner.truncate(length - 512)


class PunchMore(Forwarding):
    def punch(self, offset: int, length: int) -> None:
        self.inner.punch(offset, length + 512)


class PunchEarly(Forwarding):
    """Gives the space of a freed table back before the switch that frees it."""

    def __init__(self, inner: WritableStorage) -> None:
        super().__init__(inner)
        self._l1 = int.from_bytes(inner.read(40, 8), "big")

    def write(self, offset: int, data: ReadableBuffer) -> None:
        if offset < 512:
            self.inner.punch(self._l1, 512)
            self.inner.flush()
        self.inner.write(offset, data)


class CutEarly(Forwarding):
    """Cuts the file to what the new root needs, before the switch to it."""

    def write(self, offset: int, data: ReadableBuffer) -> None:
        if offset < 512:
            self.inner.punch(self.size() // 2 & ~511, 1 << 20)
        self.inner.write(offset, data)


# ---- what is forgotten or confused inside


def no_op(owner: Any, name: str) -> Planted:
    return lambda: patch.object(owner, name, lambda *_, **__: None)


def without_field(*names: str) -> Planted:
    """The header does not learn of a change of these fields."""
    real = Transaction.change_header

    def change(tx: Transaction, **fields: int) -> None:
        real(tx, **{key: value for key, value in fields.items() if key not in names})

    return lambda: patch.object(Transaction, "change_header", change)


def nth(owner: Any, name: str, which: int | None, bug: Callable[..., Any]) -> Planted:
    """Call number ``which`` of a method (None: each) goes to ``bug(real, self, argument)``."""
    real = getattr(owner, name)

    def plant() -> AbstractContextManager[Any]:
        calls = count()

        def called(self: Any, argument: Any) -> Any:
            if next(calls) == which or which is None:
                return bug(real, self, argument)
            return real(self, argument)

        return patch.object(owner, name, called)

    return plant


def places_live(method: str, at: int) -> Planted:
    """Live clusters, from ``at`` on, are handed out as free ones."""

    def allocate(_: Any, ledger: Ledger, clusters: int) -> Any:
        chosen = np.arange(at, at + clusters, dtype=np.int64)
        assert (ledger.marks_of(chosen) & LIVE).all()
        return at if method == "allocate_run" else chosen

    return nth(Ledger, method, 0, allocate)


def same_twice() -> Planted:
    """A cluster that was handed out is handed out again."""
    real = Ledger.allocate

    def allocate(ledger: Ledger, clusters: int) -> Any:
        taken = real(ledger, clusters)
        ledger.marks_in(0, ledger.capacity)[taken] = 0
        ledger.seek(0)
        return taken

    return lambda: patch.object(Ledger, "allocate", allocate)


def uncounted_place(which: int | None = None) -> Planted:
    """What is placed is not counted."""

    def place(real: Any, tx: Transaction, data: ReadableBuffer) -> int:
        at: int = real(tx, data)
        tx.release(at, length_of(data))
        return at

    return nth(Transaction, "place", which, place)


def unwritten_place(which: int) -> Planted:
    """What is placed is not written."""
    return nth(Transaction, "place", which, lambda real, tx, data: real(tx, bytes(length_of(data))))


def length_of(data: ReadableBuffer) -> int:
    return len(memoryview(data).cast("B"))


def l1_in_place() -> Planted:
    """The active L1 table is written over the old one."""
    real = Transaction.place

    def place(tx: Transaction, data: ReadableBuffer) -> int:
        header = tx.image.header
        if length_of(data) != header.l1_size * 8:
            return real(tx, data)
        tx.ledger.add_run(header.l1_table_offset >> tx.geometry.cluster_bits, 1, 1)
        tx.guard.write(header.l1_table_offset, data)
        return header.l1_table_offset

    return lambda: patch.object(Transaction, "place", place)


def tables_in_place() -> Planted:
    """L2 tables are rewritten where they lie."""

    def rewrite(tx: Transaction, offsets: Any, change: Any, followers: Any) -> int:
        from qcow.edit.rewriting import encode_tables
        from qcow.image.tables import l2_tables

        for batch in l2_tables(tx.image.storage, tx.geometry, np.unique(offsets)):
            entries, bitmaps = change(batch.offsets, batch.entries, batch.bitmaps)
            size = tx.geometry.cluster_size
            data = encode_tables(entries, bitmaps)
            for number, offset in enumerate(batch.offsets.tolist()):
                tx.guard.write(offset, data[number * size : (number + 1) * size])
        return 0

    return lambda: patch("qcow.edit.rewriting.rewrite_tables", rewrite)


def counting(change_of: Callable[[int], int]) -> Planted:
    """Whole trees are counted by another number."""
    real = Transaction.count_tree

    def count_tree(tx: Transaction, l1: Any, change: int) -> None:
        if change_of(change):
            real(tx, l1, change_of(change))

    return lambda: patch.object(Transaction, "count_tree", count_tree)


def entries_counted(change_of: Callable[[int], int]) -> Planted:
    """Entries of tables are counted by another number."""
    from qcow.edit.counting import count_entries as real

    def count_some(ledger: Any, image: Any, geometry: Any, entries: Any, change: int) -> bool:
        return bool(change_of(change)) and real(ledger, image, geometry, entries, change_of(change))

    return lambda: patch("qcow.edit.guest_tables.count_entries", count_some)


def only_last_block(lost: slice) -> Planted:
    """Some of the refcount blocks are placed and not written."""
    real = _Writer._write_blocks

    def write(writer: _Writer) -> None:
        for index in sorted(writer._placed)[lost]:
            del writer._placed[index]
        if writer._placed:
            real(writer)

    return lambda: patch.object(_Writer, "_write_blocks", write)


def block_off_by_one() -> Planted:
    """Counts are written one cluster too early."""
    real = _Writer._write_blocks

    def write(writer: _Writer) -> None:
        ledger = writer._tx.ledger
        moved = np.roll(ledger.counts_in(0, ledger.capacity), -1)
        with patch.object(ledger, "counts_in", lambda first, stop: moved[first:stop]):
            real(writer)

    return lambda: patch.object(_Writer, "_write_blocks", write)


def no_refcount_table() -> Planted:
    """The new refcount table is named and not written."""
    real = _Writer.run

    def run(writer: _Writer) -> None:
        guard = writer._tx.guard
        kept = guard.write
        with patch("qcow.edit.refcount_blocks.encode_u64", lambda t: np.zeros(len(t), ">u8")):
            real(writer)
        assert guard.write == kept

    return lambda: patch.object(_Writer, "run", run)


def copied(everywhere: bool) -> Planted:
    """COPIED is set on every cluster, or on none."""
    flag = np.uint64(1 << 63)

    def with_copied(entries: Any, counts: Any, geometry: Any) -> Any:
        plain = entries & ~flag
        packed = (plain & np.uint64(1 << 62)) != 0
        there = (plain & np.uint64(0x00FFFFFFFFFFFE00)) != 0
        return np.where(there & ~packed, plain | flag, plain) if everywhere else plain

    return lambda: patch("qcow.edit.rewriting.with_copied", with_copied)


BUGS = (
    # the order of writes: only a crash shows it
    Bug("no flush before the switch", "create", "v3-512", wrap=without_flush(0), stopped=False),
    Bug("no flush at all", "create twice", "v3-512", wrap=NoFlush, stopped=False),
    Bug("no flush between two", "create twice", "4k", wrap=without_flush(2), stopped=False),
    Bug("no flush of data", "write", "v3-512", wrap=without_flush(0), stopped=False),
    Bug(
        "no flush before reclaim", "delete, reclaim", "v3-512", wrap=without_flush(1), stopped=False
    ),
    Bug("the switch comes first", "create", "v3-512", wrap=SwitchFirst, stopped=False),
    Bug("the switch comes before the data", "write", "4k", wrap=SwitchFirst, stopped=False),
    Bug("the switch in two writes", "delete", "v3-512", wrap=TornSwitch, stopped=False),
    Bug("the switch field by field", "create", "v3-512", wrap=FieldByField, stopped=False),
    Bug("one write after the switch", "create", "v2-512", wrap=LastWriteLater, stopped=False),
    Bug("one write too late", "write", "backing", wrap=LastWriteLater, stopped=False),
    Bug("punched before the switch", "apply", "v3-512", wrap=PunchEarly, stopped=False),
    Bug("cut before the switch", "delete", "three-snapshots", wrap=CutEarly, stopped=False),
    Bug("cut too far", "discard all, reclaim", "4k", wrap=TruncateMore, stopped=False),
    Bug("punched too much", "delete, reclaim", "v3-512", wrap=PunchMore, stopped=False),
    # writes to what is live
    Bug("a live cluster is allocated", "write", "v3-512", places_live("allocate", 8)),
    Bug("a live cluster for a table", "create", "v3-512", places_live("allocate_run", 8)),
    Bug("a live cluster for L2 tables", "create", "4k", places_live("allocate", 8)),
    Bug("a cluster is allocated twice", "write", "v3-512", same_twice()),
    Bug("L1 not moved", "write", "v3-512", l1_in_place()),
    Bug("L2 not moved", "create", "v3-512", tables_in_place()),
    # what is placed, counted, freed
    Bug("snapshot table not counted", "create", "v3-512", uncounted_place(1)),
    Bug("nothing placed is counted", "apply", "v3-512", uncounted_place()),
    Bug("a snapshot's L1 not written", "create", "v3-512", unwritten_place(0)),
    Bug("snapshot table not written", "rename", "v3-512", unwritten_place(0)),
    Bug("bitmap directory not counted", "bitmap add", "v3-512", uncounted_place()),
    Bug("old tables not freed", "delete", "v3-512", no_op(Transaction, "release")),
    Bug("clusters of a snapshot not counted", "create", "v3-512", counting(lambda _: 0)),
    Bug("clusters of a snapshot counted twice", "create", "v3-512", counting(lambda n: 2 * n)),
    Bug("only what goes is counted", "apply", "v3-512", counting(lambda n: min(n, 0))),
    Bug("only what comes is counted", "apply", "v3-512", counting(lambda n: max(n, 0))),
    Bug("overwritten data not freed", "write", "v3-512", entries_counted(lambda n: max(n, 0))),
    Bug("new data not counted", "write", "v3-512", entries_counted(lambda n: min(n, 0))),
    Bug("a refcount block not written", "create", "v3-512", only_last_block(slice(0, 1))),
    Bug("no refcount block written", "delete", "v3-512", only_last_block(slice(None))),
    Bug("counts one cluster off", "create", "v3-512", block_off_by_one()),
    Bug("refcount table not written", "create", "v3-512", no_refcount_table()),
    Bug("refcounts not written", "create", "v3-512", no_op(Transaction, "_write_refcounts")),
    # what the header says
    Bug("refcount table not named", "create", "v3-512", without_field("refcount_table_offset")),
    Bug("snapshots not numbered", "create", "v3-512", without_field("nb_snapshots")),
    Bug("snapshot table not named", "delete", "three-snapshots", without_field("snapshots_offset")),
    Bug("L1 not named", "apply", "v3-512", without_field("l1_table_offset")),
    Bug("L1 without its length", "grow by tables", "v3-512", without_field("l1_size")),
    Bug("bitmaps not valid", "bitmap add", "v3-512", without_field("autoclear_features")),
    # flags
    Bug("COPIED not settled", "create", "v3-512", no_op(Transaction, "_settle")),
    Bug("COPIED on what is shared", "create", "v3-512", copied(everywhere=True)),
    Bug("COPIED on nothing", "delete", "v3-512", copied(everywhere=False)),
)
by_name = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)


def test_there_are_enough_of_them() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 30


@by_name
def test_the_enumerator_catches_it(bug: Bug) -> None:
    """Nobody else watches; the image that the right action makes is not taken for a bug."""
    case = case_of(bug.case, bug.variant)
    right = case.act()
    assert not [why for state in right.states(few=True) if (why := right.judge(state.file))]
    with unwatched(), bug.planted():
        wrong = case.act(wrap=bug.wrap or (lambda storage: storage))
    wrong.views = right.views
    assert any(wrong.judge(state.file) for state in wrong.states())


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.stopped], ids=lambda bug: bug.name)
def test_it_is_stopped_before_the_switch(bug: Bug) -> None:
    case = case_of(bug.case, bug.variant)
    with bug.planted(), pytest.raises(VerificationError):
        case.act()
