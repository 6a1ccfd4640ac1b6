"""``read``: guest bytes to standard output."""

from __future__ import annotations

import binascii
import os
from collections.abc import Iterator

from qcow.chain import Chain, open_chain
from qcow.disk import check_range
from qcow.image.image import Image
from qcow.inspect.states import resolve_state
from qcow.opening import AnyImage

from .. import exit_codes
from ..opening import gate_of, lock_mode, opened, require_readable
from ..options import (
    COMMON,
    FOLLOW,
    OUTPUT,
    Arguments,
    CommandError,
    Option,
    one_operand,
)
from ..output import Output
from ..qemu_json import quoted
from ..qemu_size import parse_size
from ..verb import Verb

#: Guest bytes read at a time; a multiple of 3 (base64) and of 16 (hex lines).
_PIECE = 3 << 20
_SPELLINGS = ("raw", "hex", "json")


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    spelling = arguments.get(OUTPUT.key) or ("hex" if output.to_terminal else "raw")
    if spelling not in _SPELLINGS:
        raise CommandError("--output must be used with raw, hex or json as argument.")
    offset = parse_size(arguments.get("offset") or "0", "offset")
    given = arguments.get("length")
    with opened(path, arguments) as image:
        _require_mapped(image)
        with open_chain(image, gate_of(arguments), lock=lock_mode(arguments)) as chain:
            disk = _state(image, chain, arguments.get("snapshot"))
            left = disk.virtual_size - offset
            length = max(0, left) if given is None else parse_size(given, "length")
            check_range(offset, length, disk.virtual_size)
            pieces = _pieces(disk, offset, length)
            if spelling == "json":
                _write_json(path, disk, offset, length, pieces, output)
            elif spelling == "hex":
                for at, data in pieces:
                    output.lines(_hex_lines(at, data))
            else:
                for _at, data in pieces:
                    output.write_bytes(data)
    return exit_codes.OK


def _require_mapped(image: AnyImage) -> None:
    """Damage elsewhere, which makes QEMU refuse the image, does not keep guest data from us."""
    if isinstance(image, Image) and image.unusable is not None:
        require_readable(image)


def _state(image: AnyImage, chain: Chain, snapshot: str | None) -> Chain:
    if snapshot is None:
        return chain
    return resolve_state(image, chain, f"snapshot:{snapshot}")


def _pieces(disk: Chain, offset: int, length: int) -> Iterator[tuple[int, bytes]]:
    for at in range(offset, offset + length, _PIECE):
        yield at, disk.read(at, min(_PIECE, offset + length - at))


def _hex_lines(offset: int, data: bytes) -> list[str]:
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        lines.append(f"{offset + at:012x}  {row.hex(' '):<47}  {text}")
    return lines


def _write_json(
    path: str,
    disk: Chain,
    offset: int,
    length: int,
    pieces: Iterator[tuple[int, bytes]],
    output: Output,
) -> None:
    """The object piece by piece, so that its size does not matter."""
    first = next(pieces, (offset, b""))  # what cannot be read leaves no half an object
    label = os.fsencode(disk.label)
    output.line("{")
    output.line(f'    "filename": {quoted(path)},')
    output.line(f'    "state": {quoted(label)},')
    output.line(f'    "offset": {offset},')
    output.line(f'    "length": {length},')
    output.write('    "data": "')
    output.write_bytes(binascii.b2a_base64(first[1], newline=False))
    for _at, data in pieces:
        output.write_bytes(binascii.b2a_base64(data, newline=False))
    output.write('"\n}\n')


VERB = Verb(
    "read",
    "guest bytes to standard output, of the disk or a snapshot",
    "FILE",
    (
        *COMMON,
        Option("offset", "o", "N", "First guest byte (default 0; k, M, G, T suffixes)"),
        Option("length", "l", "N", "How many bytes (default: to the end of the disk)"),
        Option("snapshot", "s", "SNAPSHOT", "Read this snapshot: an ID, else a name"),
        OUTPUT._replace(help="raw (default), hex (default on a terminal), or json (base64)"),
        FOLLOW,
    ),
    run,
    (
        ("disk.qcow2 --offset=0 --length=512 | file -", "The first sector."),
        (
            "disk.qcow2 --snapshot=before --offset=1M --length=4k --output=hex",
            "4 KiB of the snapshot `before`, to look at.",
        ),
        ("overlay.qcow2 --follow > disk.raw", "The whole disk, through its backing files."),
    ),
    (
        "Whatever cannot be read (damaged, encrypted, in a file that may not be opened) is an "
        "error, never zeros. Backing files are opened if they lie in the image's own folder and "
        "their format is stated.",
    ),
)
