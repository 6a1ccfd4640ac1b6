"""``chain``: the files a disk is made of, and the images that build on it."""

from __future__ import annotations

import os

from qcow.chain import (
    Chain,
    Coverage,
    DependentSearch,
    LayerInfo,
    LayerStatus,
    coverage,
    dependents,
    layer_infos,
    open_chain,
)
from qcow.errors import GuestDataError
from qcow.findings import Severity
from qcow.text import safe
from qcowtui.views.units import percent, plural, size

from .. import exit_codes
from ..findings_output import finding_lines, findings_json
from ..opening import gate_of, lock_mode, opened
from ..options import COMMON, FOLLOW, OUTPUTS, Arguments, Option, one_operand, wants_json
from ..output import Output
from ..progress import progress_line
from ..qemu_json import Json, JsonObject, dumps
from ..verb import Verb

_SEARCH = "search"


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    as_json = wants_json(arguments)
    folders = arguments.all(_SEARCH)
    with (
        opened(path, arguments) as image,
        open_chain(image, gate_of(arguments), lock=lock_mode(arguments)) as chain,
    ):
        with progress_line(output) as progress:
            try:
                served = coverage(chain, progress=progress)
            except GuestDataError:
                served = None  # the top cannot be mapped: its layer says why
            found = dependents(path, folders, progress=progress) if folders else None
        layers = layer_infos(chain, served)
        if as_json:
            output.line(dumps(_json(chain, layers, served, found)))
        else:
            output.lines(_lines(chain, layers, served, found))
    incomplete = any(
        status is not LayerStatus.OK
        for layer in layers
        for status in (layer.status, layer.data_file_status)
    )
    return exit_codes.ERROR if incomplete else exit_codes.OK


def _json(
    chain: Chain,
    layers: tuple[LayerInfo, ...],
    served: Coverage | None,
    found: DependentSearch | None,
) -> JsonObject:
    members: JsonObject = {
        "filename": os.fsencode(chain.image.name),
        "virtual-size": chain.virtual_size,
        "layers": [_layer_json(layer) for layer in layers],
        "unserved": None if served is None else served.unserved,
        "findings": findings_json(chain.problems),
    }
    if found is not None:
        members["dependents"] = [
            {
                "filename": os.fsencode(one.path),
                "parent": os.fsencode(one.parent),
                "purpose": one.purpose,
                "distance": one.distance,
            }
            for one in found.found
        ]
        members["searched-images"] = found.images
        members["unreadable"] = [os.fsencode(name) for name in found.unreadable]
    return members


def _layer_json(layer: LayerInfo) -> Json:
    served = layer.coverage
    members: JsonObject = {
        "depth": layer.depth,
        "name": layer.name,
        "path": None if layer.path is None else os.fsencode(layer.path),
        "format": layer.format,
        "stated-format": layer.stated_format,
        "status": layer.status.value,
        "reason": layer.reason,
        "virtual-size": layer.virtual_size,
        "file-length": layer.file_length,
        "disk-size": layer.disk_size,
        "served": None if served is None else served.served,
        "stored": None if served is None else served.stored,
        "hidden": None if served is None else served.hidden,
    }
    if layer.data_file is not None:
        members["data-file"] = layer.data_file
        members["data-file-status"] = layer.data_file_status.value
    return members


def _lines(
    chain: Chain,
    layers: tuple[LayerInfo, ...],
    served: Coverage | None,
    found: DependentSearch | None,
) -> list[str]:
    lines: list[str] = []
    for layer in layers:
        lines += _layer_lines(layer, chain.virtual_size)
    if served is not None and served.unserved:
        share = percent(served.unserved, chain.virtual_size)
        lines.append(f"{size(served.unserved)} ({share}) of the disk are in no layer: zeros.")
    for finding in chain.problems:
        if finding.severity > Severity.INFO:
            lines += ["", *finding_lines(finding)]
    if found is not None:
        lines += ["", *_dependent_lines(found)]
    return lines


def _layer_lines(layer: LayerInfo, total: int) -> list[str]:
    indent = "  " * layer.depth
    arrow = "-> " if layer.depth else ""
    shown = safe(layer.name if layer.path is None else layer.path)
    lines = [f"{indent}{arrow}{shown}"]
    inner = indent + " " * (len(arrow) + 2)
    if layer.status is not LayerStatus.OK:
        lines.append(f"{inner}{layer.status.value}: {layer.reason}")
    facts = [layer.format or ""]
    if layer.virtual_size is not None:
        facts.append(f"{size(layer.virtual_size)} virtual")
    if layer.disk_size is not None:
        facts.append(f"{size(layer.disk_size)} on disk")
    covered = layer.coverage
    if covered is not None:
        facts.append(f"serves {size(covered.served)} ({percent(covered.served, total)})")
        if covered.hidden:
            facts.append(f"{size(covered.hidden)} hidden below other layers")
    if any(facts):
        lines.append(inner + ", ".join(fact for fact in facts if fact))
    if layer.data_file is not None:
        status = layer.data_file_status.value
        lines.append(f"{inner}data file {safe(layer.data_file)}: {status}")
    return lines


def _dependent_lines(found: DependentSearch) -> list[str]:
    looked = f"{plural(found.images, 'image')} looked at"
    if found.unreadable:
        looked += f", {plural(len(found.unreadable), 'file')} unreadable"
    if not found.found:
        return [f"No image there builds on this one ({looked})."]
    lines = [f"Images that build on this one ({looked}):"]
    for one in found.found:
        through = "" if one.distance == 1 else f" (through {safe(one.parent)})"
        lines.append(f"  {safe(one.path)}{through}")
    return lines


VERB = Verb(
    "chain",
    "the files a disk is made of, and which images build on it",
    "FILE",
    (
        *COMMON,
        *OUTPUTS,
        Option(_SEARCH, value="DIR", help="Look in DIR for images that build on FILE; repeatable"),
        FOLLOW,
    ),
    run,
    (
        ("overlay.qcow2", "Every layer: format, sizes, which part of the disk it serves."),
        ("--search=. base.qcow2", "Who would be hurt if base.qcow2 changed or went away."),
        ("--output=json --follow overlay.qcow2", "Wherever the files are, for a program."),
    ),
    (
        "Backing files are opened if they lie in the image's own folder and their format is "
        "stated; of images found with --search only the header is read.",
    ),
    (
        (exit_codes.OK, "every file of the chain is there and can be read"),
        (exit_codes.ERROR, "one is missing, refused or damaged, or the request makes no sense"),
    ),
)
