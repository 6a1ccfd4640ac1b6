"""Small files that last."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from qcow.errors import NoSpaceError, NotRegularFile, StorageError
from qcow.storage.small_files import (
    read_small_file,
    remove_small_file,
    sync_folder,
    write_small_file,
)


class TestWriting:
    def test_created_and_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        for data in (b"one", b"", b"x" * 100_000):
            write_small_file(path, data)
            assert path.read_bytes() == data
        assert os.listdir(tmp_path) == ["state"]

    @pytest.mark.parametrize("mode", [0o600, 0o644])
    def test_permissions(self, tmp_path: Path, mode: int) -> None:
        old = os.umask(0o077)
        try:
            write_small_file(tmp_path / "state", b"x", mode)
        finally:
            os.umask(old)
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == mode

    def test_a_link_is_replaced_not_followed(self, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        victim.write_bytes(b"mine")
        (tmp_path / "state").symlink_to(victim)
        write_small_file(tmp_path / "state", b"x")
        assert victim.read_bytes() == b"mine"
        assert not (tmp_path / "state").is_symlink()

    def test_only_where_there_is_none(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        write_small_file(path, b"first", replace=False)
        for _ in range(2):
            with pytest.raises(StorageError, match="File exists"):
                write_small_file(path, b"second", replace=False)
            assert path.read_bytes() == b"first"
            path.unlink()
            path.symlink_to(tmp_path / "nowhere")
            path.unlink()
            path.write_bytes(b"first")

    def test_durable_before_it_has_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done: list[str] = []

        def noting(name: str) -> None:
            real = getattr(os, name)

            def call(*given: object, **options: object) -> object:
                folder = name == "fsync" and stat.S_ISDIR(os.fstat(int(str(given[0]))).st_mode)
                done.append(f"{name} folder" if folder else name)
                return real(*given, **options)

            monkeypatch.setattr(os, name, call)

        for name in ("write", "fsync", "rename", "unlink"):
            noting(name)
        write_small_file(tmp_path / "a", b"x")
        remove_small_file(tmp_path / "a")
        expected = ["write", "fsync", "rename", "fsync folder", "unlink", "fsync folder"]
        assert done == expected

    @pytest.mark.parametrize("replace", [True, False])
    @pytest.mark.parametrize("failing", ["write", "fsync"])
    def test_a_failure_leaves_what_was_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, replace: bool
    ) -> None:
        path = tmp_path / "state"
        if replace:
            path.write_bytes(b"old")

        def fail(*given: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, failing, fail)
            with pytest.raises(NoSpaceError, match="No space left"):
                write_small_file(path, b"new", replace=replace)
        assert os.listdir(tmp_path) == (["state"] if replace else [])
        if replace:
            assert path.read_bytes() == b"old"

    def test_a_long_name(self, tmp_path: Path) -> None:
        path = tmp_path / ("n" * 255)
        write_small_file(path, b"x")
        assert path.read_bytes() == b"x"

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="No such file"):
            write_small_file(tmp_path / "no" / "state", b"x")
        with pytest.raises(StorageError, match="No such file"):
            sync_folder(tmp_path / "no")

    def test_in_the_working_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        write_small_file("state", b"x")
        remove_small_file("state")
        assert os.listdir(tmp_path) == []


class TestReading:
    def test_what_was_written(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        assert read_small_file(path, 10) is None
        write_small_file(path, b"0123456789")
        assert read_small_file(path, 10) == b"0123456789"
        with pytest.raises(StorageError, match="longer than 9 bytes"):
            read_small_file(path, 9)

    def test_other_kinds_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        (tmp_path / "link").symlink_to("file")
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "folder").mkdir()
        for name, kind in (("link", "symbolic link"), ("fifo", "FIFO"), ("folder", "directory")):
            with pytest.raises(NotRegularFile, match=kind):
                read_small_file(tmp_path / name, 10)

    def test_removing_what_is_not_there(self, tmp_path: Path) -> None:
        remove_small_file(tmp_path / "no")
        with pytest.raises(StorageError):
            remove_small_file(tmp_path)
