"""Who is asked before something is lost: a person at a terminal, and nobody else."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.smoke.test_terminal import terminal
from tests.support.images import small_builder

from .asking import as_json, as_text

#: Command lines that lose something, with what has to be typed.
LOSING = {
    "snapshot -d": (["snapshot", "-d", "first"], "y"),
    "snapshot -a": (["snapshot", "-a", "first", "--discard-current"], "y"),
    "discard": (["discard", "{}", "0", "8k"], "y"),
    "reclaim": (["reclaim"], "yes"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    image = small_builder(cluster_bits=12).write(tmp_path / "disk.qcow2")
    as_text("snapshot", "-c", "second", image)  # so that there is something to reclaim
    return tmp_path


def _line(words: list[str]) -> list[str]:
    return [w.replace("{}", "disk.qcow2") for w in words] + ["disk.qcow2"] * ("{}" not in words)


@pytest.mark.parametrize("what", LOSING)
def test_a_person_is_asked_and_no_is_the_default(what: str, folder: Path) -> None:
    words, answer = LOSING[what]
    before = (folder / "disk.qcow2").read_bytes()
    for typed in ("", "n", "yes"[: len(answer) - 1], "nonsense"):
        with terminal(*_line(words), folder=folder) as screen:
            shown = screen.until("go ahead: " if answer == "yes" else "[y/N] ")
            assert "Loses " in shown
            screen.press(f"{typed}\n")
            screen.until("Nothing was changed.")
            assert screen.ended() == 1
    assert (folder / "disk.qcow2").read_bytes() == before
    with terminal(*_line(words), folder=folder) as screen:
        screen.until("go ahead: " if answer == "yes" else "[y/N] ")
        screen.press(f"{answer}\n")
        screen.until("Done")
        assert screen.ended() == 0
    assert (folder / "disk.qcow2").read_bytes() != before


def test_the_end_of_the_input_is_a_no(folder: Path) -> None:
    with terminal("snapshot", "-d", "1", "disk.qcow2", folder=folder) as screen:
        screen.until("[y/N] ")
        screen.press("\x04")
        screen.until("Nothing was changed.")
        assert screen.ended() == 1


def test_ctrl_c_at_the_question(folder: Path) -> None:
    before = (folder / "disk.qcow2").read_bytes()
    with terminal("snapshot", "-d", "1", "disk.qcow2", folder=folder) as screen:
        screen.until("[y/N] ")
        screen.process.send_signal(signal.SIGINT)
        screen.until("Interrupted")
        assert screen.ended() == 130
    assert (folder / "disk.qcow2").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["snapshot", "-c", "x", "disk.qcow2"],
        ["snapshot", "-a", "first", "disk.qcow2"],
        ["snapshot", "-d", "first", "disk.qcow2", "--yes"],
        ["undo", "disk.qcow2"],
        ["reclaim", "-y", "disk.qcow2"],
    ],
    ids=" ".join,
)
def test_where_nothing_is_lost_or_yes_is_said_nobody_is_asked(
    words: list[str], folder: Path
) -> None:
    with terminal(*words, folder=folder) as screen:
        screen.until("Done")
        assert screen.ended() == 0
    assert b"ahead" not in screen.written


@pytest.mark.parametrize("what", LOSING)
def test_a_program_is_never_asked(what: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qcowtui", *_line(LOSING[what][0])],
        cwd=folder,
        input=b"",
        capture_output=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Done" in done.stdout


def test_a_plan_that_is_out_of_date_is_not_carried_out(folder: Path) -> None:
    with terminal("snapshot", "-d", "first", "disk.qcow2", folder=folder) as screen:
        screen.until("[y/N] ")
        as_text("snapshot", "-c", "meanwhile", folder / "disk.qcow2")
        screen.press("y\n")
        screen.until("is no longer the image the plan was made on")
        assert screen.ended() == 1
    assert len(as_json("snapshot", "-l", folder / "disk.qcow2")) == 3
