"""Actions whose switch one sector cannot hold: image, journal and folder are cut off together."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from qcow.actions.amend import Amend
from qcow.actions.amend_options import AmendOptions
from qcow.actions.bitmap import BitmapAdd, BitmapRemove
from qcow.actions.relink import Relink
from qcow.edit.apply import Action
from qcow.edit.editor import Editor
from qcow.edit.journal_place import JournalPlace
from qcow.edit.journal_switch import Outcome, recover, switch_through_journal
from qcow.image.image import Image
from qcow.storage.gate import Gate, Policy
from qcowtui.samples.builder import ImageBuilder
from tests.qcow.edit.journal_world import Files, World, WorldFolder, WorldStorage
from tests.support.images import pattern

from .oracle import TinyImage, Verdict, View
from .variants import BELOW

JOURNAL = "img.qcowtui-journal"


def tiny(known: int = 0, **options: int) -> bytes:
    """An image with an extension nobody knows, too long for sector 0, and ``known`` bitmaps."""
    builder = ImageBuilder(virtual_size=40 << 12, cluster_bits=12, **options)  # type: ignore[arg-type]
    for number in range(4):
        builder.data(number, pattern(number, 4096))
    builder.snapshot("s0", date=1_750_000_000)
    builder.data(2, pattern(102, 4096))
    builder.extension(0x51C0FFEE, pattern(7, 600))
    for number in range(known):
        builder.bitmap(f"b{number}", [(0, 4096)], granularity_bits=12)
    builder.backing("base.raw", "raw")
    return builder.build().peek(0, builder.build().length)


@dataclass(frozen=True)
class Journalled:
    name: str
    make: Callable[[], bytes]
    actions: tuple[Action, ...]


CASES = (
    Journalled("no backing file", tiny, (Relink(None, force=True),)),
    Journalled("the first bitmap", tiny, (BitmapAdd("b"),)),
    Journalled("the last bitmap", lambda: tiny(1), (BitmapRemove("b0"),)),
    Journalled("upgrade", lambda: tiny(version=2), (Amend(AmendOptions(compat="1.1")),)),
    Journalled("downgrade", tiny, (Amend(AmendOptions(compat="0.10")),)),
    Journalled("two changes", tiny, (Relink(None, force=True), BitmapAdd("b"))),
)
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def view(files: Files) -> View:
    """What is seen of the image; raises AssertionError when it is not sound."""
    image = TinyImage(files["img"], BELOW)
    assert image.check() == Verdict((), 0)
    return image.view()


def run(case: Journalled) -> tuple[World, list[View], int]:
    """(the world after it, what was seen between the actions, switches through the journal)."""
    world = World({"img": case.make()})
    views = [view(world.files)]
    journals = 0

    with tempfile.TemporaryDirectory() as folder:
        for name, content in BELOW.items():
            (Path(folder) / name.decode()).write_bytes(content)
        storage = WorldStorage(world)
        storage.path = str(Path(folder) / "img")  # type: ignore[assignment]

        def journal(patches: object, command: str) -> None:
            nonlocal journals
            journals += 1
            switch_through_journal(storage, place_in(world), patches, command)  # type: ignore[arg-type]

        gate = Gate(Policy.OWN_FOLDER)
        with Editor(Image(storage), storage, gate=gate, journal=journal) as editor:
            for action in case.actions:
                editor.start_count()
                action.run(editor)
                views.append(view(world.files))
    assert set(world.files) == {"img"}
    return world, views, journals


def place_in(world: World) -> JournalPlace:
    return JournalPlace(WorldFolder(world), JOURNAL)


def recovered(files: Files) -> tuple[World, Outcome]:
    world = World(files)
    return world, recover(WorldStorage(world), place_in(world)).outcome


@by_name
def test_after_recovery_it_is_the_old_or_the_new_image(case: Journalled) -> None:
    world, views, journals = run(case)
    assert journals == len(case.actions)
    assert len(set(views)) == len(views)
    found = set[View]()
    outcomes = set[Outcome]()
    twice = 0
    for number, files in enumerate(world.after_crashes(random.Random(5))):
        after, outcome = recovered(files)
        outcomes.add(outcome)
        assert set(after.files) == {"img"}
        found.add(view(after.files))
        if outcome is Outcome.ROLLED_FORWARD:
            for again in after.after_crashes(random.Random(number), samples=12):
                last, outcome = recovered(again)
                assert outcome is not Outcome.REFUSED
                assert set(last.files) == {"img"}
                found.add(view(last.files))
                twice += 1
    assert found == set(views)
    assert outcomes == set(Outcome) - {Outcome.REFUSED}
    assert twice >= 8


@by_name
def test_without_the_journal_it_would_be_caught(case: Journalled) -> None:
    """The harness can fail: the same patches in place leave what is neither."""
    world = World({"img": case.make()})
    views = [view(world.files)]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in BELOW.items():
            (Path(folder) / name.decode()).write_bytes(content)
        storage = WorldStorage(world)
        storage.path = str(Path(folder) / "img")  # type: ignore[assignment]

        def in_place(patches: object, _: str) -> None:
            for patch in patches:  # type: ignore[attr-defined]
                storage.write(patch.offset, patch.after)
            storage.flush()

        gate = Gate(Policy.OWN_FOLDER)
        with Editor(Image(storage), storage, gate=gate, journal=in_place) as editor:
            for action in case.actions:
                action.run(editor)
                views.append(view(world.files))
    bad = 0
    for files in world.after_crashes(random.Random(5)):
        try:
            bad += view(files) not in views
        except Exception:
            bad += 1
    assert bad
