"""Real QEMU processes that hold an image while a test looks at it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 30.0


def wait_until(holds: Callable[[], bool], seconds: float = _PATIENCE) -> float:
    """Wait for ``holds()``; the seconds it took.  AssertionError when it never does."""
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > seconds:
            raise AssertionError(f"{holds} did not hold within {seconds} s")
        time.sleep(0.01)
    return time.monotonic() - start


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def nbd_server(image: Path, *options: str, fmt: str = "qcow2") -> Iterator[subprocess.Popen[bytes]]:
    """``qemu-nbd`` serving ``image`` (for writing, unless ``options`` say -r) on a Unix socket.

    The socket is ``image`` with ``.sock`` added.
    """
    address = image.with_name(image.name + ".sock")
    server = subprocess.Popen(
        ["qemu-nbd", "-t", "-f", fmt, "--socket", str(address), *options, str(image)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )

    def answers() -> bool:
        if server.poll() is not None:
            assert server.stderr is not None
            raise AssertionError(server.stderr.read().decode("utf-8", "replace"))
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(str(address)) != 0:
                return False
            # It listens before it opens the image, but greets only afterwards.
            client.settimeout(_PATIENCE)
            with contextlib.suppress(ConnectionError):
                return client.recv(8) == b"NBDMAGIC"
            return False

    with _ended(server):
        wait_until(answers)
        yield server


@contextmanager
def io_session(image: Path, *options: str, fmt: str = "qcow2") -> Iterator[subprocess.Popen[bytes]]:
    """``qemu-io`` with ``image`` open, waiting for commands (see :func:`io_command`)."""
    session = subprocess.Popen(
        ["qemu-io", "-f", fmt, *options, str(image)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with _ended(session):
        _until_prompt(session)
        yield session


def io_command(session: subprocess.Popen[bytes], command: str) -> str:
    """Give one command to an :func:`io_session`; what it printed."""
    assert session.stdin is not None
    session.stdin.write(command.encode() + b"\n")
    session.stdin.flush()
    return _until_prompt(session)


def _until_prompt(session: subprocess.Popen[bytes]) -> str:
    assert session.stdout is not None
    said = b""
    while not said.endswith(b"qemu-io> "):
        part = session.stdout.read1(4096)  # type: ignore[attr-defined]
        if not part:
            raise AssertionError(f"qemu-io ended: {said.decode('utf-8', 'replace')}")
        said += part
    return said.removesuffix(b"qemu-io> ").decode("utf-8", "replace")
