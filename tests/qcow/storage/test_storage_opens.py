"""The proof that nothing was opened is only worth something if it would notice."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.opens import opened_files


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    image, other = tmp_path / "image", tmp_path / "other"
    image.write_bytes(b"1")
    other.write_bytes(b"2")
    return image, other


def test_every_way_to_open_is_noticed(two: tuple[Path, Path]) -> None:
    image, other = two
    ways: dict[str, Callable[[], object]] = {
        "open": lambda: open(other).close(),
        "bytes": lambda: open(os.fsencode(other)).close(),
        "Path": lambda: other.read_bytes(),
        "os.open": lambda: os.close(os.open(other, os.O_RDONLY)),
        "O_PATH": lambda: os.close(os.open(other, os.O_PATH)),
        "another thread": lambda: _in_thread(other.read_bytes),
    }
    for name, way in ways.items():
        with opened_files() as opened:
            image.read_bytes()
            way()
        assert opened.besides(image) == [str(other)], name
        assert opened.names() == ["image", "other"]


def _in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_below_a_folder_the_last_component_shows(two: tuple[Path, Path]) -> None:
    image, other = two
    with opened_files() as opened:
        folder = os.open(other.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.close(os.open("other", os.O_RDONLY, dir_fd=folder))
        os.close(folder)
    assert opened.names() == ["other"]
    assert len(opened.besides(image)) == 1


def test_only_while_the_block_runs(two: tuple[Path, Path]) -> None:
    image, other = two
    with opened_files() as opened:
        with opened_files() as inner:
            image.read_bytes()
        other.read_bytes()
    other.read_bytes()
    assert opened.names() == ["image", "other"]
    assert inner.names() == ["image"]


def test_a_file_that_is_not_there_was_still_asked_for(tmp_path: Path) -> None:
    with opened_files() as opened, pytest.raises(FileNotFoundError):
        (tmp_path / "absent").read_bytes()
    assert opened.names() == ["absent"]


def test_code_is_left_out_but_not_what_only_looks_like_it(tmp_path: Path) -> None:
    posing = tmp_path / "posing.py"
    posing.write_text("")
    with opened_files() as opened:
        Path(subprocess.__file__).read_bytes()
        Path(__file__).read_bytes()
        posing.read_bytes()
    assert opened.names() == ["posing.py"]


def test_an_import_does_not_count() -> None:
    code = (
        "from tests.support.opens import opened_files\n"
        "with opened_files() as opened:\n"
        "    import sqlite3, qcow.storage.gate\n"
        "print(opened.paths)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=root, check=True)
    assert done.stdout.decode().strip() == "[]"
