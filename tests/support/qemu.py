"""The oracle: qemu-img and qemu-io as functions.

Nothing here looks for the programs first: a test that needs them fails when they are missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .shared import once

#: The secret every encrypted test image is made with (LUKS passphrase, first 16 bytes for AES).
SECRET = "look-into-qcow2"
_SECRET_ID = "sec0"
#: The size of the disk that encrypted images are made with.
_ENCRYPTED = "1M"
_TIMEOUT = 120

Argument = str | Path


def run(
    program: str,
    *args: Argument,
    check: bool = True,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run one of QEMU's programs; with ``check`` a failure raises with what it printed."""
    done = subprocess.run(
        [program, *(os.fspath(arg) for arg in args)],
        capture_output=True,
        cwd=cwd,
        env=None if env is None else {**os.environ, **env},
        timeout=_TIMEOUT,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode != 0:
        shown = (done.stdout + done.stderr).decode("utf-8", "replace")
        raise AssertionError(f"{program} {args} ended with {done.returncode}:\n{shown}")
    return done


def qemu_img(
    *args: Argument,
    check: bool = True,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """``qemu-img ARGS``; stdout and stderr are bytes, for names in images need not be text."""
    return run("qemu-img", *args, check=check, cwd=cwd, env=env)


def qemu_json(*args: Argument, check: bool = True, cwd: Path | None = None) -> Any:
    """The parsed stdout of ``qemu-img ARGS``, objects as lists of pairs: key order counts."""
    return parsed(qemu_img(*args, check=check, cwd=cwd).stdout)


def parsed(text: bytes) -> Any:
    """JSON with objects as lists of (key, value), so that comparing compares the order too."""
    return json.loads(text, object_pairs_hook=list)


def secret_object() -> tuple[str, str]:
    """The two arguments that make :data:`SECRET` known to qemu-img."""
    return ("--object", f"secret,id={_SECRET_ID},data={SECRET}")


def create_encrypted(path: Path, size: str, *options: str, kind: str = "luks") -> None:
    """An encrypted image (``kind``: luks or aes).

    QEMU takes two seconds to find out how many iterations of the key derivation LUKS is to have;
    images with the same ``options`` share what it found, and their key.
    """
    choices = [f"encrypt.format={kind}", f"encrypt.key-secret={_SECRET_ID}", *options]
    if kind == "luks":
        choices.append("encrypt.iter-time=10")
    name = hashlib.sha256(repr(choices).encode()).hexdigest()
    made = once(name, lambda folder: _encrypted(folder / "image", ",".join(choices)))
    shutil.copyfile(made / "image", path)
    if size != _ENCRYPTED:
        qemu_img("resize", "-q", "--shrink", *with_key(path, kind), size)


def _encrypted(path: Path, choices: str) -> None:
    create = ("create", "-q", "-f", "qcow2", *secret_object(), "-o", choices, path, _ENCRYPTED)
    # QEMU times its key derivation, which fails now and then where the clock is coarse.
    for _ in range(20):
        done = qemu_img(*create, check=False)
        if b"accurate CPU usage" not in done.stderr:
            break
        path.unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr


def with_key(path: Path, kind: str = "luks") -> tuple[str, ...]:
    """Arguments that open an encrypted image with its key, in the place of the file name."""
    return (
        *secret_object(),
        "--image-opts",
        f"driver=qcow2,file.driver=file,file.filename={path},"
        f"encrypt.format={kind},encrypt.key-secret={_SECRET_ID}",
    )


def qemu_io(
    path: Path,
    *commands: str,
    fmt: str = "qcow2",
    key: str | None = None,
    killed: bool = False,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run qemu-io commands on ``path``.

    ``key`` is the kind of encryption whose key is to be used.  With ``killed`` the process ends
    by SIGKILL after the last command: nothing is flushed or closed.
    """
    given = [part for command in commands for part in ("-c", command)]
    if killed:
        given += ["-c", "sigraise 9"]
    where: tuple[Argument, ...] = with_key(path, key) if key else ("-f", fmt, path)
    done = run("qemu-io", *given, *where, check=not killed, cwd=cwd)
    if killed and done.returncode != -9:
        raise AssertionError(f"qemu-io was to die by SIGKILL: {done}")
    # A failed command of qemu-io leaves its exit code 0 or not, depending on the command.
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    if "failed" in said or "error" in said.lower():
        raise AssertionError(f"qemu-io {commands}: {said}")
    return done


def guest_raw(source: Path, target: Path, snapshot: str | None = None, fmt: str = "qcow2") -> Path:
    """Write the guest disk as QEMU reads it to ``target``, a sparse raw file."""
    picked = ("-l", f"snapshot.id={snapshot}") if snapshot is not None else ()
    qemu_img("convert", "-f", fmt, "-O", "raw", *picked, source, target)
    return target


def guest_bytes(path: Path, snapshot: str | None = None, fmt: str = "qcow2") -> bytes:
    """Every byte of the guest disk (``snapshot``: an ID) as qemu-img convert gives it."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        return guest_raw(path, Path(folder) / "guest.raw", snapshot, fmt).read_bytes()


def data_ranges(raw: Path) -> Iterator[tuple[int, int]]:
    """(offset, length) of what a sparse file holds, by SEEK_DATA and SEEK_HOLE."""
    fd = os.open(raw, os.O_RDONLY)
    try:
        end = os.fstat(fd).st_size
        at = 0
        while at < end:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                return
            at = os.lseek(fd, start, os.SEEK_HOLE)
            yield start, at - start
    finally:
        os.close(fd)
