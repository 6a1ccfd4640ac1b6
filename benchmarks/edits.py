"""The rows of changes: the same work by qemu-img and by this program, each on a copy of its own.

Every figure is that of the whole process, verification of the result included.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .images.recipes import ready
from .processes import Cost, median, run
from .report import Line, mib, seconds

MIB, GIB = 1 << 20, 1 << 30
#: Bytes of changed data in the rows of whole chains.
CHANGED = 4 * GIB
#: Seconds that undo may take.
UNDO = 0.5
_WHOLE = "allocated-1t"


@dataclass(frozen=True)
class Edit:
    """One piece of work.  ``theirs`` and ``ours`` are command lines without the program; ``{}`` is
    the image.  ``before``: qemu-img command lines that prepare it, not measured."""

    name: str
    what: str
    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    ratio: float
    before: tuple[tuple[str, ...], ...] = ()
    peak: int | None = None
    written: int | None = None


EDITS = (
    Edit(
        "snapshot-create", "snapshot -c, 1 TiB all allocated",
        ("snapshot", "-c", "a", "{}"), ("snapshot", "-q", "-c", "a", "{}"),
        5, peak=200 * MIB, written=170 * MIB,
    ),
    Edit(
        "snapshot-apply", "snapshot -a, 1 TiB all allocated",
        ("snapshot", "-a", "a", "{}"), ("snapshot", "-q", "-a", "a", "--discard-current", "{}"),
        5, (("snapshot", "-c", "a", "{}"), ("io", "write -q 0 64k", "{}")), 200 * MIB, 170 * MIB,
    ),
    Edit(
        "snapshot-delete", "snapshot -d, 1 TiB all allocated",
        ("snapshot", "-d", "a", "{}"), ("snapshot", "-q", "-d", "a", "{}"),
        5, (("snapshot", "-c", "a", "{}"),), 200 * MIB, 170 * MIB,
    ),
    Edit(
        "resize", "resize +1T, 1 TiB all allocated",
        ("resize", "-q", "{}", "+1T"), ("resize", "-q", "{}", "+1T"), 2,
    ),
    Edit(
        "amend", "amend -o refcount_bits=32, 1 TiB",
        ("amend", "-q", "-o", "refcount_bits=32", "{}"),
        ("amend", "-q", "-o", "refcount_bits=32", "{}"), 2,
    ),
)  # fmt: skip

CHAIN = ("commit", "rebase")
COMPACT = "compact"
NAMES = (*(edit.name for edit in EDITS), *CHAIN, COMPACT)


def lines(ours: str, folder: Path, runs: int, wanted: Callable[[str], bool]) -> Iterator[Line]:
    """Measure the rows whose name is ``wanted``, one after the other."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="edits-") as scratch:
        os.environ["XDG_STATE_HOME"] = str(Path(scratch) / "state")
        work = Path(scratch)
        for edit in EDITS:
            if wanted(edit.name):
                print(f"{edit.what} ...", file=sys.stderr)
                yield from _edit(edit, ours, ready(_WHOLE, folder), work, runs)
        if any(wanted(name) for name in CHAIN):
            yield from _chain(ours, work, wanted, max(1, runs // 2))
        if wanted(COMPACT):
            yield _compact(ours, work)


def _edit(edit: Edit, ours: str, image: Path, work: Path, runs: int) -> Iterator[Line]:
    theirs_taken, ours_taken, undone = [], [], []
    written = 0
    for _ in range(runs):
        with _copy(image, work, edit.before) as path:
            theirs_taken.append(run(_line("qemu-img", edit.theirs, path)))
        with _copy(image, work, edit.before) as path:
            if edit.written is not None and not written:
                written = _planned(_line(ours, edit.ours, path))
            ours_taken.append(run(_line(ours, edit.ours, path)))
            undone.append(run((ours, "undo", "-q", str(path))))
    theirs, mine, undo = median(theirs_taken), median(ours_taken), median(undone)
    met = mine.code == theirs.code == 0 and theirs.wall / mine.wall >= edit.ratio
    targets = [f">= {edit.ratio:g}x"]
    if edit.peak is not None:
        met &= mine.peak <= edit.peak
        targets.append(f"<= {mib(edit.peak)}")
    if edit.written is not None:
        met &= 0 < written <= edit.written
        targets.append(f"{mib(written)} written <= {mib(edit.written)}")
    yield _both(edit.what, theirs, mine, ", ".join(targets), met)
    yield _alone(f"   undo of {edit.name}", undo, f"<= {UNDO:g} s", undo.wall <= UNDO)


def _planned(command: Sequence[str]) -> int:
    """Bytes that the plan says will be written."""
    argv = [*command, "--dry-run", "--output=json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout)["bytes-written"])


def _chain(ours: str, work: Path, wanted: Callable[[str], bool], runs: int) -> Iterator[Line]:
    base, top = work / "base.qcow2", work / "top.qcow2"
    print("   making a chain with 4 GiB of changed data ...", file=sys.stderr)
    _qemu("create", "-q", "-f", "qcow2", str(base), str(2 * CHANGED))
    _io(base, [f"write -q -P 1 {at} 64M" for at in range(0, CHANGED, 64 * MIB)])
    _qemu("create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(top))
    _io(top, [f"write -q -P 2 {at} 64M" for at in range(0, CHANGED, 64 * MIB)])
    other = work / "other.qcow2"
    _qemu("create", "-q", "-f", "qcow2", str(other), str(2 * CHANGED))
    plans = {
        "commit": ("commit", "-q", "{}"),
        "rebase": ("rebase", "-q", "-b", str(other), "-F", "qcow2", "{}"),
    }
    for name, command in plans.items():
        if not wanted(name):
            continue
        print(f"{name}, 4 GiB of changed data ...", file=sys.stderr)
        overlay = top if name == "commit" else base
        taken: dict[str, list[Cost]] = {"qemu-img": [], ours: []}
        for _ in range(runs):
            for program, costs in taken.items():
                with _chain_copy(overlay, base, work, name) as path:
                    subprocess.run(["sync"], check=True)
                    costs.append(run(_line(program, command, path)))
        theirs, mine = median(taken["qemu-img"]), median(taken[ours])
        met = mine.code == theirs.code == 0 and theirs.wall / mine.wall >= 1
        yield _both(f"{name}, 4 GiB of changed data", theirs, mine, ">= 1x", met)


@contextmanager
def _chain_copy(overlay: Path, base: Path, work: Path, name: str) -> Iterator[Path]:
    """An overlay whose base holds (commit) or lacks (rebase) the same 4 GiB, in a new folder."""
    folder = work / "chain"
    folder.mkdir()
    try:
        path = folder / "disk.qcow2"
        if name == "commit":
            shutil.copyfile(base, folder / "base.qcow2")
            shutil.copyfile(overlay, path)
            _qemu("rebase", "-u", "-b", "base.qcow2", "-F", "qcow2", str(path))
        else:  # everything the old base holds and the new one lacks must be copied
            os.link(base, folder / "base.qcow2")
            _qemu("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", str(path))
        yield path
    finally:
        shutil.rmtree(folder)


def _compact(ours: str, work: Path) -> Line:
    """Data in the rear half of a file with holes in front: all of it moves."""
    print("compact ...", file=sys.stderr)
    image, copied = work / "holes.qcow2", work / "copied"
    size = CHANGED // 2
    _qemu("create", "-q", "-f", "qcow2", str(image), str(2 * size))
    _io(image, [f"write -q -P 3 {at} 64M" for at in range(0, 2 * size, 64 * MIB)])
    _io(image, [f"discard {at} 64M" for at in range(0, size, 64 * MIB)])
    part = work / "part"
    with part.open("wb") as file:
        for _ in range(size // (64 * MIB)):
            file.write(os.urandom(MIB) * 64)
    subprocess.run(["sync"], check=True)
    cp = run(
        ("sh", "-c", f"cp --reflink=never --sparse=never '{part}' '{copied}'; sync '{copied}'")
    )
    part.unlink()
    copied.unlink()
    mine = run((ours, "compact", "-q", str(image)))
    shorter = image.stat().st_size <= size * 5 // 4
    image.unlink()
    met = mine.code == 0 and shorter and cp.wall / mine.wall >= 0.6 and mine.peak <= 200 * MIB
    what = f"compact, {size // GIB} GiB moved (beside cp of as much)"
    return _both(what, cp, mine, ">= 0.6x, <= 200 MiB", met)


# ---- commands


@contextmanager
def _copy(image: Path, work: Path, before: Sequence[tuple[str, ...]]) -> Iterator[Path]:
    """A sparse copy, prepared by QEMU, durable before the clock runs, gone afterwards."""
    path = work / "disk.qcow2"
    subprocess.run(["cp", "--sparse=always", str(image), str(path)], check=True)
    try:
        for command in before:
            if command[0] == "io":
                _io(path, list(command[1:-1]))
            else:
                _qemu(*(str(path) if part == "{}" else part for part in command))
        subprocess.run(["sync", str(path)], check=True)
        yield path
    finally:
        path.unlink()


def _line(program: str, command: Sequence[str], path: Path) -> tuple[str, ...]:
    return (program, *(str(path) if part == "{}" else part for part in command))


def _qemu(*arguments: str) -> None:
    subprocess.run(["qemu-img", *arguments], check=True)


def _io(path: Path, commands: Sequence[str]) -> None:
    given = [part for command in commands for part in ("-c", command)]
    argv = ["qemu-io", *given, "-f", "qcow2", "-d", "unmap", str(path)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def _both(what: str, theirs: Cost, mine: Cost, target: str, met: bool) -> Line:
    cells = (
        what,
        seconds(theirs),
        seconds(mine),
        f"{theirs.wall / mine.wall:.1f}x",
        f"{theirs.cpu / mine.cpu:.1f}x" if mine.cpu else "-",
        mib(mine.peak),
        target,
    )
    return Line(cells, met)


def _alone(what: str, mine: Cost, target: str, met: bool) -> Line:
    return Line((what, "-", seconds(mine), "-", "-", mib(mine.peak), target), met)
