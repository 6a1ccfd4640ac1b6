"""Thousands of images with random faults: repaired or refused, and nothing else is touched."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

import pytest

from qcow.actions.repair import RepairImage
from qcow.edit.apply import plan
from qcow.edit.plan import Outcome
from qcow.errors import QcowError, VerificationError
from qcow.image.image import Image
from qcow.inspect.check import check
from qcow.storage.memory import MemoryStorage, WritableMemory
from tests.crash.acting import editor_over
from tests.crash.oracle import TinyImage
from tests.crash.variants import BELOW
from tests.support.salvage import clusters_of

from .faults import TINY, damaged

SEEDS, CHUNK = 2080, 65
#: Seconds for one image, on a machine that does much else.
LIMIT = 60

Disks = Mapping[str, list[bytes | None]]


class Hang(Exception):
    """An image took too long."""


@contextmanager
def limited() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_random_faults(first: int) -> None:
    found = Counter[str]()
    for seed in range(first, first + CHUNK):
        with limited():
            found[one(seed)] += 1
    # Whatever the dice say, most of them can be opened, and some repaired.
    assert found["repaired"] >= CHUNK // 8, found
    assert found["not opened"] <= CHUNK // 4, found
    assert found["stopped"] <= CHUNK // 16, found


def test_there_are_enough_of_them() -> None:
    assert SEEDS >= 2000
    assert SEEDS % CHUNK == 0
    assert len(TINY) >= 12


def one(seed: int) -> str:
    """Open, check, plan, apply, check again; what became of it.  Fails by AssertionError."""
    variant, file, faults = damaged(seed)
    what = (seed, variant.name, faults)
    try:
        image = Image(MemoryStorage(file))
    except QcowError:
        return "not opened"
    try:
        check(image)
        # The plan is the same run over an overlay: some of them will do.
        planned = plan(RepairImage(), image).outcome if seed % 6 == 0 else None
    except QcowError:
        planned = None
    storage = WritableMemory(file)
    with editor_over(storage, variant) as editor:
        editor.start_count()
        try:
            outcome = RepairImage().run(editor)
        except QcowError as error:
            editor.abandon(error)
            assert storage.contents() == file, (what, "refused, and changed")
            # The last gate, which heaps of overlapping structures reach now and then.
            return "stopped" if isinstance(error, VerificationError) else "refused"
        switches = editor.switches
    assert planned is None or planned.changed == outcome.changed, (what, "not as planned")
    after = storage.contents()
    # The header is switched; everything else that was there is still there, for undo.
    size = 1 << TinyImage(variant.make()).bits
    assert after[size : len(file)] == file[size:], (what, "overwritten")
    repaired = Image(MemoryStorage(after))
    checked = check(repaired)
    if not outcome.facts["left"] and not outcome.facts["remains"]:
        errors = checked.corruptions + checked.extra_corruptions + checked.check_errors
        assert not errors, (what, checked.findings[0].what)
    if image.backing is None:  # what lies below is not opened here
        compare(disks(image), disks(repaired), outcome, image.header.cluster_size, what)
    if image.unusable is not None:
        return "repaired"
    with suppress(Exception):  # a reader for sound images, which fails on others in any way
        before, now = TinyImage(file, BELOW), TinyImage(after, BELOW)
        seen = seen_by(before), seen_by(now)
    if "seen" in locals():
        compare(*seen, outcome, image.header.cluster_size, (*what, "by the other reader"))
    return "repaired" if switches else "nothing to do"


def disks(image: Image) -> Disks:
    """The guest clusters of every state, by the engine; None where they cannot be read."""
    found = {}
    size = image.header.cluster_size
    for snapshot in (None, *image.snapshots):
        try:
            state = image.active if snapshot is None else image.snapshot_state(snapshot)
        except QcowError:
            continue
        found[state.label] = list(clusters_of(state, size, 2000))
    return found


def seen_by(image: TinyImage) -> Disks:
    """The same by the reader of the crash tests."""
    size = image.cluster
    found: dict[str, list[bytes | None]] = {}
    names = ["active", *(f"snapshot:{snapshot[0].decode()}" for snapshot in image.snapshots)]
    for place, name in zip((None, *range(len(image.snapshots))), names, strict=True):
        disk = image.disk(place)
        found[name] = [disk[at : at + size] for at in range(0, len(disk), size)]
    return found


def compare(before: Disks, after: Disks, outcome: Outcome, size: int, what: object) -> None:
    """What could be read reads the same, but for the ranges that were declared."""
    for state, clusters in before.items():
        declared = [(r.start, r.start + r.length) for r in outcome.changed if r.state == state]
        if state not in after:
            # Its entry, and with it perhaps its ID, was put right, or nothing could be read of it.
            mended = any(one["id"].startswith("snapshot") for one in outcome.facts["applied"])
            assert mended or not any(clusters), (what, state, "is gone")
            continue
        for number, (old, new) in enumerate(zip(clusters, after[state], strict=False)):
            if old is None or old == new:
                continue
            at = number * size
            inside = any(start <= at < end for start, end in declared)
            assert inside, (what, state, hex(at), outcome.facts["applied"])
