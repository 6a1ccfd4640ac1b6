"""The program as a user starts it, in a real pseudo terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest

from qcowtui.samples.demo_set import write_demo_set

_PATIENCE = 60.0


class Terminal:
    """A program in a pseudo terminal, and the screen it draws."""

    def __init__(
        self, process: subprocess.Popen[bytes], master: int, size: tuple[int, int]
    ) -> None:
        self.process = process
        self._master = master
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""

    @property
    def text(self) -> str:
        return "\n".join(self._screen.display)

    def until(self, said: str) -> str:
        """Read until ``said`` is on the screen; all that is on it."""
        end = time.monotonic() + _PATIENCE
        while said not in self.text:
            assert time.monotonic() < end, self.text
            self._read(0.2)
        return self.text

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def ended(self) -> int:
        """Wait for the end; the exit code."""
        end = time.monotonic() + _PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < end, self.text
            self._read(0.1)
        self._read(0.1)
        return self.process.returncode

    def resize(self, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def _read(self, seconds: float) -> None:
        if select.select([self._master], [], [], seconds)[0]:
            with contextlib.suppress(OSError):  # the other end is gone
                data = os.read(self._master, 1 << 16)
                self.written += data
                self._stream.feed(data)


@contextmanager
def terminal(
    *arguments: str, folder: Path, size: tuple[int, int] = (100, 30), **environment: str
) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    surroundings = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("TEXTUAL", "NO_COLOR", "COLUMNS", "LINES"))
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "qcowtui", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        start_new_session=True,
        env={
            **surroundings,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            **environment,
        },
    )
    os.close(slave)
    try:
        yield Terminal(process, master, size)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("demo")
    write_demo_set(made)
    return made


def restored(terminal: Terminal) -> bool:
    """Whether the last word on the alternate screen and on the cursor is to put them back."""
    written = terminal.written
    left = written.rfind(b"\x1b[?1049l") > written.rfind(b"\x1b[?1049h") > -1
    return left and written.rfind(b"\x1b[?25h") > written.rfind(b"\x1b[?25l")


def test_starts_draws_follows_the_window_and_leaves(folder: Path) -> None:
    with terminal("mail-leaks.qcow2", folder=folder) as app:
        app.until("LEAKS 32")
        app.press("n")
        app.until("leaked · owner nobody")
        app.resize(140, 40)
        app.until("6 Findings")
        app.press("q")
        assert app.ended() == 3
        assert restored(app)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(folder: Path, number: signal.Signals) -> None:
    with terminal("web01.qcow2", folder=folder) as app:
        app.until("No metadata errors found")
        app.process.send_signal(number)
        assert app.ended() == 128 + number
        assert restored(app)


def test_without_colours_it_is_drawn_in_letters(folder: Path) -> None:
    with terminal("files-corrupt.qcow2", folder=folder, NO_COLOR="1") as app:
        text = app.until("CORRUPT")
        assert "!!" in app.until("! corrupt")
        colours = set(re.findall(rb"[34]8;2;(\d+);(\d+);(\d+)", app.written))
        assert all(red == green == blue for red, green, blue in colours)  # greys alone
        assert "██" not in text
        app.press("q")
        assert app.ended() == 2


def test_the_list_of_images_comes_without_an_argument(folder: Path) -> None:
    with terminal(folder=folder) as app:
        app.until("10 images in this folder")
        app.press("G\r")
        app.until("web02.qcow2  qcow2 v3")
        app.press("q")
        assert app.ended() == 0


def test_what_is_not_there_is_said_without_a_screen(folder: Path) -> None:
    with terminal("nothing.qcow2", folder=folder) as app:
        assert app.ended() == 1
        assert "nothing.qcow2" in app.text
        assert b"\x1b[?1049h" not in app.written
        assert "Traceback" not in app.text
