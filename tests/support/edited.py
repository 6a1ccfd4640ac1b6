"""What an edited image must have in common with the one QEMU makes by the same command."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import qcow
from qcow.edit.apply import Action, apply, plan
from qcow.edit.bitmap_data import dirty_ranges
from qcow.edit.plan import Plan
from qcow.image.image import Image

from .live import nbd_server
from .qemu import guest_bytes, qemu_img

#: Members of ``info`` that differ for two files with the same content.
_ACCIDENTAL = ("filename", "actual-size", "children")


def info(path: Path) -> dict[str, Any]:
    """``qemu-img info`` without what two equal images do not share."""
    found: dict[str, Any] = json.loads(qemu_img("info", "--output=json", path).stdout)
    for snapshot in found.get("snapshots", ()):
        snapshot.pop("vm-clock-sec", None)
    return {key: value for key, value in found.items() if key not in _ACCIDENTAL}


def assert_sound(path: Path) -> None:
    """QEMU's check finds neither errors nor leaks."""
    done = qemu_img("check", path, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def contents(path: Path) -> dict[str, bytes]:
    """Every guest byte of the active state ("") and of each snapshot, by ID, as QEMU reads it."""
    found = {"": guest_bytes(path)}
    for snapshot in info(path).get("snapshots", ()):
        found[snapshot["id"]] = guest_bytes(path, snapshot["id"])
    return found


def copied(path: Path, name: str) -> Path:
    """A copy beside ``path``, holes kept."""
    target = path.with_name(name)
    subprocess.run(["cp", "--sparse=always", path, target], check=True)
    return target


def apply_as_planned(path: Path, *actions: Action) -> list[Plan]:
    """Plan each action alone, apply it, and see that the plan told the truth."""
    done = []
    for action in actions:
        with qcow.open(path) as image:
            assert isinstance(image, Image)
            expected = plan(action, image)
        (made,) = apply(os.fspath(path), [action]).plans
        for number in ("written", "freed", "switches", "journal", "length_after"):
            assert getattr(made, number) == getattr(expected, number), number
        assert made.freed_ranges == expected.freed_ranges
        assert made.written_ranges == expected.written_ranges
        assert made.outcome == expected.outcome
        done.append(made)
    return done


def dirty(path: Path, name: str) -> list[tuple[int, int]]:
    """(start, end) of the stretches of marked guest bytes, as this project reads the bitmap."""
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        entry = next(entry for entry in image.bitmaps if entry.name == name.encode())
        pieces = [
            pair
            for ranges in dirty_ranges(image, entry)
            for pair in zip(ranges.start.tolist(), ranges.end.tolist(), strict=True)
        ]
    return _joined(pieces)


def dirty_by_qemu(path: Path, name: str) -> list[tuple[int, int]]:
    """The same as qemu-nbd exports it; ``path`` stays as it is."""
    served = copied(path, "served.qcow2")
    try:
        qemu_img("bitmap", "--disable", served, name)  # an enabled one is not exported read-only
        with nbd_server(served, "-r", "-B", name):
            mapped = qemu_img(
                "map",
                "--output=json",
                "--image-opts",
                f"driver=nbd,server.type=unix,server.path={served}.sock,"
                f"x-dirty-bitmap=qemu:dirty-bitmap:{name}",
            )
    finally:
        served.unlink()
        with contextlib.suppress(FileNotFoundError):
            served.with_name(served.name + ".sock").unlink()
    # The context answers 1 for dirty, which qemu-img takes for "not data".
    found = json.loads(mapped.stdout)
    return _joined([(e["start"], e["start"] + e["length"]) for e in found if not e["data"]])


def _joined(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in pieces:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def duplicate(folder: Path, name: str) -> Path:
    """A copy of a folder of images beside it, for what refers to its neighbours."""
    target = folder.with_name(name)
    shutil.copytree(folder, target)
    return target
