"""Creating an image as a library does: nothing half done under the name, whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcow.actions.create import create, plan_create
from qcow.actions.create_options import CreateOptions
from qcow.errors import Cancelled, ChangedError, StorageError, UsageError, VerificationError
from qcow.image.image import Image
from qcow.inspect.check import check
from qcow.jobs import CancelToken, Progress
from qcow.layout.new_image import NewImage
from qcow.storage.creating import NewFile
from qcow.storage.local import open_local

SIZE = 64 << 20


def test_plan_writes_nothing_and_tells_what_create_does(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    for preallocation in ("off", "metadata", "falloc", "full"):
        options = CreateOptions(size=SIZE, preallocation=preallocation)
        plan = plan_create(str(path), options)
        assert list(tmp_path.iterdir()) == []
        assert create(str(path), options) == plan
        assert path.stat().st_size == plan.length
        assert (plan.reserved == SIZE) == (preallocation == "falloc")
        assert (plan.written > SIZE) == (preallocation == "full")
        allocated = path.stat().st_blocks * 512
        assert (allocated >= SIZE) == (preallocation in ("falloc", "full"))
        with Image(open_local(path)) as image:
            assert check(image).exit_code == 0
        path.unlink()


@pytest.mark.parametrize("there", [False, True])
def test_cancelled_in_the_middle(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "a.qcow2"
    if there:
        path.write_bytes(b"something else")
    before = sorted(tmp_path.iterdir())
    cancel = CancelToken()
    seen: list[Progress] = []

    def progress(now: Progress) -> None:
        seen.append(now)
        cancel.cancel()

    options = CreateOptions(size=SIZE, preallocation="full")
    with pytest.raises(Cancelled):
        create(str(path), options, progress=progress, cancel=cancel)
    assert seen[0].phase == "writing zeros"
    assert sorted(tmp_path.iterdir()) == before
    assert not there or path.read_bytes() == b"something else"


def test_what_fails_its_check_is_not_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = NewImage.tables

    def broken(self: NewImage) -> Iterator[tuple[int, memoryview]]:
        *tables, (offset, block) = real(self)
        yield from tables
        wrong = bytearray(block)
        wrong[1] = 2
        yield offset, memoryview(wrong)

    monkeypatch.setattr(NewImage, "tables", broken)
    with pytest.raises(VerificationError, match="was not put in place"):
        create(str(tmp_path / "a.qcow2"), CreateOptions(size=SIZE, data_file=str(tmp_path / "d")))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_comes_up_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with NewFile(str(path)) as new:
        new.file.write(0, b"ours")
        path.write_bytes(b"theirs")
        with pytest.raises(ChangedError, match="stays as it is"):
            new.publish(replace=False)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"theirs")]


def test_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on FAT: the name is taken by renaming, and only if it is free."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a"
    for expected in (b"first", b"first"):
        with NewFile(str(path)) as new:
            new.file.write(0, b"first" if not path.exists() else b"second")
            if path.exists():
                with pytest.raises(ChangedError):
                    new.publish(replace=False)
            else:
                new.publish(replace=False)
        assert path.read_bytes() == expected
    assert list(tmp_path.iterdir()) == [path]


def test_the_umask_holds_and_an_old_mode_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    old = os.umask(0o027)
    try:
        create(path, CreateOptions(size=512, format="raw"))
    finally:
        os.umask(old)
    assert os.stat(path).st_mode & 0o7777 == 0o640
    os.chmod(path, 0o600)
    create(path, CreateOptions(size=1024, format="raw"))
    assert (os.stat(path).st_mode & 0o7777, os.stat(path).st_size) == (0o600, 1024)


def test_impossible_places(tmp_path: Path) -> None:
    for name, kind in (("no/a", StorageError), ("a\0b", StorageError), ("", StorageError)):
        with pytest.raises(kind, match="Could not"):
            create(str(tmp_path / name) if name else "", CreateOptions(size=512, format="raw"))
    with pytest.raises(UsageError, match="too large"):
        plan_create(str(tmp_path / "a"), CreateOptions(size=1 << 60))
    with pytest.raises(UsageError, match="1023"):
        plan_create(
            str(tmp_path / "a"),
            CreateOptions(size=512, backing_file="x" * 1024, backing_fmt="raw", unsafe=True),
        )
    assert list(tmp_path.iterdir()) == []
