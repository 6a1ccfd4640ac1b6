"""Commit, rebase, flatten and relink beside qemu-img: the same disks, the same info, both clean."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import qcow
from qcow.actions.commit import Commit
from qcow.actions.flatten import Flatten
from qcow.actions.rebase import Rebase
from qcow.actions.relink import Relink
from qcow.edit.apply import Action, apply, plan
from qcow.edit.plan import Plan
from qcow.storage.gate import Gate
from tests.support.images import qemu_check
from tests.support.qemu import guest_bytes, qemu_img, qemu_io
from tests.support.shared import once

pytestmark = pytest.mark.oracle


@dataclass(frozen=True)
class Case:
    """A chain ``vm.qcow2`` -> ``base`` (-> ``low`` with ``three``) in a folder of its own."""

    name: str
    base: str = ""
    overlay: str = ""
    base_size: str = "6M"
    overlay_size: str = "6M"
    raw: bool = False
    three: bool = False
    snapshots: bool = True  # of the base


CASES = (
    Case("plain"),
    Case("version 2", "compat=0.10", "compat=0.10"),
    Case("version 2, base grows", "compat=0.10", "compat=0.10", "4M", "6M", snapshots=False),
    Case("base of small clusters, larger", "cluster_size=512", "", "9M", "6M"),
    Case("overlay of small clusters, base grows", "", "cluster_size=512", "5M", "7M"),
    Case("extended L2", "extended_l2=on", "extended_l2=on"),
    Case("extended L2, large clusters", "cluster_size=2M", "extended_l2=on,cluster_size=2M"),
    Case("refcounts of 64 bits and zstd", "refcount_bits=64", "compression_type=zstd"),
    Case("raw base", raw=True),
    Case("raw base grows", base_size="5M", overlay_size="6656K", raw=True),
    Case("raw base is larger", overlay="cluster_size=4k", base_size="9M", raw=True),
    Case("three layers", three=True),
    Case("three layers, short one between", "extended_l2=on", "", "5M", "9M", three=True),
    Case("base with a data file", "data_file=base.data", "", "5M", "6M", snapshots=False),
    Case(
        "base with a raw data file", "data_file=base.data,data_file_raw=on", "", "5M", "6M",
        snapshots=False,
    ),
)  # fmt: skip
FOLLOW = Gate.follow()


@pytest.fixture(autouse=True)
def _own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def _create(folder: Path, name: str, size: str, options: str, *more: str) -> None:
    chosen = ("-o", options) if options else ()
    qemu_img("create", "-q", "-f", "qcow2", *chosen, *more, name, size, cwd=folder)


def _io(folder: Path, name: str, *commands: str, fmt: str = "qcow2") -> None:
    qemu_io(Path(name), *commands, fmt=fmt, cwd=folder)


def build(folder: Path, case: Case, *, bases: bool = False) -> Path:
    """The chain of ``case`` in a new folder; ``bases``: with those of NEW_BASES beside it."""

    def make(shared: Path) -> None:
        _build(shared, case)
        if bases:
            _add_bases(shared)

    made = once(f"chain-{case.name}-{bases}", make)
    subprocess.run(["cp", "-r", made, folder], check=True)  # keeps the holes
    return folder / "vm.qcow2"


def _build(folder: Path, case: Case) -> None:
    """Data, zeros, compressed clusters, and parts of clusters."""
    fmt = "raw" if case.raw else "qcow2"
    if case.three:
        _create(folder, "low", "8M", "")
        _io(folder, "low", "write -q -P 0x44 0 1M", "write -q -P 0x45 4M 3M")
    if case.raw:
        qemu_img("create", "-q", "-f", "raw", "base", case.base_size, cwd=folder)
    else:
        below = ("-b", "low", "-F", "qcow2") if case.three else ()
        _create(folder, "base", case.base_size, case.base, *below)
    _io(folder, "base", "write -q -P 0x11 0 2M", "write -q -P 0x22 3M 512k", fmt=fmt)
    if case.snapshots and not case.raw:
        qemu_img("snapshot", "-c", "s", "base", cwd=folder)
    _create(folder, "vm.qcow2", case.overlay_size, case.overlay, "-b", "base", "-F", fmt)
    writes = ["write -q -P 0x33 1M 512k", "write -q -P 9 2001k 1k", "write -q -P 9 3003k 10k"]
    if "compat=0.10" not in case.overlay:
        writes += ["write -q -z 512k 256k", "write -q -z 3500k 100k", "write -q -z 256k 3k"]
    packed = "2M" if "cluster_size=2M" in case.overlay else "512k"
    _io(folder, "vm.qcow2", f"write -q -c -P 0x77 4M {packed}")
    _io(folder, "vm.qcow2", *writes, "write -q -P 5 5631k 1k")


@pytest.fixture
def twins(tmp_path: Path) -> Any:
    """``twins(case)``: two equal chains in folders of their own, and what their disk holds."""

    def make(case: Case) -> tuple[Path, Path, bytes]:
        ours = build(tmp_path / "ours", case)
        shutil.copytree(tmp_path / "ours", tmp_path / "qemu")
        return ours, tmp_path / "qemu" / "vm.qcow2", _disk(ours)

    return make


def _disk(image: Path, fmt: str = "qcow2", snapshot: str | None = None) -> bytes:
    """As QEMU reads it, which finds data files in the current folder."""
    out = image.parent / "disk.tmp"
    picked = ("-l", f"snapshot.name={snapshot}") if snapshot else ()
    command = ("convert", "-f", fmt, "-O", "raw", *picked, image.name, out.name)
    qemu_img(*command, cwd=image.parent)
    try:
        return out.read_bytes()
    finally:
        out.unlink()


def _info(image: Path) -> Any:
    """What ``info --backing-chain`` says, without what depends on allocation and on the folder."""
    said = qemu_img("info", "--backing-chain", "--output=json", image.name, cwd=image.parent)
    found = json.loads(said.stdout.replace(str(image.parent).encode(), b"FOLDER"))
    for layer in found:
        layer.pop("actual-size")
    return found


def _run(path: Path, action: Action, monkeypatch: pytest.MonkeyPatch, gate: Gate = FOLLOW) -> Plan:
    """Plan it, carry it out, and see that both say the same."""
    monkeypatch.chdir(path.parent)
    with qcow.open(path.name) as image:
        assert isinstance(image, qcow.Image)
        planned = plan(action, image, gate=gate)
    (done,) = apply(path.name, [action], gate=gate).plans
    assert done.to_json() == planned.to_json()
    return done


def _assert_clean(*images: Path) -> None:
    for image in images:
        found = qemu_img("check", "-f", "qcow2", image.name, cwd=image.parent, check=False)
        assert found.returncode == 0, (image, found.stdout, found.stderr)


@pytest.mark.parametrize("drop", [False, True], ids=["emptied", "dropped"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_commit(case: Case, drop: bool, twins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs, disk = twins(case)
    done = _run(ours, Commit(drop=drop), monkeypatch)
    qemu_img("commit", "-q", *(("-d",) if drop else ()), "vm.qcow2", cwd=theirs.parent)
    fmt = "raw" if case.raw else "qcow2"
    bases = [vm.with_name("base") for vm in (ours, theirs)]
    _assert_clean(ours, *([] if case.raw else bases[:1]))
    assert _disk(ours) == _disk(theirs) == disk
    committed = _disk(bases[0], fmt)
    assert committed == _disk(bases[1], fmt)
    assert committed[: len(disk)] == disk
    if case.snapshots and not case.raw:
        assert _disk(bases[0], snapshot="s") == _disk(bases[1], snapshot="s")
    if "data_file_raw" in case.base:
        data = [base.with_name("base.data").read_bytes() for base in bases]
        assert data[0][: len(disk)] == data[1][: len(disk)] == disk
    assert _info(ours) == _info(theirs)
    assert done.outcome.written_elsewhere > 0
    assert not done.changes_nothing
    with qcow.open(ours) as image:
        assert isinstance(image, qcow.Image)
        assert bool((image.active.l1() != 0).any()) == drop
    assert done.undoable == (not case.raw and not done.outcome.no_undo)


NEW_BASES = ("other", "short", "long", "raw", "shared")


def _add_bases(folder: Path) -> None:
    """Bases that partly agree with ``base``: by content, by size, or with the same file below."""
    _create(folder, "other", "6M", "cluster_size=4k")
    _io(folder, "other", "write -q -P 0x11 512k 2M", "write -q -P 0x22 3M 512k")
    _create(folder, "short", "1536K", "")
    _io(folder, "short", "write -q -P 0x11 0 1M", "write -q -P 7 1280k 3k")
    _create(folder, "long", "12M", "extended_l2=on")
    _io(folder, "long", "write -q -P 0x66 0 12M")
    qemu_img("create", "-q", "-f", "raw", "raw", "5M", cwd=folder)
    _io(folder, "raw", "write -q -P 0x11 0 2M", "write -q -P 0x23 3M 5k", fmt="raw")
    _create(folder, "shared", "6M", "", "-b", "base", "-F", "qcow2")
    _io(folder, "shared", "write -q -P 0x55 0 128k", "write -q -P 0x55 1M 64k")


def _pairs() -> list[tuple[Case, str]]:
    """Every case over two of the new bases, every new base under several cases."""
    plain = [case for case in CASES if not case.raw and "data_file" not in case.base]
    return [
        (case, NEW_BASES[(number + step) % len(NEW_BASES)])
        for number, case in enumerate(plain)
        for step in (0, 2)
    ]


@pytest.mark.parametrize(("case", "new"), _pairs(), ids=lambda one: getattr(one, "name", one))
def test_rebase(case: Case, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = build(tmp_path / "ours", case, bases=True)
    shutil.copytree(tmp_path / "ours", tmp_path / "qemu")
    theirs, disk = tmp_path / "qemu" / "vm.qcow2", _disk(ours)
    fmt = "raw" if new == "raw" else "qcow2"
    _run(ours, Rebase(new, fmt), monkeypatch)
    qemu_img("rebase", "-b", new, "-F", fmt, "vm.qcow2", cwd=theirs.parent)
    _assert_clean(ours)
    assert _disk(ours) == _disk(theirs) == disk
    assert _info(ours) == _info(theirs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_flatten(case: Case, twins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs, disk = twins(case)
    done = _run(ours, Flatten(), monkeypatch)
    qemu_img("rebase", "-b", "", "vm.qcow2", cwd=theirs.parent)
    for name in ("base", "low"):
        ours.with_name(name).unlink(missing_ok=True)
    _assert_clean(ours)
    assert _disk(ours) == disk
    assert _info(ours) == _info(theirs)
    assert done.outcome.facts["copied"] > 0


def test_rebase_of_an_image_without_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = build(tmp_path / "ours", Case("plain"), bases=True)
    _create(ours.parent, "alone.qcow2", "6M", "")
    _io(ours.parent, "alone.qcow2", "write -q -P 3 1M 100k")
    shutil.copytree(tmp_path / "ours", tmp_path / "qemu")
    alone, theirs = ours.with_name("alone.qcow2"), tmp_path / "qemu" / "alone.qcow2"
    disk = _disk(alone)
    _run(alone, Rebase("base", "qcow2"), monkeypatch)
    qemu_img("rebase", "-b", "base", "-F", "qcow2", "alone.qcow2", cwd=theirs.parent)
    _assert_clean(alone)
    assert _disk(alone) == _disk(theirs) == disk
    assert _info(alone) == _info(theirs)


@pytest.mark.parametrize("depth", [1, 2])
def test_commit_to_a_layer_by_name(
    depth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``-b`` keeps the overlay as it is, as ``-d`` does; layers between are of no use then."""
    ours = build(tmp_path / "ours", Case("three", three=True, base_size="5M", overlay_size="9M"))
    shutil.copytree(tmp_path / "ours", tmp_path / "qemu")
    theirs, disk = tmp_path / "qemu" / "vm.qcow2", _disk(ours)
    name = ("base", "low")[depth - 1]
    done = _run(ours, Commit(depth, drop=True), monkeypatch)
    qemu_img("commit", "-q", "-b", name, "vm.qcow2", cwd=theirs.parent)
    layers = [ours.with_name("base"), ours.with_name("low")]
    _assert_clean(ours, *layers)
    assert _disk(ours) == _disk(theirs) == disk
    for layer in layers:
        assert _disk(layer) == _disk(theirs.with_name(layer.name))
    assert _info(ours) == _info(theirs)
    assert any("between" in warning for warning in done.outcome.warnings) == (depth == 2)


