"""``header``: every field of a header, as it is stored and what it means."""

from __future__ import annotations

import os

from qcow.image.image import Image
from qcow.text import safe

from .. import exit_codes
from ..findings_output import finding_lines, findings_json
from ..header_words import extension_words, feature_words, header_words
from ..opening import opened, require_qcow2
from ..options import COMMON, OUTPUTS, Arguments, one_operand, wants_json
from ..output import Output
from ..qemu_json import Json, JsonObject, dumps
from ..verb import Verb


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    as_json = wants_json(arguments)
    with opened(path, arguments) as given:
        image = require_qcow2(given)
        if as_json:
            output.line(dumps(_members(image)))
        else:
            output.lines(header_lines(image))
    return exit_codes.OK


def _members(image: Image) -> JsonObject:
    fields: list[Json] = [
        {
            "name": words.field.name,
            "offset": words.field.offset,
            "size": words.field.size,
            "raw": None if words.raw is None else words.raw.hex(),
            "value": words.value,
            "meaning": words.meaning,
        }
        for words in header_words(image)
    ]
    features: list[Json] = [
        {"type": bit.type, "bit": bit.bit, "name": bit.name, "known": bit.known}
        for bit in image.features
    ]
    extensions: list[Json] = [
        {
            "offset": extension.offset,
            "magic": f"0x{extension.magic:08x}",
            "name": extension.name,
            "known": extension.known,
            "length": len(extension.data),
            "meaning": extension_words(image, extension),
        }
        for extension in image.extensions
    ]
    members: JsonObject = {
        "filename": os.fsencode(image.name),
        "format": image.format,
        "fields": fields,
        "unknown-bytes": image.header.unknown.hex(),
        "features": features,
        "extensions": extensions,
    }
    if image.backing is not None:
        members["backing-filename"] = image.backing.name
        members["backing-filename-format"] = image.backing.format
    if image.data_file is not None:
        members["data-file"] = image.data_file
    members["findings"] = findings_json(image.problems)
    return members


def header_lines(image: Image) -> list[str]:
    """The whole answer for a person."""
    lines = [f"{'Offset':<8}{'Size':>4}  {'Field':<25}{'Raw':<20}Meaning"]
    for words in header_words(image):
        field = words.field
        lines.append(
            f"{f'{field.offset:#06x}':<8}{field.size:>4}  {field.name:<25}{words.hex:<20}"
            f"{words.meaning}"
        )
    if image.header.unknown:
        lines.append(f"Unknown header bytes from 0x70: {image.header.unknown[:32].hex(' ')}")
    if image.features:
        lines += ["", "Features:"]
        lines += [f"  {bit.type:<13}bit {bit.bit:<4}{feature_words(bit)}" for bit in image.features]
    if image.extensions:
        lines += ["", "Extensions:"]
        for extension in image.extensions:
            size = f"{len(extension.data)} bytes"
            what = extension_words(image, extension)
            lines.append(f"  {extension.offset:#06x}  {size:<12}{extension.name:<29}{what}")
    if image.backing is not None:
        place = image.header.backing_file_offset
        lines += ["", f'Backing file name at {place:#06x}: "{safe(image.backing.name)}"']
    if image.problems:
        lines += ["", "Findings:"]
        for finding in image.problems:
            lines += finding_lines(finding)
    return lines


VERB = Verb(
    "header",
    "every header field: offset, raw and decoded",
    "FILE",
    (*COMMON, *OUTPUTS),
    run,
    (
        ("disk.qcow2", "The fields, the feature bits, the extensions, and what is odd there."),
        ("--output=json broken.qcow2", "The same for a program, also of an image QEMU refuses."),
    ),
    ("Reads the header of any file that begins like a qcow2 image, however damaged it is.",),
)
