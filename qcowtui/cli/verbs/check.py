"""``check``: is the metadata of an image sound?"""

from __future__ import annotations

import os

from qcow.findings import Severity
from qcow.image.image import Image
from qcow.inspect.check import CheckResult, check
from qcow.text import safe

from .. import exit_codes
from ..findings_output import finding_lines, findings_json
from ..opening import opened
from ..options import (
    CACHE,
    COMMON,
    OUTPUTS,
    QUIET,
    Arguments,
    Option,
    one_operand,
    require_cache_mode,
    wants_json,
)
from ..output import Output
from ..progress import progress_line
from ..qemu_json import JsonObject, dumps, qdict
from ..verb import Verb

_NO_DECODE = Option(
    "no-decode", help="Do not unpack compressed clusters: as thorough as qemu-img, and quicker"
)

_REPAIR = Option(
    "repair",
    "r",
    "leaks|all",
    "Repair what can be repaired without a loss, as `repair --apply`, and check again",
)


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    as_json = wants_json(arguments)
    require_cache_mode(arguments)
    quiet = arguments.has(QUIET.key)
    if arguments.has(_REPAIR.key):
        from ..check_repair import check_and_repair

        return check_and_repair(path, arguments.get(_REPAIR.key) or "", arguments, output)
    with opened(path, arguments) as image:
        if not isinstance(image, Image):
            output.error("This image format does not support checks")
            return exit_codes.CHECK_UNSUPPORTED
        with progress_line(output) as progress:
            result = check(image, progress=progress, decode=not arguments.has(_NO_DECODE.key))
        if as_json:
            output.line(dumps(check_json(image, result)))
        elif not quiet:
            for finding in result.findings:
                if finding.severity > Severity.INFO:
                    output.diagnostic("\n".join(finding_lines(finding)))
            output.lines(check_summary(result))
            if any(finding.severity >= Severity.LEAK for finding in result.findings):
                from qcow.actions.command_line import command_line

                plan = safe(command_line("repair", "--plan", path), 4096)
                output.diagnostic(f"What can be done about it: {plan}")
    return result.exit_code


def check_json(
    image: Image, result: CheckResult, leaks_fixed: int = 0, corruptions_fixed: int = 0
) -> JsonObject:
    """qemu-img's members in its order, and behind them what only this program tells."""
    members: JsonObject = {
        "filename": os.fsencode(image.name),
        "format": image.format,
        "check-errors": result.check_errors,
    }
    counts = {
        "image-end-offset": result.image_end_offset,
        "corruptions": result.corruptions,
        "leaks": result.leaks,
        "corruptions-fixed": corruptions_fixed,
        "leaks-fixed": leaks_fixed,
        "total-clusters": result.total_clusters,
        "allocated-clusters": result.allocated_clusters,
        "fragmented-clusters": result.fragmented_clusters,
        "compressed-clusters": result.compressed_clusters,
    }
    members.update({key: count for key, count in counts.items() if count})
    members = qdict(members)
    if result.extra_corruptions:
        members["extra-corruptions"] = result.extra_corruptions
    if result.extra_leaks:
        members["extra-leaks"] = result.extra_leaks
    members["findings"] = findings_json(result.findings)
    return members


def check_summary(result: CheckResult) -> list[str]:
    """qemu-img's lines; what it would not have seen is counted with the rest."""
    corruptions = result.corruptions + result.extra_corruptions
    leaks = result.leaks + result.extra_leaks
    lines = []
    if corruptions:
        lines += [
            "",
            f"{corruptions} errors were found on the image.",
            "Data may be corrupted, or further writes to the image may corrupt it.",
        ]
    if leaks:
        lines += [
            "",
            f"{leaks} leaked clusters were found on the image.",
            "This means waste of disk space, but no harm to data.",
        ]
    if result.check_errors:
        lines += ["", f"{result.check_errors} internal errors have occurred during the check."]
    if not lines:
        lines = ["No errors were found on the image."]
    total, allocated = result.total_clusters, result.allocated_clusters
    if total and allocated:
        fragmented = result.fragmented_clusters * 100 / allocated
        compressed = result.compressed_clusters * 100 / allocated
        lines.append(
            f"{allocated}/{total} = {allocated * 100 / total:.2f}% allocated, "
            f"{fragmented:.2f}% fragmented, {compressed:.2f}% compressed clusters"
        )
    if result.image_end_offset:
        lines.append(f"Image end offset: {result.image_end_offset}")
    return lines


VERB = Verb(
    "check",
    "is the metadata sound? With causes and the guest ranges they hit",
    "FILE",
    (
        *COMMON,
        *OUTPUTS,
        QUIET,
        CACHE,
        _NO_DECODE,
        _REPAIR,
    ),
    run,
    (
        ("disk.qcow2", "Findings by cause on stderr, qemu-img's summary on stdout."),
        ("--output=json disk.qcow2", "qemu-img's counts, and every finding as an object."),
        ("-r all disk.qcow2", "Carry out the default plan of `repair`, and check again."),
        ("--no-decode disk.qcow2", "The tables and refcounts only; compressed data is not read."),
    ),
    (
        "Checks tables, refcounts, snapshots and bitmaps, and unpacks every compressed cluster "
        "(not with --no-decode). "
        "It reads FILE and nothing else, and changes it only with -r. "
        "The counts are those of qemu-img; where it sees less, "
        "JSON has the difference as extra-corruptions and extra-leaks.",
    ),
    (
        (exit_codes.OK, "no errors"),
        (exit_codes.CHECK_ERRORS, "the check could not be completed"),
        (exit_codes.CHECK_CORRUPTIONS, "corruptions"),
        (exit_codes.CHECK_LEAKS, "leaked clusters, nothing worse"),
        (exit_codes.CHECK_UNSUPPORTED, "the format has no check"),
    ),
)
