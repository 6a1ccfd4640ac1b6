"""``write``: bytes of a file or of standard input onto the disk."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

from qcow.errors import StorageError, UsageError
from qcow.text import safe

from ..editing import EDITING, EXITS, change
from ..options import Arguments, CommandError, Option
from ..output import Output
from ..qemu_size import parse_size
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action

_LENGTH = Option("length", "l", "N", "How many bytes of SOURCE (default: all; k, M, G, T suffixes)")
_ZEROES = Option("detect-zeroes", help="Let clusters that become all zeros take no space")
_STDIN = "-"
_STDIN_DESCRIPTOR = 0
_PIECE = 1 << 20


class _FileSource:
    """An open file as the source of a write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_into(self, offset: int, buffer: memoryview) -> int:
        done = 0
        try:
            while done < len(buffer):
                got = os.preadv(self._descriptor, [buffer[done:]], offset + done)
                if not got:
                    break
                done += got
        except OSError as error:
            raise StorageError(f"Could not read what is to be written: {error.strerror}") from error
        return done


def run(arguments: Arguments, output: Output) -> int:
    if not 2 <= len(arguments.operands) <= 3:
        raise CommandError("Expecting image file name, offset and at most one source")
    path, place, name = (*arguments.operands, _STDIN)[:3]
    offset = parse_size(place, "offset")
    given = arguments.get(_LENGTH.key)
    limit = None if given is None else parse_size(given, "length")
    with ExitStack() as held:

        def make() -> list[Action]:
            from qcow.actions.write import Write

            source, length = _source(name, limit, held)
            return [
                Write(
                    offset,
                    length,
                    _FileSource(source),
                    name,
                    detect_zeroes=arguments.has(_ZEROES.key),
                )
            ]

        return change(path, arguments, output, make, asks=True)


def _source(name: str, limit: int | None, held: ExitStack) -> tuple[int, int]:
    """A descriptor of the file to read from, and how many of its bytes are meant."""
    try:
        source = _STDIN_DESCRIPTOR
        if name != _STDIN:
            source = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            held.callback(os.close, source)
        kind = os.fstat(source).st_mode
        if name == _STDIN or not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
            copy, hidden = tempfile.mkstemp()
            held.callback(os.close, copy)
            os.unlink(hidden)
            return copy, _copied(source, copy, limit)
        length = os.lseek(source, 0, os.SEEK_END)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no file name"
        raise StorageError(f"Could not read '{safe(name)}': {why}") from error
    if limit is not None and limit > length:
        raise UsageError(f"'{safe(name)}' has {length} bytes, not {limit}.")
    return source, length if limit is None else limit


def _copied(source: int, copy: int, limit: int | None) -> int:
    """Copy what can be read only once; how many bytes that were.  Raises OSError."""
    length = 0
    while limit is None or length < limit:
        piece = os.read(source, _PIECE if limit is None else min(_PIECE, limit - length))
        if not piece:
            break
        left = memoryview(piece)
        while left:
            left = left[os.write(copy, left) :]
        length += len(piece)
    if limit is not None and length < limit:
        raise UsageError(f"The input ends after {length} bytes; {limit} were to be written.")
    return length


VERB = Verb(
    "write",
    "bytes of a file, or of standard input, onto the disk",
    "FILE OFFSET [SOURCE]",
    (_LENGTH, _ZEROES, *EDITING),
    run,
    (
        ("disk.qcow2 0 boot.bin", "The disk begins with what boot.bin holds."),
        ("disk.qcow2 1M --length=64k < data", "64 KiB of standard input, at 1 MiB."),
    ),
    (
        "Snapshots keep what they show. What can be read only once, such as a pipe, is copied to a "
        "temporary file first.",
    ),
    EXITS,
)
