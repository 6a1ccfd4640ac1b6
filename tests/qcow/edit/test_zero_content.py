"""Clusters of zeros: told from others by content, and never taken on trust where they are new."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcow.actions.amend import Amend
from qcow.actions.amend_options import AmendOptions
from qcow.edit.apply import apply
from qcow.edit.guard import WriteGuard
from qcow.edit.zero_content import hold_zeros
from qcow.errors import VerificationError
from qcow.storage.local import open_local
from tests.support.edited import assert_sound, contents
from tests.support.images import patch
from tests.support.qemu import qemu_img, qemu_io


@pytest.mark.parametrize("bits", [9, 12, 16])
def test_holes_zeros_and_data(tmp_path: Path, bits: int) -> None:
    path, size = tmp_path / "f", 1 << bits
    marked = {3, 4, 9, 40}
    with path.open("wb") as file:
        file.truncate(64 * size)
        file.seek(20 * size)
        file.write(bytes(8 * size))  # zeros that are stored
        for number in marked:
            file.seek(number * size + size - 1)
            file.write(b"\1")
    asked = np.array([9, 3, 63, 0, 22, 40, 5, 3, 21], dtype=np.int64)
    with open_local(path) as storage:
        found = hold_zeros(storage, asked, bits).tolist()
        assert hold_zeros(storage, asked[:0], bits).tolist() == []
    assert found == [number not in marked for number in asked.tolist()]


@pytest.mark.oracle
def test_a_cluster_that_should_be_zeros_and_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last gate before the switch finds old data in what is to read as zeros."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    base, path = tmp_path / "base.qcow2", tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", base, "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path)
    qemu_io(path, "write -P 5 0 512k")
    old = path.read_bytes()
    qemu_io(path, "discard 0 512k", "write -z -u 512k 128k")
    for at in range(0, len(old), 65536):  # freed clusters may keep their bytes; these do
        if old[at : at + 65536] == b"\5" * 65536:
            patch(path, at, old[at : at + 65536])
    before, views = path.read_bytes(), contents(path)
    with monkeypatch.context() as wrong:
        wrong.setattr(WriteGuard, "punch", lambda *_: None)
        with pytest.raises(VerificationError):
            apply(str(path), [Amend(AmendOptions(compat="0.10"))])
    assert path.read_bytes()[:512] == before[:512]
    apply(str(path), [Amend(AmendOptions(compat="0.10"))])
    assert_sound(path)
    assert contents(path) == views
