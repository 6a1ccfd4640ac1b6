"""What the history says after a change that kept no way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcow.actions.snapshot import SnapshotCreate, SnapshotRename
from qcow.edit.apply import apply
from qcow.edit.editor import refcount_digest
from qcow.edit.history import History
from qcow.errors import QcowError
from qcow.image.image import Image
from qcow.opening import open as open_image
from tests.support.images import small_builder


def _history(path: Path) -> History:
    with open_image(str(path)) as image:
        assert isinstance(image, Image)
        return History.load(str(path), image.storage, lambda: refcount_digest(image))


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "disk.qcow2"
    small_builder().write(path)
    return path


def test_the_history_says_that_nobody_else_changed_the_image(image: Path) -> None:
    apply(str(image), [SnapshotCreate("one")])
    assert _history(image).entries
    apply(str(image), [SnapshotRename("one", "two")], keep_history=False)
    history = _history(image)
    assert not history.entries
    assert [note.reason for note in history.notes] == [
        "it was changed without keeping a way back, as was asked for"
    ]


def test_a_change_that_fails_leaves_undo_as_it_was(image: Path) -> None:
    apply(str(image), [SnapshotCreate("one")])
    with pytest.raises(QcowError):
        apply(str(image), [SnapshotRename("none", "two")], keep_history=False)
    history = _history(image)
    assert len(history.entries) == 1
    assert not history.notes
