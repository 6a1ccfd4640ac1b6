"""``measure``: how large a file would have to be to hold a disk."""

from __future__ import annotations

from qcow.errors import NotFoundError, UsageError
from qcow.image.image import Image
from qcow.inspect.measure import Measurement, Target, measure_chain, measure_raw, measure_size
from qcow.layout.snapshots import Snapshot
from qcow.opening import AnyImage
from qcow.text import safe

from .. import exit_codes
from ..opening import gate_of, lock_mode, opened, require_readable
from ..options import (
    COMMON,
    FOLLOW,
    FORMAT,
    OUTPUTS,
    Arguments,
    Option,
    wants_json,
)
from ..output import Output
from ..qemu_json import JsonObject, dumps, qdict
from ..qemu_options import creation_target, key_values, option_list
from ..qemu_size import parse_size
from ..verb import Verb

_SNAPSHOT = "l"


def run(arguments: Arguments, output: Output) -> int:
    as_json = wants_json(arguments)
    operands = arguments.operands
    size = arguments.get("size")
    if len(operands) > 1:
        raise UsageError("At most one filename argument is allowed.")
    if not operands and (arguments.has(FORMAT.key) or arguments.has(_SNAPSHOT)):
        raise UsageError("--image-opts, -f, and -l require a filename argument.")
    if (size is None) != bool(operands):
        if operands:
            raise UsageError("--size N cannot be used together with a filename.")
        raise UsageError("Either --size N or one filename must be specified.")
    target = _target(arguments)
    if size is not None:
        length = parse_size(size, "image size")
        found = measure_raw(length) if target is None else measure_size(length, target)
    else:
        with opened(operands[0], arguments) as image:
            require_readable(image)
            found = _measure_image(image, arguments, target)
    if found.impossible:
        why = "The image size is too large (try using a larger cluster size)"
        if size is not None:
            raise UsageError(why)
        # qemu-img measures on; so that both say the same, this is no more than a warning.
        output.error(f"warning: {why}")
    _print(found, output, as_json=as_json)
    return exit_codes.OK


def _target(arguments: Arguments) -> Target | None:
    """None for a raw file."""
    format = arguments.get("target-format") or "raw"
    if format not in ("raw", "qcow2"):
        raise UsageError(
            f"The size of a file of format '{safe(format)}' cannot be measured; this version "
            "knows raw and qcow2."
        )
    return creation_target(format, option_list(arguments.all("options")))


def _measure_image(image: AnyImage, arguments: Arguments, target: Target | None) -> Measurement:
    snapshot = _snapshot(image, arguments.get(_SNAPSHOT))
    if target is None:
        return measure_raw(image.virtual_size)
    from qcow.chain import open_chain

    with open_chain(image, gate_of(arguments), state=snapshot, lock=lock_mode(arguments)) as chain:
        # A snapshot is converted with the disk's present size, as qemu-img convert -l does it.
        return measure_chain(chain, target, size=image.virtual_size)


def _snapshot(image: AnyImage, given: str | None) -> Snapshot | None:
    if given is None:
        return None
    missing = "Failed to load snapshot: Can't find snapshot"
    if not isinstance(image, Image):
        raise NotFoundError(f"{missing}: {safe(image.name)} is a raw file and has none.")
    if not given.startswith("snapshot."):
        return image.find_snapshot(given)
    wanted = key_values(given)
    unknown = wanted.keys() - {"snapshot.id", "snapshot.name"}
    if unknown:
        raise UsageError(f"Failed in parsing snapshot param '{safe(given)}'")
    for snapshot in image.snapshots:
        fields = {"snapshot.id": snapshot.id, "snapshot.name": snapshot.name}
        if all(fields[key] == value for key, value in wanted.items()):
            return snapshot
    raise NotFoundError(missing)


def _print(found: Measurement, output: Output, *, as_json: bool) -> None:
    if as_json:
        members: JsonObject = {
            "required": found.required,
            "fully-allocated": found.fully_allocated,
        }
        if found.bitmaps is not None:
            members["bitmaps"] = found.bitmaps
        output.line(dumps(qdict(members)))
        return
    output.line(f"required size: {found.required}")
    output.line(f"fully allocated size: {found.fully_allocated}")
    if found.bitmaps is not None:
        output.line(f"bitmaps size: {found.bitmaps}")


VERB = Verb(
    "measure",
    "how large a new image of a disk would be",
    "[--size=N | FILE]",
    (
        *COMMON,
        *OUTPUTS,
        Option("target-format", "O", "FMT", "Format of the new image: raw (default) or qcow2"),
        Option("options", "o", "OPTS", "Its options, as for qemu-img create -o (a=b,c=d)"),
        Option("", _SNAPSHOT, "SNAPSHOT", "Measure this snapshot: an ID, else a name"),
        Option("size", value="N", help="Measure an empty disk of this size instead of a file"),
        FOLLOW,
    ),
    run,
    (
        ("-O qcow2 disk.qcow2", "File size for a copy, and with every cluster allocated."),
        ("-O qcow2 -o cluster_size=2M --size=1T", "What the metadata of 1 TiB takes."),
    ),
    (
        "Counts what is stored anywhere in the backing chain, whose files are opened if they lie "
        "in the image's own folder and their format is stated.",
    ),
)
