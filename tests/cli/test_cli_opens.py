"""Which files a verb opens: FILE, and what the following policy lets it open besides."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import qcowtui
from tests.support.images import small_builder
from tests.support.opens import opened_files

#: These never open a second file, whatever they are asked.
CLOSED = [
    ("info",),
    ("check",),
    ("audit",),
    ("header",),
    ("space",),
    ("clusters",),
    ("fragmentation",),
    ("snapshot", "-l"),
    (),
]
#: These follow inside the image's own folder, and further with --follow.
FOLLOWING = [
    ("info", "--backing-chain"),
    ("map",),
    ("map", "--output=json"),
    ("read", "--output=hex", "--length=1M"),
    ("measure", "-O", "qcow2"),
    ("chain",),
]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """An image in a folder of its own whose backing file lies in the one above."""
    folder = tmp_path / "images"
    folder.mkdir()
    small_builder(snapshot=False).write(tmp_path / "base.qcow2")
    top = small_builder()
    top.forget(0, 8)
    top.backing("../base.qcow2", "qcow2")
    return top.write(folder / "top.qcow2")


@pytest.mark.parametrize("argv", CLOSED, ids=" ".join)
def test_verbs_that_look_at_one_file_open_one(argv: tuple[str, ...], overlay: Path) -> None:
    with opened_files() as opened:
        qcowtui(*argv, overlay)
    assert overlay.name in opened.names()
    assert opened.besides(overlay) == []


@pytest.mark.parametrize("argv", FOLLOWING, ids=" ".join)
def test_verbs_that_follow_do_so_in_the_folder(argv: tuple[str, ...], overlay: Path) -> None:
    with opened_files() as opened:
        ended = qcowtui(*argv, overlay)
    assert ended.code == (1 if argv == ("map",) else 0)  # compressed clusters: no table of them
    assert set(opened.names()) == {"top.qcow2", "base.qcow2"}


@pytest.mark.parametrize("argv", FOLLOWING, ids=" ".join)
def test_outside_the_folder_a_grant_is_needed(argv: tuple[str, ...], outside: Path) -> None:
    with opened_files() as opened:
        ended = qcowtui(*argv, outside)
    assert ended.code == 1
    assert b"--follow" in ended.stderr + ended.stdout
    assert opened.besides(outside) == []
    with opened_files() as opened:
        ended = qcowtui(*argv, "--follow", outside)
    assert ended.code == (1 if argv == ("map",) else 0)
    assert set(opened.names()) == {"top.qcow2", "base.qcow2"}


def test_compare_needs_the_grant_too(outside: Path) -> None:
    ended = qcowtui("compare", outside, outside)
    assert (ended.code, ended.stdout) == (2, b"")
    assert b"--follow" in ended.stderr
    assert qcowtui("compare", "--follow", outside, outside).code == 0


def test_diff_reads_tables_of_its_own_file_only(outside: Path) -> None:
    states = ("snapshot:first", "active")
    with opened_files() as opened:
        assert qcowtui("diff", outside, *states).code == 0
    assert opened.besides(outside) == []
    ended = qcowtui("diff", outside, "layer:0", "layer:1")
    assert ended.code == 1
    assert b"--follow" in ended.stderr
    assert qcowtui("diff", "--follow", outside, "layer:0", "layer:1").code == 0


def test_diff_of_layers_follows_in_the_folder(overlay: Path) -> None:
    ended = qcowtui("diff", "--output=json", overlay, "layer:0", "layer:1")
    assert ended.stdout == b'[{ "start": 65536, "length": 65536}]\n'


def test_a_format_that_is_not_stated_is_not_guessed(tmp_path: Path) -> None:
    small_builder(snapshot=False).write(tmp_path / "base.qcow2")
    top = small_builder(snapshot=False)
    top.forget(0, 8)
    top.backing("base.qcow2", None)
    image = top.write(tmp_path / "top.qcow2")
    ended = qcowtui("read", "--length=512", image)
    assert (ended.code, ended.stdout) == (1, b"")
    assert b"--follow" in ended.stderr
    assert qcowtui("read", "--length=512", "--follow", image).code == 0
