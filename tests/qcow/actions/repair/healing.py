"""What every repair must do: keep its plan, heal by QEMU's word, keep the content, be undone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import qcow
from qcow.actions.history import Undo
from qcow.actions.repair import RepairImage, diagnose
from qcow.edit.apply import apply, plan
from qcow.edit.plan import Plan
from qcow.image.image import Image
from tests.support.edited import contents
from tests.support.poking import make
from tests.support.qemu import qemu_img, qemu_io


def golden(path: Path, options: str = "", *, snapshots: bool = True) -> Path:
    """64 MiB with data at both ends, and two snapshots that differ from it."""
    make(path, "64M", "write -P 1 0 3M", "write -P 2 40M 1M", options=options)
    if snapshots:
        qemu_img("snapshot", "-c", "first one", path)
        qemu_io(path, "write -P 3 1M 1M")
        qemu_img("snapshot", "-c", "second", path)
    qemu_io(path, "write -P 4 2M 512k")
    return path


def digest(path: Path, length: int | None = None) -> str:
    """SHA-256 of the file's first bytes, of all of them without ``length``."""
    with path.open("rb") as file:
        return hashlib.sha256(file.read(-1 if length is None else length)).hexdigest()


def offered(path: Path, choices: dict[str, str] | None = None) -> dict[str, str | None]:
    """The default of each remedy by its id."""
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        _, remedies = diagnose(image, answers=choices or {})
        return {remedy.id: remedy.default for remedy in remedies}


def repair(path: Path, choices: dict[str, str] | None = None) -> Plan:
    """Repair as planned; the plan leaves the file alone."""
    action = RepairImage(choices or {})
    before = digest(path)
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        expected = plan(action, image)
    assert digest(path) == before
    (done,) = apply(os.fspath(path), [action]).plans
    assert done.outcome == expected.outcome
    return done


def assert_healed(
    path: Path,
    wanted: dict[str, bytes],
    choices: dict[str, str] | None = None,
    *,
    without: Iterable[str] = (),
    check: tuple[int, ...] = (0,),
) -> Plan:
    """Repair ``path``; every state is as in ``wanted`` (all of it but ``without``); undo works."""
    length, before = path.stat().st_size, digest(path)
    done = repair(path, choices)
    found = qemu_img("check", path, check=False)
    assert found.returncode in check, (found.stdout + found.stderr).decode()
    left = {state: data for state, data in wanted.items() if state not in without}
    assert contents(path) == left
    apply(os.fspath(path), [Undo()])
    assert digest(path, length) == before
    return done
