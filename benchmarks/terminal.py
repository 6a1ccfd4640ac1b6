"""A program in a terminal of its own: what it paints, when, and what that costs."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, TypeVar

COLUMNS, ROWS = 200, 50


Found = TypeVar("Found")


class Piece(NamedTuple):
    """Bytes that were painted, when (seconds since the start), and the CPU time used by then."""

    at: float
    cpu: float
    data: bytes


class Terminal:
    """Runs ``argv`` on a pseudo-terminal of 200x50 cells that reads as fast as it can."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str]) -> None:
        self.pieces: list[Piece] = []
        size = struct.pack("HHHH", ROWS, COLUMNS, 0, 0)
        environment = {**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        gate_read, gate_write = os.pipe()
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            try:  # the size must stand before the program asks for it
                os.read(gate_read, 1)
                os.execve(argv[0], list(argv), environment)
            finally:
                os._exit(127)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, size)
        self._started = time.perf_counter()
        os.write(gate_write, b"g")
        os.close(gate_write)
        os.close(gate_read)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._fd)

    @property
    def cpu(self) -> float:
        """Seconds of CPU time of all threads, ended ones included (Linux's per-process clock)."""
        return time.clock_gettime((~self._pid << 3) | 2)

    @property
    def main_thread_cpu(self) -> float:
        """Seconds of CPU time of the first thread, the one that handles keys and paints."""
        with open(f"/proc/{self._pid}/task/{self._pid}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9

    @property
    def main_thread_wakeups(self) -> int:
        """How often the first thread has gone to sleep, and so been woken."""
        return self._status("voluntary_ctxt_switches", f"task/{self._pid}/")

    @property
    def peak(self) -> int:
        """The most memory it has had, in bytes."""
        return self._status("VmHWM") * 1024

    def _status(self, key: str, thread: str = "") -> int:
        with open(f"/proc/{self._pid}/{thread}status") as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
        raise LookupError(key)

    def send(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def read(self, seconds: float) -> int:
        """Take what comes within ``seconds``, at most one piece; its length, 0 for nothing."""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return 0
        data = os.read(self._fd, 1 << 20)
        self.pieces.append(Piece(time.perf_counter() - self._started, self.cpu, data))
        return len(data)

    @property
    def working(self) -> bool:
        """Whether any thread runs, waits for a CPU, or waits for a disk."""
        for thread in os.listdir(f"/proc/{self._pid}/task"):
            try:
                with open(f"/proc/{self._pid}/task/{thread}/stat") as file:
                    state = file.read().rpartition(")")[2].split()[0]
            except FileNotFoundError:  # it has just ended
                return True
            if state in "RD":
                return True
        return False

    def until_still(self, still: float, at_most: float = 900.0) -> None:
        """Read until nothing was painted, and nothing worked, for ``still`` seconds."""
        deadline = time.perf_counter() + at_most
        since = time.perf_counter()
        while time.perf_counter() < deadline:
            if self.read(still / 20) or self.working:
                since = time.perf_counter()
            elif time.perf_counter() - since >= still:
                return
        raise TimeoutError(f"still busy after {at_most:g} s")

    def until(self, find: Callable[[list[Piece]], Found | None], at_most: float = 60.0) -> Found:
        """Read on until ``find`` finds something in the pieces; it is asked once a second."""
        deadline = time.perf_counter() + at_most
        while time.perf_counter() < deadline:
            pause = time.perf_counter() + 1.0
            while (left := pause - time.perf_counter()) > 0:
                self.read(left)
            if (found := find(self.pieces)) is not None:
                return found
        raise TimeoutError(f"not painted after {at_most:g} s: {find.__name__}")

    def until_painted(self, still: float = 0.25, at_most: float = 10.0) -> None:
        """Read until nothing was painted for ``still`` seconds; other threads may go on."""
        deadline = time.perf_counter() + at_most
        while self.read(still) and time.perf_counter() < deadline:
            pass
