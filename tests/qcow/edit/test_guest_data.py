"""Changing guest data against a flat model: any sequence of writes, zeroes, discards and resizes.

Every step is planned first; the plan must tell exactly what the run then does.  The independent
checker (which every commit runs) sees the image after each step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from qcow.actions.discard import Discard, Zero
from qcow.actions.resize import Resize
from qcow.actions.snapshot import SnapshotCreate
from qcow.actions.write import BytesSource, Write
from qcow.edit.apply import Action, Preview
from qcow.edit.editor import Editor
from qcow.edit.guest_data import GuestWriter
from qcow.edit.plan import Plan
from qcow.edit.verify import View
from qcow.errors import EditRefused, UsageError
from qcow.image.image import Image
from qcow.storage.memory import WritableMemory
from tests.support.images import guest_bytes, small_builder

SECTOR = 512


@dataclass(frozen=True)
class Step:
    """``what`` to do with sectors or bytes ``[start, start + length)``, as parts of the disk."""

    what: str
    start: float
    length: int
    odd: int
    flag: bool


steps = st.builds(
    Step,
    what=st.sampled_from(["write", "write", "zero", "discard", "snapshot", "grow", "shrink"]),
    start=st.floats(0, 1, exclude_max=True),
    length=st.sampled_from([1, 300, 512, 2000, 4096, 20_000, 70_000]),
    odd=st.integers(0, 511),
    flag=st.booleans(),
)

KINDS: dict[str, dict[str, int | bool | str]] = {
    "v2": {"version": 2, "cluster_bits": 9},
    "v3": {"cluster_bits": 10, "compression": "zstd"},
    "wide": {"cluster_bits": 12, "refcount_order": 6},
    "extended": {"cluster_bits": 14, "extended_l2": True},
}


class Disk:
    """An image in memory and what it should show."""

    def __init__(self, kind: str) -> None:
        builder = small_builder(snapshot=kind != "v2", **KINDS[kind])
        self.cluster = builder.geometry.cluster_size
        self.version = builder.geometry.version
        built = builder.build()
        self.storage = WritableMemory(built.peek(0, built.length))
        self.editor = Editor(Image(self.storage), self.storage)
        self.shown = bytearray(guest_bytes(builder.model))
        self.snapshots = [guest_bytes(builder.model, s) for s in builder.model.snapshots]

    def do(self, action: Action) -> Plan:
        # An editor of its own, for one keeps its earlier roots, which the plan knows nothing of.
        self.editor = Editor(Image(self.storage), self.storage)
        with Preview(self.editor.image) as preview:
            planned = preview.add(action)
        self.editor.start_count(planned.command, action.describe())
        outcome = action.run(self.editor)
        done = self.editor.planned(action.verb, outcome)
        assert planned == replace(done, on=planned.on)
        return done

    def step(self, step: Step, number: int) -> None:
        size = len(self.shown)
        start = min(int(step.start * size), size - 1)
        start = start if step.flag else start & -SECTOR
        length = min(step.length, size - start)
        end = start + length
        if step.what == "write":
            data = bytes((number + at // SECTOR) % 256 for at in range(length))
            if step.flag:
                data = bytes(length)
            self.do(Write(start, length, BytesSource(data), detect_zeroes=step.odd % 2 == 1))
            self.shown[start:end] = data
        elif step.what == "zero":
            self.do(Zero(((start, length),), keep_allocation=step.odd % 2 == 1))
            self.shown[start:end] = bytes(length)
        elif step.what == "discard":
            self.do(Discard(((start, length),)))
            first = -(-start // self.cluster) * self.cluster
            last = end if end == size else end // self.cluster * self.cluster
            if first < last:
                self.shown[first:last] = bytes(last - first)
        elif step.what == "snapshot":
            if self.version >= 3:
                self.do(SnapshotCreate(f"s{number}", date_ns=1))
                self.snapshots.append(bytes(self.shown))
        else:
            change = (step.odd + 1) * SECTOR
            new = size + change if step.what == "grow" else max(SECTOR, size - change)
            self.do(Resize(new, shrink=True, force=True))
            self.shown = self.shown[:new].ljust(new, b"\0")

    def compare(self) -> None:
        image = Image(self.storage)
        assert not image.problems
        assert image.virtual_size == len(self.shown)
        assert image.active.read(0, len(self.shown)) == self.shown
        for entry, shown in zip(image.snapshots, self.snapshots, strict=True):
            assert image.snapshot_state(entry).read(0, len(shown)) == shown


@pytest.mark.parametrize("kind", KINDS)
@limits(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sequence=st.lists(steps, min_size=1, max_size=6))
def test_any_sequence_shows_what_the_model_does(kind: str, sequence: list[Step]) -> None:
    disk = Disk(kind)
    for number, step in enumerate(sequence):
        disk.step(step, number)
        disk.compare()


class Piece(NamedTuple):
    start: int
    data: bytes


@pytest.mark.parametrize("kind", KINDS)
@limits(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    pieces=st.lists(
        st.builds(Piece, st.integers(0, 40_000), st.binary(min_size=1, max_size=3000)),
        min_size=2,
        max_size=6,
    )
)
def test_one_transaction_may_write_a_cluster_again(kind: str, pieces: list[Piece]) -> None:
    disk = Disk(kind)
    tx = disk.editor.begin()
    writer = GuestWriter(disk.editor, tx)
    size = len(disk.shown)
    for start, data in pieces:
        start = min(start, size - 1)
        data = data[: size - start]

        def fill(at: int, buffer: memoryview, start: int = start, data: bytes = data) -> None:
            buffer[:] = data[at - start : at - start + len(buffer)]

        if len(data) % 5 == 0:
            writer.zero(start, len(data))
            disk.shown[start : start + len(data)] = bytes(len(data))
        else:
            writer.write(start, len(data), fill)
            disk.shown[start : start + len(data)] = data
    disk.editor.commit(tx, [View(None, None, writer.changed()), *tx.kept_snapshots()])
    disk.compare()


def test_a_plan_reads_nothing_and_writes_nothing() -> None:
    class Unreadable:
        def read_into(self, offset: int, buffer: memoryview) -> int:
            raise AssertionError("a plan is not to read what would be written")

    disk = Disk("v3")
    before = disk.storage.contents()
    with Preview(disk.editor.image) as preview:
        planned = preview.add(Write(0, 10_000, Unreadable()))
    assert planned.written >= 10_000
    assert disk.storage.contents() == before


def test_writing_again_what_a_snapshot_shares_leaves_it_alone() -> None:
    disk = Disk("v3")
    disk.do(SnapshotCreate("now", date_ns=1))
    kept = bytes(disk.shown)
    disk.snapshots.append(kept)
    data = b"\xee" * len(kept)
    done = disk.do(Write(0, len(data), BytesSource(data)))
    disk.shown[:] = data
    disk.compare()
    # Nothing but tables is given up: the snapshot has the old data.
    assert done.freed < 20 * disk.cluster


def test_beyond_the_end_is_refused() -> None:
    disk = Disk("v3")
    before = disk.storage.contents()
    size = len(disk.shown)
    actions: list[Action] = [
        Write(size - 1, 2, BytesSource(b"ab")),
        Write(-1, 1, BytesSource(b"a")),
        Zero(((size, 1),)),
        Discard(((0, size + 1),)),
        Discard(((-512, 512),)),
    ]
    for action in actions:
        with pytest.raises(UsageError):
            action.run(disk.editor)
    assert disk.storage.contents() == before


def test_a_source_that_ends_early_changes_nothing() -> None:
    disk = Disk("v3")
    with pytest.raises(UsageError, match="ends after 100 bytes"):
        Write(0, 5000, BytesSource(bytes(100)), name="short").run(disk.editor)
    disk.compare()


def test_nothing_to_do_is_no_switch() -> None:
    disk = Disk("v3")
    assert disk.do(Write(5, 0, BytesSource(b""))).changes_nothing
    assert disk.do(Discard(((100, 300),))).changes_nothing
    assert disk.do(Resize(len(disk.shown))).changes_nothing


def test_shrinking_must_be_meant() -> None:
    disk = Disk("v3")
    with pytest.raises(EditRefused, match="Use the --shrink option"):
        Resize(SECTOR).run(disk.editor)
    with pytest.raises(EditRefused, match=r"There is data at 0x200\b.*--force"):
        Resize(SECTOR, shrink=True).run(disk.editor)
    with pytest.raises(UsageError, match="must be positive"):
        Resize(0, shrink=True).run(disk.editor)
    with pytest.raises(UsageError, match="multiple of 512"):
        Resize(len(disk.shown) + 1).run(disk.editor)
    with pytest.raises(UsageError, match="only be used for growing"):
        Resize(SECTOR, shrink=True, preallocation="full").run(disk.editor)
    with pytest.raises(EditRefused, match="larger cluster size"):
        Resize(1 << 50).run(disk.editor)
    disk.compare()


def test_a_shrink_tells_what_the_states_hold() -> None:
    disk = Disk("v3")
    size = len(disk.shown)
    disk.do(Zero(((disk.cluster * 21, size - disk.cluster * 21),)))
    done = disk.do(Resize(disk.cluster * 21, shrink=True))
    active, snapshot = done.outcome.facts["states"]
    assert active == {
        "state": "active",
        "size": size,
        "last-data": disk.cluster * 21,
        "partition-table": None,
        "partitions-end": None,
    }
    assert (snapshot["state"], snapshot["size"], snapshot["last-data"]) == (
        "snapshot:1",
        size,
        size,
    )


def test_encrypted_data_is_not_written() -> None:
    disk = Disk("v3")
    # crypt_method, the 32-bit field at 32: 2 would need a LUKS header, 1 needs nothing.
    disk.storage.write(32, (1).to_bytes(4, "big"))
    editor = Editor(Image(disk.storage), disk.storage)
    with pytest.raises(EditRefused, match="encrypted"):
        Write(0, 4096, BytesSource(bytes(4096))).run(editor)
    with pytest.raises(EditRefused, match="encrypted"):
        Zero(((1, 100),)).run(editor)
