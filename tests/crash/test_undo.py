"""Undo and redo after each action: every guest byte and sector 0 are what they were."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from qcow.actions.history import Reclaim, Redo, Undo
from qcow.edit.apply import apply
from qcow.edit.history import History
from qcow.errors import EditRefused, NoSpaceError, StorageError
from qcow.storage.gate import Gate, Policy
from tests.support.qemu import guest_bytes, qemu_img, qemu_io

from .cases import Case, case_of, cases_of
from .oracle import TinyImage, Verdict
from .variants import BELOW, VARIANTS, Variant

GATE = Gate(Policy.OWN_FOLDER)


class Seen(NamedTuple):
    """Sector 0, the disk, and every snapshot's."""

    sector: bytes
    disk: bytes
    snapshots: tuple[bytes, ...]


def seen(path: Path) -> Seen:
    image = look(path)
    places = range(len(image.snapshots))
    return Seen(image.file[:512], image.disk(), tuple(image.disk(place) for place in places))


def look(path: Path) -> TinyImage:
    """Raises AssertionError for an image that has errors or leaks."""
    data = path.with_name("data.raw")
    image = TinyImage(path.read_bytes(), BELOW, data.read_bytes() if data.exists() else b"")
    assert image.check() == Verdict((), 0)
    return image


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def make(variant: Variant, folder: Path) -> Path:
    path = folder / "image.qcow2"
    path.write_bytes(variant.make())
    for name, content in BELOW.items() if variant.below else ():
        (folder / name.decode()).write_bytes(content)
    if variant.data is not None:
        (folder / "data.raw").write_bytes(variant.data())
    return path


#: What gives space back, or writes to a data file, is not undone, and says so.
CASES = [
    case
    for variant in VARIANTS
    if not variant.large and variant.data is None
    for case in cases_of(variant)
    if "reclaim" not in case.name
    and case.name not in ("compact", "compact in rounds", "defragment", "write, compact")
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.variant.name} {case.name}")
def test_undo_and_redo(case: Case, tmp_path: Path) -> None:
    """Each action by itself, back to the start, and forward to the end again."""
    path = make(case.variant, tmp_path)
    stages = [seen(path)]
    for action in case.actions():
        (done,) = apply(str(path), [action], gate=GATE).plans
        if done.switches:
            stages.append(seen(path))
            assert stages[-1].sector != stages[-2].sector
    for stage in reversed(stages[:-1]):
        apply(str(path), [Undo()])
        assert seen(path) == stage
    with pytest.raises(EditRefused):
        apply(str(path), [Undo()])
    for stage in stages[1:]:
        apply(str(path), [Redo()])
        assert seen(path) == stage
    with pytest.raises(EditRefused):
        apply(str(path), [Redo()])


CHANGES = (
    "create",
    "apply",
    "delete",
    "rename",
    "write",
    "zero",
    "discard",
    "grow",
    "compact zeroes",
)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.oracle
def test_qemu_agrees(name: str, tmp_path: Path) -> None:
    path = make(case_of(name, "v3-512").variant, tmp_path)
    before = guest_bytes(path), guest_bytes(path, "1")
    apply(str(path), case_of(name, "v3-512").actions())
    apply(str(path), [Undo()])
    assert (guest_bytes(path), guest_bytes(path, "1")) == before
    assert qemu_img("check", path, check=False).returncode == 0


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.oracle
def test_a_foreign_write_ends_undo(name: str, tmp_path: Path) -> None:
    """Whatever QEMU writes: to what is there, or to a cluster that undo would need."""
    case = case_of(name, "v3-512")
    path = make(case.variant, tmp_path)
    apply(str(path), case.actions())
    qemu_io(path, "write -P 77 3072 512")
    after = path.read_bytes()
    with pytest.raises(EditRefused, match="another program changed it"):
        apply(str(path), [Undo()])
    assert path.read_bytes() == after
    with pytest.raises(EditRefused):
        apply(str(path), [Redo()])
    assert path.read_bytes() == after


@pytest.mark.oracle
def test_a_foreign_write_ends_redo(tmp_path: Path) -> None:
    case = case_of("write", "v3-512")
    path = make(case.variant, tmp_path)
    apply(str(path), case.actions())
    apply(str(path), [Undo()])
    qemu_io(path, "write -P 77 0 512")
    after = path.read_bytes()
    with pytest.raises(EditRefused, match="another program changed it"):
        apply(str(path), [Redo()])
    assert path.read_bytes() == after


@pytest.mark.parametrize("name", CHANGES)
def test_reclaim_ends_undo(name: str, tmp_path: Path) -> None:
    case = case_of(name, "v3-512")
    path = make(case.variant, tmp_path)
    apply(str(path), case.actions())
    apply(str(path), [Reclaim()])
    after = path.read_bytes()
    for action in (Undo(), Redo()):
        with pytest.raises(EditRefused, match="reclaimed"):
            apply(str(path), [action])
    assert path.read_bytes() == after
    assert look(path).check() == Verdict((), 0)


# ---- when it is interrupted between the image and its history


class PowerCut(BaseException):
    pass


@pytest.mark.parametrize("undoing", [False, True])
@pytest.mark.parametrize("name", ["create", "write", "delete"])
@pytest.mark.parametrize("at", range(5))
def test_killed_between_image_and_history(
    name: str, at: int, undoing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before or after each note of the history: what it then offers is true."""
    case = case_of(name, "v3-512")
    path = make(case.variant, tmp_path)
    states = [seen(path)]
    apply(str(path), case.actions())
    states.append(seen(path))
    if not undoing:
        apply(str(path), [Undo()])
    calls = 0
    real = History._save

    def save(history: History, record: object) -> None:
        nonlocal calls
        calls += 1
        if calls - 1 == at // 2 and at % 2 == 0:
            raise PowerCut
        real(history, record)  # type: ignore[arg-type]
        if calls - 1 == at // 2:
            raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr(History, "_save", save)
        try:
            apply(str(path), [Undo()] if undoing else case.actions())
        except PowerCut:
            pass
        else:
            assert calls <= at // 2
    now = seen(path)
    assert now.disk in (states[0].disk, states[1].disk)
    old = now.sector == states[0].sector
    if old:
        with pytest.raises(EditRefused):
            apply(str(path), [Undo()])
        assert seen(path) == now
    else:
        apply(str(path), [Undo()])
        assert seen(path) == states[0]
    apply(str(path), case.actions())
    assert look(path).check() == Verdict((), 0)


@pytest.mark.parametrize("at", range(6))
def test_a_full_disk_for_the_history(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state folder cannot be written: the change is not made, or is made and can be undone."""
    case = case_of("write", "v3-512")
    path = make(case.variant, tmp_path)
    before = seen(path)
    calls = 0
    real = History._save

    def save(history: History, record: object) -> None:
        nonlocal calls
        calls += 1
        if calls > at:
            raise NoSpaceError("Could not write the history: No space left on device")
        real(history, record)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(History, "_save", save)
        try:
            apply(str(path), case.actions())
        except StorageError:
            pass
        else:
            assert calls <= at
    if seen(path) != before:
        apply(str(path), [Undo()])
    assert seen(path) == before
