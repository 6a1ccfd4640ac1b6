"""``info``: what an image is, by its header and small tables alone."""

from __future__ import annotations

from qcow.errors import QcowError, ReferenceMissing
from qcow.image.image import Image
from qcow.opening import AnyImage, open_storage
from qcow.storage.gate import Gate
from qcow.storage.locks import ImageLock, LockMode
from qcow.text import safe

from .. import exit_codes
from ..opening import NotOpened, gate_of, lock_mode, open_named, require_readable
from ..options import COMMON, FOLLOW, FORMAT, OUTPUT, Arguments, Option, one_operand, wants_json
from ..output import Output
from ..qemu_human import info_lines
from ..qemu_info import image_info
from ..qemu_json import Json, dumps, qdict
from ..verb import Verb

#: Layers followed at most; every one is a file that is held open.
_MAX_LAYERS = 256


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    as_json = wants_json(arguments)
    lock = lock_mode(arguments)
    first = open_named(path, arguments.get(FORMAT.key), lock)
    layers: list[AnyImage] = [first]
    try:
        require_readable(first)
        if arguments.has("backing-chain"):
            _follow(layers, gate_of(arguments), lock)
        infos = [qdict(image_info(image)) for image in layers]
        if as_json:
            whole: Json = list(infos) if arguments.has("backing-chain") else infos[0]
            output.line(dumps(whole))
        else:
            for number, (image, info) in enumerate(zip(layers, infos, strict=True)):
                if number:
                    output.line()
                output.lines(info_lines(info, getattr(image, "snapshots", ())))
    finally:
        for image in layers:
            image.close()
    return exit_codes.OK


def _follow(layers: list[AnyImage], gate: Gate, lock: LockMode) -> None:
    """Open the backing files below ``layers[0]``, as far as ``gate`` lets it."""
    seen = {layers[0].storage.identity()}
    while isinstance(image := layers[-1], Image) and image.backing is not None:
        below = _open_backing(image, gate, lock)
        layers.append(below)
        if below.storage.identity() in seen:
            raise ReferenceMissing(
                f"Backing file '{safe(below.name)}' creates an infinite loop."
            )
        if len(layers) > _MAX_LAYERS:
            raise ReferenceMissing(f"The backing chain is longer than {_MAX_LAYERS} images.")
        seen.add(below.storage.identity())
        require_readable(below)


def _open_backing(image: Image, gate: Gate, lock: LockMode) -> AnyImage:
    assert image.backing is not None
    stated = image.backing.format
    storage = gate.open_reference(image.storage, image.backing.name, stated, "backing file")
    try:
        ImageLock().acquire(storage.fileno(), lock, storage.name)
        return open_storage(storage, format=stated.decode("latin-1") if stated else None)
    except QcowError as error:
        storage.close()
        raise NotOpened(f"Could not open '{safe(storage.name)}': {error}") from error


VERB = Verb(
    "info",
    "what an image is: format, sizes, features, snapshots",
    "FILE",
    (
        *COMMON,
        OUTPUT,
        Option("backing-chain", help="Go on with the backing file, and the one below it, ..."),
        FOLLOW,
    ),
    run,
    (
        ("disk.qcow2", "Format, sizes, features, snapshots, bitmaps, encryption."),
        ("--output=json disk.qcow2", "The same for a program, in qemu-img's keys."),
        ("--backing-chain overlay.qcow2", "Every image of the chain, the top one first."),
    ),
    (
        "Reads the header and the small tables of FILE and opens nothing else, unless "
        "--backing-chain asks for the images below.",
    ),
)
