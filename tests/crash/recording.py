"""The writes of another program, taken down by strace in the terms of the crash enumerator."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .enumerate import Op

_CALLS = (
    "openat,dup,dup2,dup3,fcntl,close,pwrite64,pwritev,pwritev2,write,writev,fdatasync,fsync,"
    "ftruncate,fallocate,copy_file_range"
)
#: Calls that would change a file without this recorder understanding how.
_STRANGE = frozenset({"write", "writev", "copy_file_range"})
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_BYTES = re.compile(r'"((?:\\x..)*)"(\.\.\.)?')
_PUNCH, _ZERO, _KEEP = 0x02, 0x10, 0x01


def record_program(argv: Sequence[str | Path], path: Path) -> list[Op]:
    """Run ``argv`` and return what it did to the file ``path``, in order.

    The program changes the file for real; save the bytes before.  AssertionError when it fails, or
    changes the file in a way that is not understood here.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        trace = Path(folder) / "trace"
        done = subprocess.run(
            ["strace", "-f", "-qq", "-o", trace, "-xx", "-s", str(1 << 26), "-e", "raw=fallocate",
             "-e", f"trace={_CALLS}", *argv],
            capture_output=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with trace.open() as lines:
            return list(_operations(lines, path))


def _operations(lines: Iterator[str], path: Path) -> Iterator[Op]:
    size = 0
    ours: set[int] = set()
    for name, arguments, result in _calls(lines):
        if result < 0:
            continue
        if name == "openat":
            opened = os.fsdecode(_strings(arguments)[0])
            same = os.path.basename(opened) == path.name
            (ours.add if same else ours.discard)(result)
            continue
        descriptor = int(re.match(r"-?\w+", arguments)[0], 0)  # type: ignore[index]
        if name in ("dup", "dup2", "dup3") or (name == "fcntl" and "F_DUPFD" in arguments):
            (ours.add if descriptor in ours else ours.discard)(result)
            continue
        if descriptor not in ours:
            continue
        assert name not in _STRANGE, f"{name} on {path.name} is not understood"
        if name == "close":
            ours.discard(descriptor)
        elif name in ("pwrite64", "pwritev", "pwritev2"):
            data = b"".join(_strings(arguments))
            assert len(data) == result, "a short write"
            numbers = re.findall(r"-?\d+", re.split(r'[\]"]', arguments)[-1])
            offset = int(numbers[1])  # after the length, or after the number of vectors
            size = max(size, offset + len(data))
            yield "w", offset, data
        elif name in ("fdatasync", "fsync"):
            yield ("b",)
        elif name == "ftruncate":
            size = int(arguments.split(", ")[1])
            yield "t", size
        elif name == "fallocate":
            mode, offset, length = (int(part, 0) for part in arguments.split(", ")[1:])
            if mode & (_PUNCH | _ZERO):
                yield "p", offset, length
            elif not mode & _KEEP:
                raise AssertionError("an allocation that may grow the file is not understood")


def _calls(lines: Iterator[str]) -> Iterator[tuple[str, str, int]]:
    """``(name, arguments, result)`` of each call, put together where threads took turns."""
    pending: dict[str, str] = {}
    for line in lines:
        thread, _, call = line.strip().partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            pending[thread] = call.removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", call)
        if resumed:
            call = pending.pop(thread, "") + resumed[1]
        found = _CALL.match(call)
        if found:
            yield found[1], found[2], int(found[3])


def _strings(arguments: str) -> list[bytes]:
    found = []
    for match in _BYTES.finditer(arguments):
        assert not match[2], "strace cut the data short"
        found.append(bytes.fromhex(match[1].replace("\\x", "")))
    return found
