"""Repairs crashed at every point: the damaged image as it was, or the repaired one.

"As it was" means: no byte of it overwritten, the same findings, the same guest bytes.  Two readers
judge every state, QEMU confirms a sample; of another sample the repair is run again and crashed
again; and the undo of each repair is crashed, too.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from qcow.edit.journal_switch import Outcome, switch_through_journal
from qcow.edit.patch import Patch
from qcow.edit.repairing import Repair
from qcow.edit.transaction import Transaction
from qcow.errors import EditRefused, UsageError, VerificationError
from tests.qcow.edit.journal_world import World, WorldStorage
from tests.repair.matrix import Seen, look
from tests.repair.poking import Poked
from tests.support.images import noise

from .acting import Wrap, unwrapped
from .mending import Harm, Mended, editor_on, harm, mend, mend_and_undo, run, sight
from .test_journalled import place_in, recovered, tiny
from .test_planted import (
    HalfWrites,
    LastWriteLater,
    SwitchFirst,
    TornSwitch,
    unwatched,
    without_flush,
)
from .variants import BELOW, VARIANTS

HARMS = (
    harm("refcounts of all data are 0", "v3-512"),
    harm("refcount of an L2 table is 0", "64k"),
    harm("refcount block is garbage", "4k"),
    harm("refcount table is zeroed", "bitmaps"),
    harm("refcount table offset lies outside", "v2-backing"),
    harm("refcount width is another one", "v3-512"),
    harm("COPIED is wrong everywhere", "three-snapshots"),
    harm("COPIED is wrong everywhere", "extended"),
    harm("L1 entry is zeroed", "4k"),
    harm("L1 table is zeroed", "qemu-v2"),
    harm("L1 entry is misaligned", "4k"),
    harm("L1 table offset lies outside", "backing"),
    harm("L1 table has no entries", "backing"),
    harm("L1 table offset names an empty table", "no-snapshot"),
    harm("two L1 entries name one table", "v3-512"),
    harm("feature bit for extended L2 is lost", "extended"),
    harm("COMPRESSED is set on plain data", "v3-512"),
    harm("L2 entries have reserved bits", "v3-512"),
    harm("L2 entries are misaligned", "4k"),
    harm("L2 entry lies outside", "v2-backing", l2_outside="zero"),
    harm("compressed entry lies outside", "v3-512", l2_compressed_outside="zero"),
    harm("two guest clusters name one cluster", "bitmaps"),
    harm("data over the L1 table", "v3-512"),
    harm("data over a refcount block", "three-snapshots"),
    harm("data over its own L2 table", "4k"),
    harm("marked dirty, refcounts stale", "backing"),
    harm("marked corrupt", "refcount-1"),
    harm("snapshot's name is too long", "three-snapshots"),
    harm("snapshot table offset lies outside", "v2-512"),
    harm("snapshot's L1 table lies outside", "v3-512"),
    harm("bitmap directory is garbage", "bitmaps"),
    harm("bitmap table lies outside", "qemu-bitmap"),
    harm("header extension is too long", "bitmaps"),
    harm("cluster size is impossible", "4k"),
    harm("version is impossible", "v2-512"),
    harm("last cluster is cut off", "4k", grows=True, l2_outside="zero"),
    harm("cut within a cluster", "v3-512", grows=True, l2_outside="zero"),
    harm("header is zeroed", "three-snapshots"),
    harm("header is zeroed", "v3-512"),
)
#: A little below what there is: states judged, confirmed by QEMU, after a second crash.
JUDGED, CONFIRMED, DOUBLED = 900, 60, 140


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_there_are_enough_of_them() -> None:
    assert len({harm.name.partition(", ")[0] for harm in HARMS}) >= 30
    assert len({harm.name.rpartition(", ")[2] for harm in HARMS}) >= 12


def judged(mended: Mended, *, few: bool = False) -> Counter[str]:
    """What the states of ``mended`` are; fails for one that is neither of the two."""
    found = Counter[str]()
    for label, file in mended.states(few=few):
        what = mended.judge(file)
        assert what in ("damaged", "repaired"), (mended.harm.name, label, what)
        found[what] += 1
    return found


def test_a_crash_leaves_the_damaged_or_the_repaired_image() -> None:
    total = Counter[str]()
    for each in HARMS:
        mended = mend(each)
        assert not isinstance(mended.after, str)
        assert mended.after.errors == 0
        found = judged(mended)
        assert found["damaged"] >= 4, each.name
        assert found["repaired"] == 1, each.name
        total += found
    assert total["damaged"] >= JUDGED, total


def test_the_undo_of_a_repair_crashes_well() -> None:
    for each in HARMS:
        base = each.make()
        undone = mend_and_undo(each)
        # The states lead back: here the repaired image is the first one, the damaged one the last.
        assert judged(undone) == Counter({"damaged": 1, "repaired": 1}), each.name
        assert undone.final[: len(base)] == base, each.name
        assert undone.final[each.cluster :] == undone.base[each.cluster :], each.name


def test_a_luks_header_is_put_back(tmp_path: Path) -> None:
    good = next(v for v in VARIANTS if v.name == "luks").make()
    backup = tmp_path / "backup.qcow2"
    backup.write_bytes(good)
    poked = Poked(good)
    at = poked.get(poked.extension(0x0537BE77))
    damaged = good[:at] + bytes(600) + good[at + 600 :]
    each = Harm("LUKS header", lambda: damaged, 4096, {"luks-header": str(backup)})
    mended = mend(each)
    found = judged(mended, few=True)
    assert found == Counter({"damaged": found["damaged"], "repaired": 1})
    assert found["damaged"] >= 10
    header = Poked(mended.final)
    place = header.get(header.extension(0x0537BE77))
    assert place >= len(damaged)
    assert mended.final[place : place + 4096] == good[at : at + 4096]


# ---- what QEMU says


@pytest.mark.oracle
def test_qemu_confirms_it(tmp_path: Path) -> None:
    """What QEMU sees of a state, errors, leaks and guest bytes, is what it sees of one end."""
    for name, content in BELOW.items():
        (tmp_path / name.decode()).write_bytes(content)
    total = Counter[str]()
    for each in HARMS[::2]:
        mended = mend(each)
        after = _by_qemu(tmp_path, mended.final)
        assert after.errors == 0, each.name
        sample = [*islice(mended.states(), 1, None, 4)][:4]
        for label, file in (*sample, ("end", mended.final)):
            found = _by_qemu(tmp_path, file)
            repaired = mended.judge(file) == "repaired"
            wanted = after if repaired else _by_qemu(tmp_path, mended.base)
            if not repaired and found != wanted:
                # Garbage among the counts: what lies behind the end, and does no longer.
                wanted = _by_qemu(tmp_path, mended.base.ljust(len(file), b"\0"))
            assert found == wanted, (each.name, label)
            total["repaired" if repaired else "damaged"] += 1
    assert total.total() >= CONFIRMED, total


def _by_qemu(folder: Path, file: bytes) -> Seen:
    path = folder / "image.qcow2"
    path.write_bytes(file)
    return look(path, ("active", "snapshot:1"))


# ---- a second crash


def test_a_second_crash_is_survived_too() -> None:
    """What the first crash left is repaired again, and crashed; the end is the same."""
    total = 0
    # Every kind of image is among them; states of one kind of damage differ little.
    for each in HARMS[::2]:
        mended = mend(each)
        for label, file in islice(mended.states(few=True), 3, None, 40):
            try:
                again = mend(each, file)
            except UsageError:
                # Nothing is missing behind the end any more: zeros are there, as the choice was.
                assert each.grows, (each.name, label)
                assert mended.judge(file) == "damaged", (each.name, label)
                continue
            except EditRefused:
                assert mended.judge(file) == "repaired", (each.name, label)
                continue
            if not again.ops:
                assert mended.judge(file) == "repaired", (each.name, label)
                continue
            total += judged(again, few=True).total()
            assert disks(again) == disks(mended), (each.name, label)
    assert total >= DOUBLED, total


def disks(mended: Mended) -> object:
    """What guests read after the repair."""
    assert not isinstance(mended.after, str)
    return mended.after.disks


# ---- repairs whose switch one sector cannot hold


def _lost_directory() -> bytes:
    """An image with a long extension nobody knows, whose bitmap directory lies outside."""
    poked = Poked(tiny(1))
    poked.set(poked.extension(0x23852875) + 16, 1 << 40)
    return bytes(poked.file)


def _garbage_directory() -> bytes:
    poked = Poked(tiny(2))
    at = poked.directory()
    poked.file[at : at + 64] = noise(6, 64)
    return bytes(poked.file)


JOURNALLED = (
    Harm("bitmap directory lies outside", _lost_directory, 4096),
    Harm("bitmap directory is garbage", _garbage_directory, 4096),
)


@pytest.mark.parametrize("each", JOURNALLED, ids=lambda each: each.name)
def test_a_journalled_repair(each: Harm) -> None:
    """Image, journal and folder are cut off together; after recovery it is one of the two."""
    base = each.make()
    world = World({"img": base})
    storage = WorldStorage(world)
    switches = 0

    def journal(patches: tuple[Patch, ...], command: str) -> None:
        nonlocal switches
        switches += 1
        assert len(patches) > 1
        switch_through_journal(storage, place_in(world), patches, command)

    with editor_on(storage, None, journal) as editor:
        run(editor, each.action())
    assert switches == 1
    final = world.files["img"]
    damaged, repaired = sight(base), sight(final)
    assert not isinstance(repaired, str)
    assert repaired.errors == 0
    found = Counter[str]()
    outcomes = set[Outcome]()
    for files in world.after_crashes(random.Random(4), samples=12):
        after, outcome = recovered(files)
        outcomes.add(outcome)
        assert set(after.files) == {"img"}
        file = after.files["img"]
        assert file[4096 : len(base)] == base[4096:]
        if file[:4096] == final[:4096]:
            assert sight(file) == repaired
            found["repaired"] += 1
        else:
            assert file[: len(base)] == base
            assert sight(file) == damaged
            found["damaged"] += 1
    assert outcomes == set(Outcome) - {Outcome.REFUSED}
    assert found["damaged"] >= 40, found
    assert found["repaired"] >= 2, found


# ---- bugs planted on purpose


class Bug(NamedTuple):
    """``plant`` or ``wrap`` puts it in; ``stopped``: whether guard or verification see it too."""

    name: str
    harm: Harm
    plant: AbstractContextManager[Any] | None = None
    wrap: Wrap = unwrapped
    stopped: bool = False


class CutShort(HalfWrites):
    """Writes only the first sector of what is placed behind the end, and does not say so."""

    def write(self, offset: int, data: Any) -> None:
        self.inner.write(offset, bytes(data)[:512])


def _not_appending() -> AbstractContextManager[Any]:
    """New clusters are taken where the damaged counts say that nothing is."""
    return patch.object(Repair, "_new_ledger", Transaction._new_ledger)


def _without(what: str) -> AbstractContextManager[Any]:
    return patch.object(Repair, what, lambda *_: None)


def _in_front_of_what_is_missing() -> AbstractContextManager[Any]:
    """What tables name behind the end of the file is written to."""
    return patch.object(Repair, "_highest", lambda _: 0)


ZEROED = harm("refcounts of all data are 0", "v3-512")
MOVED = harm("data over its own L2 table", "4k")
NAMED = harm("snapshot's name is too long", "three-snapshots")
TABLE = harm("refcount table is zeroed", "bitmaps")
CUT = harm("last cluster is cut off", "4k", grows=True, l2_outside="zero")
STALE = harm("marked dirty, refcounts stale", "backing")
RESERVED = harm("L2 entries have reserved bits", "v3-512")

BUGS = (
    Bug("no flush before the switch", ZEROED, wrap=without_flush(0)),
    Bug("no flush, L1 anew", harm("L1 entry is zeroed", "4k"), wrap=without_flush(0)),
    Bug("the switch comes first", TABLE, wrap=SwitchFirst),
    Bug("the switch comes before L2 tables", MOVED, wrap=SwitchFirst),
    Bug("a lost header comes first", harm("header is zeroed", "v3-512"), wrap=SwitchFirst),
    Bug("the switch in two writes", NAMED, wrap=TornSwitch),
    Bug("one write too late", NAMED, wrap=LastWriteLater, stopped=True),
    Bug("tables cut short", MOVED, wrap=CutShort),
    Bug("allocating by broken counts", ZEROED, _not_appending(), stopped=True),
    Bug("allocating by no counts", TABLE, _not_appending(), stopped=True),
    Bug("writing where data is missing", CUT, _in_front_of_what_is_missing()),
    Bug("entries not changed", RESERVED, _without("_make_changes")),
    Bug("refcounts not written", STALE, _without("_write_refcounts"), stopped=True),
)


def test_there_are_enough_bugs() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 12


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Bug) -> None:
    """Nobody else watches; the repair without it is not taken for a bug."""
    right = mend(bug.harm)
    judged(right, few=True)
    with (
        unwatched(),
        patch("qcow.actions.repair.action._judge", lambda *_: None),
        bug.plant or nullcontext(),
    ):
        wrong = mend(bug.harm, wrap=bug.wrap)
    wrong.before, wrong.after = right.before, right.after
    wrongs = (wrong.judge(file) for _, file in wrong.states())
    assert any(what not in ("damaged", "repaired") for what in wrongs)


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.stopped], ids=lambda bug: bug.name)
def test_a_planted_bug_is_stopped_before_the_switch(bug: Bug) -> None:
    with bug.plant or nullcontext(), pytest.raises(VerificationError):
        mend(bug.harm, wrap=bug.wrap)
