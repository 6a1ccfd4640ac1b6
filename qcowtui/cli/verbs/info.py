"""``info``: what an image is, by its header and small tables alone."""

from __future__ import annotations

from qcow.errors import ReferenceMissing, ReferenceRefused
from qcow.opening import AnyImage

from .. import exit_codes
from ..opening import gate_of, lock_mode, opened, require_readable
from ..options import COMMON, FOLLOW, OUTPUTS, Arguments, Option, one_operand, wants_json
from ..output import Output
from ..qemu_human import info_lines
from ..qemu_info import image_info
from ..qemu_json import Json, dumps, qdict
from ..verb import Verb

_CHAIN = "backing-chain"


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    as_json = wants_json(arguments)
    with opened(path, arguments) as image:
        require_readable(image)
        if not arguments.has(_CHAIN):
            _print([image], output, as_json=as_json, as_list=False)
            return exit_codes.OK
        from qcow.chain import LayerStatus, open_chain

        with open_chain(image, gate_of(arguments), lock=lock_mode(arguments)) as chain:
            for layer in chain.layers:
                if layer.image is None:
                    refused = layer.status is LayerStatus.REFUSED
                    raise (ReferenceRefused if refused else ReferenceMissing)(layer.reason)
                require_readable(layer.image)
            images = [layer.image for layer in chain.layers if layer.image is not None]
            _print(images, output, as_json=as_json, as_list=True)
    return exit_codes.OK


def _print(images: list[AnyImage], output: Output, *, as_json: bool, as_list: bool) -> None:
    infos = [qdict(image_info(image)) for image in images]
    if as_json:
        whole: Json = [*infos] if as_list else infos[0]
        output.line(dumps(whole))
        return
    for number, (image, info) in enumerate(zip(images, infos, strict=True)):
        if number:
            output.line()
        output.lines(info_lines(info, getattr(image, "snapshots", ())))


VERB = Verb(
    "info",
    "what an image is: format, sizes, features, snapshots",
    "FILE",
    (
        *COMMON,
        *OUTPUTS,
        Option(_CHAIN, help="Go on with the backing file, and the one below it, ..."),
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
