"""``check -r``: the default plan of a repair under the name that qemu-img's users know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qcow.errors import UsageError
from qcow.findings import Severity
from qcow.image.image import Image
from qcow.inspect.check import CheckResult, check
from qcow.text import safe
from qcowtui.views.units import plural

from . import exit_codes
from .diagnosing import diagnosed
from .editing import carried_out
from .findings_output import finding_lines
from .opening import opened
from .options import FORCE_SHARE, QUIET, Arguments, wants_json
from .output import Output
from .plan_output import typed
from .progress import progress_line
from .qemu_json import dumps
from .verbs.check import check_json, check_summary

if TYPE_CHECKING:
    from qcow.actions.repair import Remedy

_EXTENTS: Final = ("leaks", "all")
#: The remedy that counts everything anew, which is how clusters stop being leaked.
_RECOUNT: Final = "refcounts"


def check_and_repair(path: str, extent: str, arguments: Arguments, output: Output) -> int:
    """Repair what the default plan repairs, check again, and say what is left; the exit code.

    ``extent``: "leaks" treats leaked clusters and refcounts alone, "all" everything.  Raises
    UsageError, NotOpened, EditRefused, VerificationError, Interrupted.
    """
    if extent not in _EXTENTS:
        raise UsageError(
            f"Unknown option value for -r (expecting 'leaks' or 'all'): {safe(extent)}"
        )
    if arguments.has(FORCE_SHARE.key):
        raise UsageError(
            f"Could not open '{safe(path)}': force-share=on can only be used with read-only images"
        )
    with opened(path, arguments) as image:
        if not isinstance(image, Image):
            output.error("This image format does not support checks")
            return exit_codes.CHECK_UNSUPPORTED
    found = diagnosed(path, arguments, output, {})
    chosen = [remedy for remedy in found.remedies if _wanted(remedy, extent)]
    treated = frozenset(remedy.id for remedy in chosen)
    if chosen:
        from qcow.actions.repair import RepairImage

        carried_out(path, [RepairImage(only=treated)], found.on, arguments, output)
    left = [remedy for remedy in found.remedies if remedy.id not in treated]
    with opened(path, arguments) as image, progress_line(output) as progress:
        assert isinstance(image, Image)
        result = check(image, progress=progress, decode=not arguments.has("no-decode"))
        _report(image, path, found.case.checked, result, chosen, left, arguments, output)
    return result.exit_code


def _wanted(remedy: Remedy, extent: str) -> bool:
    """Whether the remedy is carried out without being asked for by name."""
    if remedy.default is None:
        return False
    leak = remedy.finding.severity is Severity.LEAK or remedy.id == _RECOUNT
    return extent == "all" or (leak and remedy.option(remedy.default).lossless)


def _report(
    image: Image,
    path: str,
    before: CheckResult,
    result: CheckResult,
    chosen: list[Remedy],
    left: list[Remedy],
    arguments: Arguments,
    output: Output,
) -> None:
    corruptions = _corruptions(before) - _corruptions(result)
    leaks = _leaks(before) - _leaks(result)
    if wants_json(arguments):
        members = check_json(image, result, max(0, leaks), max(0, corruptions))
        members["repaired"] = [remedy.id for remedy in chosen]
        members["left"] = [remedy.to_json() for remedy in left]
        output.line(dumps(members))
        return
    if arguments.has(QUIET.key):
        return
    if chosen:
        output.line("The following inconsistencies were found and repaired:")
        output.line()
        output.lines(
            [f"    {max(0, leaks)} leaked clusters", f"    {max(0, corruptions)} corruptions"]
        )
        output.lines(["", "Double checking the fixed image now..."])
    for finding in result.findings:
        if finding.severity > Severity.INFO:
            output.diagnostic("\n".join(finding_lines(finding)))
    output.lines(check_summary(result))
    if left:
        output.line(
            f"{plural(len(left), 'finding')} left for you to decide: "
            f"{typed('qcowtui', 'repair', '--plan', path)}"
        )
    if chosen:
        output.line(f"undo: {typed('qcowtui', 'undo', path)}")


def _corruptions(result: CheckResult) -> int:
    return result.corruptions + result.extra_corruptions


def _leaks(result: CheckResult) -> int:
    return result.leaks + result.extra_leaks
