"""``fragmentation``: how scattered a disk lies in its file, and the L2 cache that covers it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qcow.image.image import Image
from qcowtui.views.units import count, percent, plural, size

from .. import exit_codes
from ..opening import opened, require_qcow2
from ..options import COMMON, OUTPUTS, Arguments, Option, one_operand, wants_json
from ..output import Output
from ..progress import progress_line
from ..qemu_json import JsonObject, dumps
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.image.state import State
    from qcow.inspect.cache_options import CacheOptions
    from qcow.inspect.fragmentation import Fragmentation

_SNAPSHOT = "snapshot"
_ROWS = 16
_BAR = 40


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    as_json = wants_json(arguments)
    with opened(path, arguments) as given:
        image = require_qcow2(given)
        state = _state(image, arguments.get(_SNAPSHOT))
        from qcow.inspect.cache_options import l2_cache_options
        from qcow.inspect.fragmentation import REGIONS, fragmentation

        regions = REGIONS if as_json else _ROWS
        with progress_line(output) as progress:
            found = fragmentation(state, regions=regions, progress=progress)
        options = l2_cache_options(path, found.l2_cache.needed)
        if as_json:
            output.line(dumps(_json(image, state, found, options)))
        else:
            output.lines(_lines(found, options))
    return exit_codes.OK


def _state(image: Image, snapshot: str | None) -> State:
    return image.active if snapshot is None else image.snapshot_state(image.find_snapshot(snapshot))


def _json(image: Image, state: State, found: Fragmentation, options: CacheOptions) -> JsonObject:
    cache = found.l2_cache
    return {
        "filename": os.fsencode(image.name),
        "state": os.fsencode(state.label),
        "total-clusters": found.total_clusters,
        "allocated-clusters": found.allocated_clusters,
        "fragmented-clusters": found.fragmented_clusters,
        "compressed-clusters": found.compressed_clusters,
        "fragmented-percent": round(found.percentage, 2),
        "runs": found.runs,
        "run-bytes": found.run_bytes,
        "mean-run": round(found.mean_run),
        "jumps-back": found.jumps_back,
        "l2-cache": {
            "tables": cache.tables,
            "needed": cache.needed,
            "default": cache.default,
            "default-covers": cache.default_covers,
            "default-suffices": cache.default_suffices,
            "blockdev": options.blockdev,
            "drive": options.drive,
        },
        "regions": [
            {
                "start": region.start,
                "length": region.length,
                "allocated-clusters": region.allocated_clusters,
                "breaks": region.breaks,
                "jumps-back": region.jumps_back,
            }
            for region in found.regions
        ],
    }


def _lines(found: Fragmentation, options: CacheOptions) -> list[str]:
    allocated, total = found.allocated_clusters, found.total_clusters
    lines = [
        f"{'Allocated':<16}{count(allocated)} of {plural(total, 'cluster')} "
        f"({percent(allocated, total)}), {count(found.compressed_clusters)} compressed",
        f"{'Fragmented':<16}{found.percentage:.2f} % as qemu-img counts: clusters that do not "
        "follow the one before",
        f"{'Runs':<16}{plural(found.runs, 'run')} of {size(round(found.mean_run))} on average, "
        f"{plural(found.jumps_back, 'jump')} back",
        "",
        *_cache_lines(found, options),
    ]
    if allocated:
        lines += ["", f"{'Guest range from':<18}{'Allocated':>10}{'Breaks':>10}{'Back':>8}"]
        most = max(region.breaks for region in found.regions) or 1
        for region in found.regions:
            bar = "#" * -(-region.breaks * _BAR // most)
            lines.append(
                f"{region.start:<#18x}{count(region.allocated_clusters):>10}"
                f"{count(region.breaks):>10}{count(region.jumps_back):>8}  {bar}".rstrip()
            )
    return lines


def _cache_lines(found: Fragmentation, options: CacheOptions) -> list[str]:
    cache = found.l2_cache
    head = (
        f"{'L2 cache':<16}{size(cache.needed)} cover the whole disk; QEMU takes "
        f"{size(cache.default)}"
    )
    if cache.default_suffices:
        return [f"{head}, which suffices."]
    covered = f"which cover {size(cache.default_covers)} of the disk."
    return [
        f"{head}, {covered}",
        f"{'':<16}For all of it start QEMU with",
        f"{'':<16}  {options.blockdev}",
        f"{'':<16}or",
        f"{'':<16}  {options.drive}",
    ]


VERB = Verb(
    "fragmentation",
    "how scattered the disk lies in the file; the L2 cache that covers it",
    "FILE",
    (
        *COMMON,
        *OUTPUTS,
        Option(_SNAPSHOT, "s", "SNAPSHOT", "Look at this snapshot: an ID, else a name"),
    ),
    run,
    (
        ("disk.qcow2", "Runs, jumps back, QEMU's percentage, where it is worst, cache size."),
        ("--output=json disk.qcow2", "The same with 64 regions of the guest disk."),
    ),
    (
        "A run is a stretch of allocated clusters that follow each other in the file in guest "
        "order. Breaks are the places where a reader has to go elsewhere in the file.",
    ),
)
