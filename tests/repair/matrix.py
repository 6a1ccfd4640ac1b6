"""The damage matrix: each kind of damage on some images, repaired by this project and by QEMU."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import numpy as np

from qcow.actions.history import Undo
from qcow.actions.repair import RepairImage
from qcow.actions.repair.lost_header import mending_for
from qcow.edit.apply import apply
from qcow.edit.mending import Mending
from qcow.edit.plan import Plan
from qcow.errors import QcowError, UsageError
from qcow.findings import GuestRange
from qcow.inspect.lost import scan_lost
from qcow.opening import open as open_image
from tests.crash.oracle import TinyImage
from tests.crash.variants import BELOW, Variant
from tests.support.qemu import parsed, qemu_img

from .damage import DAMAGES, Damage
from .images import IMAGES
from .poking import NotHere

#: What QEMU reads of the images before they are damaged, by name and state.
_GOOD: dict[str, dict[str, bytes]] = {}
#: Images that each kind of damage is done to, at most.
EACH = 2


@dataclass(frozen=True)
class Case:
    """One damage on one image."""

    damage: Damage
    variant: Variant

    @property
    def name(self) -> str:
        return f"{self.damage.name}, {self.variant.name}"

    def damaged(self) -> bytes:
        return self.damage.done(self.variant.make())


@lru_cache
def cases() -> tuple[Case, ...]:
    """The matrix.  Each kind of damage begins with another image, so that all have their turn."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for turn, damage in enumerate(DAMAGES):
        found = 0
        for step in range(len(IMAGES)):
            variant = IMAGES[(turn * 5 + step * 7) % len(IMAGES)]
            try:
                damage.done(variant.make())
            except NotHere:
                continue
            yield Case(damage, variant)
            found += 1
            if found == EACH:
                break


@dataclass
class Seen:
    """A file by QEMU's eyes.  ``errors`` and ``leaks``: None when it cannot be opened or checked;
    ``disks``: the guest bytes by state ("active", "snapshot:ID"), what cannot be read as zeros."""

    errors: int | None
    leaks: int | None
    disks: dict[str, bytes]

    @property
    def shown(self) -> str:
        return "cannot be checked" if self.errors is None else str(self.errors)


def look(path: Path, states: Sequence[str]) -> Seen:
    """What QEMU finds in the file; guest bytes are read as far as they can be."""
    done = qemu_img("check", "--output=json", "-f", "qcow2", path, check=False)
    errors = leaks = None
    if done.returncode in (0, 2, 3):
        said = dict(parsed(done.stdout[done.stdout.index(b"{") :]))
        errors = said.get("corruptions", 0) + said["check-errors"]
        leaks = said.get("leaks", 0)
    return Seen(errors, leaks, disks_of(path, states))


def disks_of(path: Path, states: Sequence[str]) -> dict[str, bytes]:
    """The guest bytes of each state as QEMU reads them, what cannot be read as zeros."""
    return {state: _disk(path, state) for state in states}


def _disk(path: Path, state: str) -> bytes:
    _, _, number = state.partition(":")
    picked = ("-l", f"snapshot.id={number}") if number else ()
    raw = path.with_name("guest.raw")
    raw.unlink(missing_ok=True)
    command = ("convert", "--salvage", "-t", "unsafe", "-f", "qcow2", "-O", "raw", *picked)
    done = qemu_img(*command, path, raw, check=False)
    # A damaged size can be far larger than what any of these images holds.
    found = b""
    if done.returncode == 0:
        with raw.open("rb") as file:
            found = file.read(1 << 24)
    raw.unlink(missing_ok=True)
    return found


def differing(one: bytes, other: bytes) -> list[tuple[int, int]]:
    """(start, end) of the bytes in which they differ; a missing end counts as zeros."""
    length = max(len(one), len(other))
    a = np.frombuffer(one.ljust(length, b"\0"), dtype=np.uint8)
    b = np.frombuffer(other.ljust(length, b"\0"), dtype=np.uint8)
    edges = np.flatnonzero(np.diff(a != b, prepend=False, append=False))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def lost(good: Mapping[str, bytes], now: Mapping[str, bytes]) -> int:
    """Guest bytes of all states that are not what they were before the damage."""
    return sum(end - start for state in good for start, end in differing(good[state], now[state]))