@pytest.mark.parametrize("version", ["0.10", "1.1"])
def test_relink(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = build(
        tmp_path / "ours", Case(f"overlay of version {version}", overlay=f"compat={version}")
    )
    base = ours.with_name("base")
    (ours.parent / "a folder").mkdir()
    longer = Path("a folder") / ("base under a longer name " * 8)
    base.rename(ours.parent / longer)
    shutil.copytree(tmp_path / "ours", tmp_path / "qemu")
    theirs = tmp_path / "qemu" / "vm.qcow2"
    done = _run(ours, Relink(str(longer), "qcow2"), monkeypatch, Gate.own_folder())
    qemu_img("rebase", "-u", "-b", longer, "-F", "qcow2", "vm.qcow2", cwd=theirs.parent)
    assert (done.switches, done.journal) == (1, False)
    _assert_clean(ours)
    assert _disk(ours) == _disk(theirs)
    assert _info(ours) == _info(theirs)
    _run(ours, Relink(None, force=True), monkeypatch, Gate.own_folder())
    qemu_img("rebase", "-u", "-b", "", "vm.qcow2", cwd=theirs.parent)
    _assert_clean(ours)
    assert _disk(ours) == _disk(theirs)
    assert _info(ours) == _info(theirs)


def test_snapshots_of_the_overlay_survive_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = build(tmp_path / "ours", Case("plain"))
    qemu_img("snapshot", "-c", "own", "vm.qcow2", cwd=ours.parent)
    shutil.copytree(tmp_path / "ours", tmp_path / "qemu")
    theirs, disk = tmp_path / "qemu" / "vm.qcow2", _disk(ours)
    # The snapshot is as old as the last write, so that nothing is written where it reads through.
    _run(ours, Commit(), monkeypatch)
    qemu_img("commit", "-q", "vm.qcow2", cwd=theirs.parent)
    _assert_clean(ours, ours.with_name("base"))
    assert _disk(ours) == disk
    assert _disk(ours, snapshot="own") == _disk(theirs, snapshot="own") == disk
    assert [layer["snapshots"][0]["name"] for layer in _info(ours)] == ["own", "s"]


def test_check_of_the_oracle_itself(tmp_path: Path) -> None:
    """Of the two helpers of these tests: what they compare does differ between different disks."""
    ours = build(tmp_path / "ours", Case("plain"))
    before, said = _disk(ours), _info(ours)
    assert before == guest_bytes(ours)
    assert qemu_check(ours).code == 0
    _io(ours.parent, "vm.qcow2", "write -q -P 1 0 512")
    qemu_img("rebase", "-u", "-b", "base", "-F", "raw", "vm.qcow2", cwd=ours.parent)
    assert _disk(ours) != before
    assert _info(ours) != said
