"""``space``: what uses the file's bytes, and what each snapshot alone holds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qcow.image.image import Image
from qcow.jobs import ProgressCallback
from qcow.text import safe
from qcowtui.views.units import percent, size, size_and_bytes

from .. import exit_codes
from ..class_names import class_name
from ..opening import opened, require_qcow2
from ..options import COMMON, OUTPUTS, Arguments, Option, one_operand, wants_json
from ..output import Output
from ..progress import progress_line
from ..qemu_json import Json, JsonObject, dumps
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.inspect.sharing import Sharing
    from qcow.inspect.space import Space

_TOGETHER = "together"


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    as_json = wants_json(arguments)
    with opened(path, arguments) as given:
        image = require_qcow2(given)
        members = _members(image, arguments.all(_TOGETHER))
        from qcow.inspect.space import frees_if_deleted

        with progress_line(output) as progress:
            used, shares = measured(image, progress)
        freed = frees_if_deleted(image, shares, members) if members else None
        if as_json:
            output.line(dumps(_json(image, used, members, freed)))
        else:
            output.lines(space_lines(image, used))
            if freed is not None:
                names = ", ".join(safe(image.snapshots[i - 1].id) for i in members)
                output.lines(["", f"Deleting {names} together frees {size_and_bytes(freed)}."])
    return exit_codes.OK


def measured(image: Image, progress: ProgressCallback | None = None) -> tuple[Space, Sharing]:
    """Walk the tables twice.  Raises GuestDataError when they cannot be interpreted."""
    from qcow.inspect.owners import scan_owners
    from qcow.inspect.sharing import sharing
    from qcow.inspect.space import space

    owners = scan_owners(image, progress=progress)
    shares = sharing(image, progress=progress)
    return space(image, owners, shares), shares


def _members(image: Image, given: list[str]) -> list[int]:
    """State indices of the snapshots named, in table order."""
    found = {image.find_snapshot(key).index + 1 for key in given}
    return sorted(found)


def _json(image: Image, used: Space, members: list[int], freed: int | None) -> JsonObject:
    snapshots: list[Json] = [
        {
            "id": snapshot.id,
            "name": snapshot.name,
            "exclusive": state.exclusive,
            "frees": state.frees_if_deleted,
            "referenced": state.referenced,
            "vm-state-size": state.vm_state_size,
        }
        for snapshot, state in zip(image.snapshots, used.snapshots, strict=True)
    ]
    found: JsonObject = {
        "filename": os.fsencode(image.name),
        "virtual-size": used.virtual_size,
        "file-length": used.file_length,
        "disk-size": used.disk_size,
        "image-end-offset": used.image_end_offset,
        "reclaimable": used.reclaimable.total,
        "reclaimable-parts": {
            "free-inside": used.reclaimable.free_inside,
            "leaked": used.reclaimable.leaked,
            "beyond-end": used.reclaimable.beyond_end,
        },
        "by-class": {class_name(kind): count for kind, count in used.by_class.items()},
        "active": {"exclusive": used.active.exclusive, "referenced": used.active.referenced},
        "snapshots": snapshots,
    }
    if freed is not None:
        ids: list[Json] = [image.snapshots[index - 1].id for index in members]
        found["together"] = {"snapshots": ids, "frees": freed}
    return found


def space_lines(image: Image, used: Space) -> list[str]:
    """The whole answer for a person."""
    parts = used.reclaimable
    lines = [
        f"{'Virtual size':<16}{size_and_bytes(used.virtual_size)}",
        f"{'File length':<16}{size_and_bytes(used.file_length)}",
        f"{'Disk size':<16}"
        + ("unknown" if used.disk_size is None else size_and_bytes(used.disk_size)),
        f"{'Image end':<16}{size_and_bytes(used.image_end_offset)}",
        f"{'Reclaimable':<16}{size_and_bytes(parts.total)}: {size(parts.free_inside)} free inside, "
        f"{size(parts.leaked)} leaked, {size(parts.beyond_end)} beyond the end",
        "",
        "The file by class:",
    ]
    for kind, count in sorted(used.by_class.items(), key=lambda item: -item[1]):
        share = percent(count, used.file_length)
        lines.append(f"  {kind.label:<22}{size(count):>10}{share:>9}")
    lines += ["", f"{'State':<28}{'Exclusive':>10}{'Frees':>11}{'Refers to':>11}{'VM state':>11}"]
    for snapshot, state in zip(image.snapshots, used.snapshots, strict=True):
        name = f"{safe(snapshot.id)} {safe(snapshot.name)}"
        lines.append(
            f"{name:<27} {size(state.exclusive):>10}{size(state.frees_if_deleted):>11}"
            f"{size(state.referenced):>11}{size(state.vm_state_size):>11}"
        )
    active = used.active
    lines.append(
        f"{'active':<28}{size(active.exclusive):>10}{'-':>11}{size(active.referenced):>11}{'-':>11}"
    )
    return lines


VERB = Verb(
    "space",
    "what uses the space, and what each snapshot alone holds",
    "FILE",
    (
        *COMMON,
        *OUTPUTS,
        Option(
            _TOGETHER,
            value="SNAPSHOT",
            help="Also say what deleting this snapshot frees; several together when given again",
        ),
    ),
    run,
    (
        ("disk.qcow2", "Sizes, the file by class, reclaimable bytes, bytes of each snapshot."),
        ("--together=1 --together=2 disk.qcow2", "What goes when both snapshots are deleted."),
        ("--output=json disk.qcow2", "Everything in bytes."),
    ),
    (
        "Exact, tables included: Exclusive is what nothing else refers to, Frees adds what the "
        "snapshot table shrinks by.",
    ),
)
