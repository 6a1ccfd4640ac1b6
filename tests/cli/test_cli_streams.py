"""Results to stdout, diagnostics to stderr, and what happens when either goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import pytest

from qcow.errors import QcowError
from qcow.record import replace
from qcowtui.cli import exit_codes
from qcowtui.cli.verbs import info
from qcowtui.samples.builder import ImageBuilder
from tests.support.cli import qcowtui


def _process(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "qcowtui", *(os.fspath(arg) for arg in args)]


@pytest.fixture(scope="module")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image whose map has thousands of entries: more than a pipe holds."""
    builder = ImageBuilder(virtual_size=4096 * 512, cluster_bits=9)
    for number in range(0, 4096, 2):
        builder.data(number, b"x")
    return builder.write(tmp_path_factory.mktemp("scattered") / "disk.qcow2")


def test_a_reader_that_stops_reading_is_no_error(scattered: Path) -> None:
    ours = subprocess.Popen(
        _process("map", "--output=json", scattered), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert ours.stdout is not None
    assert ours.stderr is not None
    assert ours.stdout.read(10) == b'[{ "start"'
    ours.stdout.close()
    said = ours.stderr.read()
    ours.stderr.close()
    assert (ours.wait(60), said) == (exit_codes.BROKEN_PIPE, b"")


@pytest.mark.parametrize("verb", ["info", "map"])
def test_a_full_disk_is_told(verb: str, scattered: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            _process(verb, "--output=json", scattered), stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert done.stderr == b"qcowtui: Could not write the results: No space left on device.\n"


def test_a_closed_stdout_is_told(small: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *_process("info", small)], stderr=subprocess.PIPE
    )
    assert done.returncode == 1
    assert done.stderr == b"qcowtui: Could not write the results: standard output is closed.\n"


def test_a_closed_stderr_is_borne() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *_process("info", "nosuch")], stdout=subprocess.PIPE
    )
    assert (done.returncode, done.stdout) == (1, b"")


def test_names_survive_a_terminal_that_knows_only_ascii(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.snapshot("grün", date=1_750_000_000)
    image = builder.write(tmp_path / "bäume.qcow2")
    done = subprocess.run(
        _process("info", image),
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0
    assert b"gr\\xfcn" in done.stdout
    missing = subprocess.run(
        _process("info", tmp_path / "nö.qcow2"),
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert missing.returncode == 1
    assert b"n\\xf6.qcow2': No such file" in missing.stderr


def test_diagnostics_follow_the_results_they_belong_to(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=4 << 20)
    builder.data(0, b"x")
    builder.compressed(1, b"y")
    image = builder.write(tmp_path / "disk.qcow2")
    done = subprocess.run(
        _process("map", image), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("Offset")
    assert lines[1].startswith("0 ")
    assert lines[2].startswith("qcowtui: File contains external, encrypted or compressed")


def _failing(error: BaseException) -> AbstractContextManager[object]:
    def run(*_: object) -> int:
        raise error

    return mock.patch.object(info, "VERB", replace(info.VERB, run=run))


def test_what_should_never_happen_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QCOWTUI_DEBUG", raising=False)
    with _failing(KeyError("\x1b[2J")):
        ended = qcowtui("info", "x")
    assert (ended.code, ended.stdout) == (1, b"")
    said = ended.stderr.decode()
    assert said.startswith("qcowtui: Unexpected failure (KeyError: '\\\\x1b[2J').")
    assert "QCOWTUI_DEBUG=1" in said
    assert said.count("\n") == 1
    assert "Traceback" not in said


def test_the_traceback_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOWTUI_DEBUG", "1")
    with _failing(ValueError("a\x1b[2Jb")):
        ended = qcowtui("info", "x")
    assert ended.code == 1
    said = ended.stderr.decode()
    assert "Traceback (most recent call last):" in said
    assert said.replace("\n", "").isprintable()
    assert "a\\x1b[2Jb" in said


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, b"qcowtui: Interrupted.\n"),
        (MemoryError(), 1, b"qcowtui: There is not enough memory for this.\n"),
        (QcowError("So it is."), 1, b"qcowtui: So it is.\n"),
    ],
)
def test_other_ends(error: BaseException, code: int, said: bytes) -> None:
    with _failing(error):
        ended = qcowtui("info", "x")
    assert (ended.code, ended.stdout, ended.stderr) == (code, b"", said)
