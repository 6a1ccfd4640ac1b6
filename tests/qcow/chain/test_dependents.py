"""Which images need a file: found by where their names lead, without opening anything else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qcow.chain import dependents
from qcow.errors import Cancelled, StorageError
from qcow.jobs import CancelToken, Progress
from qcowtui.samples.builder import ImageBuilder
from tests.oracle.catalogue.base import overlay, written
from tests.support.live import nbd_server
from tests.support.opens import opened_files
from tests.support.qemu import qemu_img


def _image(path: Path, below: str | bytes | None = None) -> Path:
    builder = ImageBuilder(virtual_size=1 << 20)
    if below is not None:
        builder.backing(below)
    return builder.write(path)


def _found(path: Path, *folders: Path) -> list[tuple[str, str, int]]:
    search = dependents(path, folders)
    return [
        (os.path.basename(found.path), os.path.basename(found.parent), found.distance)
        for found in search.found
    ]


def test_direct_ones_and_those_above_them(tmp_path: Path) -> None:
    vms = tmp_path / "vms"
    vms.mkdir()
    base = _image(tmp_path / "base")
    _image(tmp_path / "web-a", "base")
    _image(tmp_path / "web-b", str(base))
    _image(tmp_path / "other", "web-x")
    _image(vms / "test", "../web-a")
    _image(vms / "nested", "./test")
    (tmp_path / "notes.txt").write_text("base")
    with opened_files() as opened:
        search = dependents(base, [tmp_path, vms])
        assert "notes.txt" in opened.names()  # its first bytes say that it is no image
    assert search.images == 6
    assert search.unreadable == ()
    assert all(found.purpose == "backing file" for found in search.found)
    assert _found(base, tmp_path, vms) == [
        ("web-a", "base", 1),
        ("web-b", "base", 1),
        ("test", "web-a", 2),
        ("nested", "test", 3),
    ]
    assert _found(base, tmp_path) == [("web-a", "base", 1), ("web-b", "base", 1)]
    assert _found(vms / "nested", tmp_path, vms) == []


def test_other_names_of_the_file_count(tmp_path: Path) -> None:
    base = _image(tmp_path / "base")
    os.link(base, tmp_path / "hard")
    (tmp_path / "soft").symlink_to("base")
    _image(tmp_path / "a", "hard")
    _image(tmp_path / "b", "soft")
    _image(tmp_path / "c", "../" + tmp_path.name + "/base")
    assert [name for name, _, _ in _found(tmp_path / "soft", tmp_path)] == ["a", "b", "c"]
    assert [name for name, _, _ in _found(base, tmp_path, tmp_path)] == ["a", "b", "c"]


def test_circles_end(tmp_path: Path) -> None:
    _image(tmp_path / "a", "b")
    _image(tmp_path / "b", "a")
    _image(tmp_path / "me", "me")
    assert _found(tmp_path / "a", tmp_path) == [("b", "a", 1)]
    assert _found(tmp_path / "me", tmp_path) == []


def test_hostile_candidates_are_passed_over(tmp_path: Path) -> None:
    base = _image(tmp_path / "base")
    _image(tmp_path / "a", b"json:{}")
    _image(tmp_path / "b", b"bas\x00e")
    _image(tmp_path / "c", b"\xff\xfe")
    (tmp_path / "d").write_bytes(b"QFI\xfb")
    os.mkfifo(tmp_path / "fifo")
    _image(tmp_path / "good", "base")
    with opened_files() as opened:
        search = dependents(base, [tmp_path])
        assert "fifo" not in opened.names()
    assert [os.path.basename(found.path) for found in search.found] == ["good"]


def test_a_base_that_is_gone_has_no_dependents(tmp_path: Path) -> None:
    _image(tmp_path / "a", "gone")
    search = dependents(tmp_path / "gone", [tmp_path])
    assert (search.found, search.images) == ((), 1)
    with pytest.raises(StorageError, match="nowhere"):
        dependents(tmp_path / "a", [tmp_path / "nowhere"])


def test_limit_progress_and_cancel(tmp_path: Path) -> None:
    base = _image(tmp_path / "base")
    for number in range(20):
        _image(tmp_path / f"{number:02}", "base")
    seen: list[Progress] = []
    assert len(dependents(base, [tmp_path], progress=seen.append).found) == 20
    assert (seen[-1].done, seen[-1].total) == (21, 21)
    assert dependents(base, [tmp_path], limit=5).images == 5
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        dependents(base, [tmp_path], cancel=cancel)


@pytest.mark.oracle
def test_live_overlays_and_data_files_are_found(tmp_path: Path) -> None:
    base = written(tmp_path / "base.qcow2", "2M")
    live = overlay(tmp_path / "live.qcow2", "base.qcow2", "qcow2")
    qemu_img(
        "create", "-q", "-f", "qcow2", "-o", "data_file=disk.data", "disk.qcow2", "1M",
        cwd=tmp_path,
    )  # fmt: skip
    with nbd_server(live):
        assert _found(base, tmp_path) == [("live.qcow2", "base.qcow2", 1)]
    (found,) = dependents(tmp_path / "disk.data", [tmp_path]).found
    assert (os.path.basename(found.path), found.purpose) == ("disk.qcow2", "data file")