@dataclass
class Result:
    """What became of a case.

    ``refused``: why nothing was done, "" when something was; ``left``: the ids of what needs a
    choice; ``wrong``: what this project did that it must not.
    """

    case: Case
    ours: Seen
    theirs: Seen
    ours_lost: int
    theirs_lost: int
    damaged_lost: int
    refused: str = ""
    applied: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    wrong: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """In one word, for the table."""
        if self.refused:
            return "needs a choice" if "choice" in self.refused else "refused"
        if self.left:
            return "rest needs a choice"
        return "repaired" if self.applied else "nothing found"


def measure(case: Case, folder: Path) -> Result:
    """Damage, repair by both, look, undo."""
    good, damaged = case.variant.make(), case.damaged()
    image = TinyImage(good, BELOW)
    states = ["active", *(f"snapshot:{snapshot[0].decode()}" for snapshot in image.snapshots)]
    for name, content in BELOW.items():
        (folder / name.decode()).write_bytes(content)
    path = folder / "image.qcow2"
    if case.variant.name not in _GOOD:
        path.write_bytes(good)
        _GOOD[case.variant.name] = disks_of(path, states)
    disks = _GOOD[case.variant.name]
    path.write_bytes(damaged)
    before = disks_of(path, states)
    path.write_bytes(damaged)
    qemu_img("check", "-q", "-r", "all", "-f", "qcow2", path, check=False)
    theirs = look(path, states)
    path.write_bytes(damaged)
    plan, refused = _repair(path, folder)
    ours = look(path, states)
    result = Result(
        case,
        ours,
        theirs,
        lost(disks, ours.disks),
        lost(disks, theirs.disks),
        lost(disks, before),
        refused,
    )
    if plan is None:
        if path.read_bytes() != damaged:
            result.wrong.append("refused, and changed the file")
        if refused.startswith("VerificationError"):
            result.wrong.append(refused)
        return result
    facts = plan.outcome.facts
    result.applied = tuple(one["id"] for one in facts["applied"])
    result.left = tuple(one["id"] for one in facts["left"])
    _judge(result, plan, disks, before)
    if plan.switches:
        _undo(result, path, damaged, folder)
    return result


def _repair(path: Path, folder: Path) -> tuple[Plan | None, str]:
    with patch.dict(os.environ, {"XDG_STATE_HOME": str(folder / "state")}):
        try:
            mending = _seen_again(path)
            return apply(os.fspath(path), [RepairImage()], mending=mending).plans[0], ""
        except UsageError as error:
            return None, f"A choice is needed: {error}"
        except QcowError as error:
            return None, f"{type(error).__name__}: {error}"


def _seen_again(path: Path) -> Mending | None:
    """The header that is proposed for a file without one; UsageError when it has to be asked."""
    with open_image(os.fspath(path), format="raw") as file:
        if file.storage.read(0, 4) == b"QFI\xfb":
            return None
        return mending_for(scan_lost(file.storage), {})


def _undo(result: Result, path: Path, damaged: bytes, folder: Path) -> None:
    """Every byte of the damaged file is there again: repairs only append and switch the header."""
    with patch.dict(os.environ, {"XDG_STATE_HOME": str(folder / "state")}):
        try:
            apply(os.fspath(path), [Undo()])
        except QcowError as error:
            result.wrong.append(f"no undo: {type(error).__name__}: {error}")
            return
    now = path.read_bytes()
    if now[: len(damaged)] != damaged:
        places = [start for start, _ in differing(now[: len(damaged)], damaged)][:5]
        result.wrong.append(f"undo left other bytes at {places}")


def _judge(
    result: Result, plan: Plan, good: Mapping[str, bytes], before: Mapping[str, bytes]
) -> None:
    """What may not be: errors that nobody was told of, guest bytes changed beside the ranges."""
    if not result.left and (result.ours.errors != 0):
        result.wrong.append(f"errors afterwards: {result.ours.shown}")
    for state, disk in good.items():
        stated = [r for r in plan.outcome.changed if r.state == state]
        for start, end in differing(disk, result.ours.disks[state]):
            if not _within(start, end, stated) and _touched(
                before[state], result.ours.disks[state], start, end
            ):
                result.wrong.append(f"{state}: {start}-{end} differs, beside what was stated")


def _touched(before: bytes, now: bytes, start: int, end: int) -> bool:
    """Whether what is wrong there became so by the repair, not by the damage."""
    return before[start:end].ljust(end - start, b"\0") != now[start:end].ljust(end - start, b"\0")


def _within(start: int, end: int, ranges: Sequence[GuestRange]) -> bool:
    """Whether the ranges cover all of it."""
    for one in sorted(ranges, key=lambda r: r.start):
        if one.start <= start < one.start + one.length:
            start = one.start + one.length
    return start >= end
