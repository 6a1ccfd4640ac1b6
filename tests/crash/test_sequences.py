"""Random operations one after the other on real files, against a flat model of all that is seen."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from qcow.actions.amend import Amend
from qcow.actions.amend_options import AmendOptions
from qcow.actions.bitmap import BitmapAdd, BitmapRemove
from qcow.actions.compact import Compact
from qcow.actions.discard import Discard, Zero
from qcow.actions.flatten import Flatten
from qcow.actions.history import Reclaim, Redo, Undo
from qcow.actions.resize import Resize
from qcow.actions.snapshot import SnapshotApply, SnapshotCreate, SnapshotDelete, SnapshotRename
from qcow.actions.write import BytesSource, Write
from qcow.edit.apply import Action, apply
from qcow.errors import EditRefused
from qcow.storage.gate import Gate, Policy
from tests.support.images import noise
from tests.support.qemu import qemu_img

from .oracle import TinyImage, Verdict
from .variants import BELOW, build


@dataclass(frozen=True)
class Start:
    """An image that sequences begin with."""

    name: str
    make: Callable[[], bytes]

    @property
    def is_v2(self) -> bool:
        return "v2" in self.name


STARTS = (
    Start("v3", lambda: build(clusters=100)),
    Start("v2", lambda: build(clusters=100, version=2)),
    Start("4k", lambda: build(12, clusters=80, snapshots=2)),
    Start("extended", lambda: build(14, clusters=70, compressed=False, extended_l2=True)),
    Start("backing", lambda: build(clusters=100, snapshots=0, backing=True)),
    Start("v2 backing", lambda: build(clusters=100, version=2, backing=True)),
    Start("bitmaps", lambda: build(10, clusters=100, bitmap=True)),
)


@dataclass(frozen=True)
class Seen:
    """What is seen of an image: the disk, the snapshots' names and disks, the bitmaps.

    Of those the name, and whether they are inconsistent.
    """

    disk: bytes
    snapshots: tuple[tuple[str, bytes], ...]
    bitmaps: tuple[tuple[str, bool], ...]
    flat: bool = True

    @classmethod
    def of(cls, image: TinyImage) -> Seen:
        return cls(
            image.disk(),
            tuple((s[1].decode(), image.disk(n)) for n, s in enumerate(image.snapshots)),
            tuple((bitmap[0].decode(), bool(bitmap[3] & 1)) for bitmap in image.bitmaps),
            not image.name_at,
        )


#: What is to be done, what is seen then, and whether it may be refused (then nothing changes).
Step = tuple[Action, Seen, bool]


@dataclass
class Model:
    start: Start
    now: Seen
    cluster: int
    undo: list[Seen] = field(default_factory=list)
    redo: list[Seen] = field(default_factory=list)
    names: int = 0

    def step(self, kind: str, a: int, b: int) -> Step | None:
        """The operation of ``kind`` with two numbers of choice; None where there is nothing."""
        return getattr(self, f"_{kind}")(a, b)  # type: ignore[no-any-return]

    def done(self, after: Seen, *, changed: bool, forgets: bool) -> None:
        if forgets:
            self.undo.clear()
            self.redo.clear()
        elif changed:
            self.undo.append(self.now)
            self.redo.clear()
        self.now = after

    def _name(self) -> str:
        self.names += 1
        return f"name {self.names}"

    # ---- snapshots

    def _create(self, a: int, b: int) -> Step | None:
        if len(self.now.snapshots) > 4:
            return None
        name = self._name()
        return SnapshotCreate(name), self._with_snapshot(name), False

    def _with_snapshot(self, name: str) -> Seen:
        return replace(self.now, snapshots=(*self.now.snapshots, (name, self.now.disk)))

    def _apply(self, a: int, b: int) -> Step | None:
        if not self.now.snapshots:
            return None
        name, disk = self.now.snapshots[a % len(self.now.snapshots)]
        kept = self._name() if b % 2 and len(self.now.snapshots) < 5 else None
        after = self.now if kept is None else self._with_snapshot(kept)
        stale = tuple((bitmap, True) for bitmap, _ in after.bitmaps)
        return SnapshotApply(name, kept), replace(after, disk=disk, bitmaps=stale), False

    def _delete(self, a: int, b: int) -> Step | None:
        old = self.now.snapshots
        if not old:
            return None
        chosen = {a % len(old), b % len(old)}
        left = tuple(one for place, one in enumerate(old) if place not in chosen)
        names = tuple(old[place][0] for place in sorted(chosen))
        return SnapshotDelete(names), replace(self.now, snapshots=left), False

    def _rename(self, a: int, b: int) -> Step | None:
        if not self.now.snapshots:
            return None
        snapshots = list(self.now.snapshots)
        place = a % len(snapshots)
        old, disk = snapshots[place]
        snapshots[place] = self._name(), disk
        after = replace(self.now, snapshots=tuple(snapshots))
        return SnapshotRename(old, snapshots[place][0]), after, False

    # ---- guest data

    def _range(self, a: int, b: int) -> tuple[int, int]:
        size = len(self.now.disk)
        start = a * 509 % size
        if b % 4 == 0:  # along clusters
            start -= start % self.cluster
        length = 1 + b * 131 % (6 * self.cluster)
        return start, min(start + length, size)

    def _write(self, a: int, b: int) -> Step:
        start, end = self._range(a, b)
        data = noise(a ^ b, end - start) if b % 3 else bytes(end - start)
        disk = self.now.disk[:start] + data + self.now.disk[end:]
        action = Write(start, len(data), BytesSource(data), detect_zeroes=b % 2 == 0)
        return action, replace(self.now, disk=disk), False

    def _zero(self, a: int, b: int) -> Step:
        start, end = self._range(a, b)
        disk = self.now.disk[:start] + bytes(end - start) + self.now.disk[end:]
        action = Zero(((start, end - start),), keep_allocation=b % 2 == 0)
        return action, replace(self.now, disk=disk), False

    def _discard(self, a: int, b: int) -> Step:
        start, end = self._range(a, b)
        first = -(-start // self.cluster) * self.cluster
        last = end if end == len(self.now.disk) else end // self.cluster * self.cluster
        disk = self.now.disk
        if first < last:
            disk = disk[:first] + bytes(last - first) + disk[last:]
        refused = self.start.is_v2 and not self.now.flat
        return Discard(((start, end - start),)), replace(self.now, disk=disk), refused

    def _resize(self, a: int, b: int) -> Step:
        old = self.now.disk
        size = max(512, (len(old) + (a % 40 - 20) * 512 * (1 + b % 3)))
        disk = old[:size] + bytes(max(0, size - len(old)))
        refused = self.start.is_v2 and bool(self.now.snapshots)
        refused |= any(stale for _, stale in self.now.bitmaps)
        action = Resize(size, shrink=size < len(old), force=True)
        return action, replace(self.now, disk=disk), refused

    # ---- the image

    def _compact(self, a: int, b: int) -> Step:
        reclaim = b % 2 == 0
        action = Compact(
            zeroes=a % 2 == 0,
            defragment=reclaim and a % 3 == 0,
            reclaim=reclaim,
            spare=None if b % 3 else 16 * self.cluster,
        )
        return action, self.now, False

    def _flatten(self, a: int, b: int) -> Step | None:
        if self.now.flat:
            return None
        # Snapshots that read through the base are kept from changing.
        return Flatten(), replace(self.now, flat=True), bool(self.now.snapshots)

    def _amend(self, a: int, b: int) -> Step | None:
        if self.start.is_v2:
            return None
        options = AmendOptions(refcount_bits=(16, 32, 64, 8)[b % 4])
        if a % 3 == 0:
            options = AmendOptions(lazy_refcounts=b % 2 == 0)
        return Amend(options), self.now, False

    def _bitmap(self, a: int, b: int) -> Step | None:
        old = self.now.bitmaps
        if self.start.is_v2:
            return None
        if old and a % 2:
            left = tuple(one for place, one in enumerate(old) if place != b % len(old))
            return BitmapRemove(old[b % len(old)][0]), replace(self.now, bitmaps=left), False
        name = self._name()
        return BitmapAdd(name, 4096), replace(self.now, bitmaps=(*old, (name, False))), False


KINDS = (
    "create", "apply", "delete", "rename", "write", "write", "zero", "discard", "resize",
    "compact", "flatten", "amend", "bitmap", "undo", "undo", "redo", "reclaim",
)  # fmt: skip
OPERATION = st.tuples(st.sampled_from(KINDS), st.integers(0, 9999), st.integers(0, 9999))


class Bench:
    """A real file, its history, and the model."""

    def __init__(self, start: Start, folder: Path) -> None:
        self.path = folder / "image.qcow2"
        self.path.write_bytes(start.make())
        (folder / "base.raw").write_bytes(BELOW[b"base.raw"])
        image = self.image()
        self.model = Model(start, Seen.of(image), image.cluster)

    def image(self) -> TinyImage:
        return TinyImage(self.path.read_bytes(), BELOW)

    def run(self, kind: str, a: int, b: int) -> None:
        model = self.model
        if kind in ("undo", "redo", "reclaim"):
            self._run_history(kind)
        elif (step := model.step(kind, a, b)) is not None:
            action, after, refusable = step
            try:
                (done,) = self._apply(action).plans
            except EditRefused:
                assert refusable, action
            else:
                # Compacting gives undo up where it may give space back.
                forgets = isinstance(action, Compact) and action.reclaim
                model.done(after, changed=done.switches > 0, forgets=forgets)
        image = self.image()
        assert image.check() == Verdict((), 0)
        assert Seen.of(image) == model.now

    def _apply(self, action: Action):  # type: ignore[no-untyped-def]
        return apply(str(self.path), [action], gate=Gate(Policy.OWN_FOLDER))

    def _run_history(self, kind: str) -> None:
        model = self.model
        if kind == "reclaim":
            self._apply(Reclaim())
            model.done(model.now, changed=False, forgets=True)
            return
        source, target = (model.undo, model.redo) if kind == "undo" else (model.redo, model.undo)
        action = Undo() if kind == "undo" else Redo()
        if not source:
            with pytest.raises(EditRefused):
                self._apply(action)
            return
        self._apply(action)
        target.append(model.now)
        model.now = source.pop()

    def compare_with_qemu(self) -> None:
        """Check clean, and every state as QEMU reads it."""
        checked = qemu_img("check", "-q", "-f", "qcow2", self.path, check=False)
        assert checked.returncode == 0, checked.stdout
        now = self.model.now
        raw = self.path.with_name("guest.raw")
        ids = [snapshot[0].decode() for snapshot in self.image().snapshots]
        for id_, disk in ((None, now.disk), *zip(ids, (d for _, d in now.snapshots), strict=True)):
            picked = () if id_ is None else ("-l", f"snapshot.id={id_}")
            qemu_img("convert", "-t", "unsafe", "-f", "qcow2", "-O", "raw", *picked, self.path, raw)
            found = raw.read_bytes()
            if id_ is None:
                assert found == disk
            # QEMU shows a snapshot in the size that the disk has now.
            length = min(len(found), len(disk))
            assert found[:length] == disk[:length]


#: Together at least 500 sequences.
SHARDS, EXAMPLES = 20, 26


@pytest.mark.oracle
@pytest.mark.parametrize("shard", range(SHARDS))
def test_random_sequences(shard: int) -> None:
    ran = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        # Making a failing sequence of real programs shorter takes minutes.
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(OPERATION, min_size=4, max_size=8), st.integers(0, len(STARTS) - 1))
    def sequence(operations: Sequence[tuple[str, int, int]], start: int) -> None:
        nonlocal ran
        ran += 1
        run_sequence(STARTS[(start + shard) % len(STARTS)], operations, shard)

    sequence()
    assert SHARDS * ran >= 500


def run_sequence(start: Start, operations: Sequence[tuple[str, int, int]], shift: int) -> None:
    """``shift`` makes other numbers of the same ones, as every shard is given the same."""
    with tempfile.TemporaryDirectory() as folder:
        state = str(Path(folder) / "state")
        with patch.dict(os.environ, {"XDG_STATE_HOME": state}):
            bench = Bench(start, Path(folder))
            for place, (kind, a, b) in enumerate(operations):
                other = KINDS[(KINDS.index(kind) + shift * (place + 1)) % len(KINDS)]
                bench.run(other, a + shift * 37, b + shift * 11)
            bench.compare_with_qemu()
