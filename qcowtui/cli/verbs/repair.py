"""``repair``: what is wrong with an image, what can be done about it, and doing it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qcow.errors import UsageError
from qcow.text import safe

from .. import exit_codes
from ..diagnosing import Diagnosis, Lost, diagnosed, lost_header
from ..editing import DRY_RUN, EDITING, EXITS, change
from ..findings_output import findings_json
from ..options import QUIET, Arguments, CommandError, Option, one_operand, wants_json
from ..output import Output
from ..verb import Verb

if TYPE_CHECKING:
    from qcow.edit.apply import Action

_PLAN = Option("plan", help="List the findings and what can be done about each; write nothing")
_APPLY = Option("apply", help="Carry out the default plan, changed by --only and --choice")
_ONLY = Option("only", value="FINDING", help="Treat this finding alone; several with several")
_CHOICE = Option(
    "choice",
    value="KEY=VALUE",
    help="Take the option VALUE of the finding KEY (`leave`: none); or an answer, as size=2G",
)


def run(arguments: Arguments, output: Output) -> int:
    path = one_operand(arguments)
    modes = [option for option in (_PLAN, _APPLY, DRY_RUN) if arguments.has(option.key)]
    if len(modes) > 1:
        raise CommandError(f"--{modes[0].long} and --{modes[1].long} exclude each other")
    choices = _choices(arguments)
    only = frozenset(arguments.all(_ONLY.key)) or None

    def make() -> list[Action]:
        from qcow.actions.repair import RepairImage

        return [RepairImage(choices, only)]

    as_json = wants_json(arguments)
    lost = lost_header(path, arguments, output, choices)
    mending = None
    if lost is not None:
        mending = lost.mending
        if mending is None:
            if modes and modes[0] is not _PLAN:
                raise UsageError(f"{lost.question} `repair --plan` shows what was found.")
            _tell_of_lost(path, lost, output, as_json=as_json)
            return exit_codes.CHECK_ERRORS
    if modes and modes[0] is not _PLAN:
        return change(path, arguments, output, make, asks=True, mending=mending)
    from ..confirming import somebody_to_ask

    found = diagnosed(path, arguments, output, choices, mending)
    if as_json:
        _write_json(path, found, output)
    elif not arguments.has(QUIET.key):
        from ..remedy_output import remedy_lines

        output.lines(remedy_lines(found.case, found.remedies, path))
    ready = any(remedy.default is not None or remedy.id in choices for remedy in found.remedies)
    if not modes and ready and not as_json and somebody_to_ask():
        output.line()
        return change(path, arguments, output, make, always_asks=True, mending=mending)
    return _exit_code(found)


def _choices(arguments: Arguments) -> dict[str, str]:
    """``--choice`` as a mapping.  Raises UsageError."""
    choices: dict[str, str] = {}
    for text in arguments.all(_CHOICE.key):
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise UsageError(f"--choice expects KEY=VALUE, not '{safe(text)}'.")
        if choices.setdefault(key, value) != value:
            raise UsageError(f"--choice gives two answers for '{safe(key)}'.")
    return choices


def _exit_code(found: Diagnosis) -> int:
    """As ``check`` ends; what only opening sees is counted as damage."""
    code = found.case.checked.exit_code
    return exit_codes.CHECK_CORRUPTIONS if found.remedies and not code else code


def _write_json(path: str, found: Diagnosis, output: Output) -> None:
    from ..qemu_json import JsonObject, dumps

    checked = found.case.checked
    ready = [remedy for remedy in found.remedies if remedy.default is not None]
    members: JsonObject = {
        "filename": os.fsencode(path),
        "corruptions": checked.corruptions + checked.extra_corruptions,
        "leaks": checked.leaks + checked.extra_leaks,
        "check-errors": checked.check_errors,
        "default-treats": len(ready),
        "needs-choice": len(found.remedies) - len(ready),
        "remedies": [remedy.to_json() for remedy in found.remedies],
        "findings": findings_json(checked.findings),
    }
    output.line(dumps(members))


def _tell_of_lost(path: str, lost: Lost, output: Output, *, as_json: bool) -> None:
    """What a scan found of an image, and what has to be answered before it can be planned."""
    if as_json:
        from ..qemu_json import Json, JsonObject, dumps

        proposals: list[Json] = [
            {
                "cluster-size": p.header.cluster_size,
                "size": p.size,
                "size-least": p.least,
                "size-most": p.most,
                "errors": p.errors,
                "leaks": p.leaks,
                "evidence": list(p.evidence),
            }
            for p in lost.found.proposals
        ]
        members: JsonObject = {
            "filename": os.fsencode(path),
            "question": lost.question,
            "headers": proposals,
        }
        output.line(dumps(members))
        return
    from ..remedy_output import lost_lines

    output.lines(lost_lines(lost, path))


VERB = Verb(
    "repair",
    "what is wrong, what can be done about it, and doing it; can be undone",
    "[--plan | --dry-run | --apply] FILE",
    (_PLAN, _APPLY, _ONLY, _CHOICE, *EDITING),
    run,
    (
        ("--plan disk.qcow2", "Each finding, and what each way to treat it keeps and loses."),
        ("--dry-run disk.qcow2", "What the default plan would write; nothing is written."),
        ("--apply disk.qcow2", "Carry it out: what loses nothing, in one step that can be undone."),
        (
            "--apply --only refcounts disk.qcow2",
            "Treat one finding and leave the others as they are.",
        ),
        (
            "--apply --choice ID=KEY disk.qcow2",
            "The default plan, with another option for one finding.",
        ),
    ),
    (
        "The default plan loses nothing that can still be read. What may lose data is done only "
        "when --choice asks for it. The result is checked before it becomes the image, and "
        "`qcowtui undo` takes it back. Without --plan, --dry-run or --apply the plan is shown, "
        "and at a terminal it is asked whether to carry it out.",
        "A file that lost its header is scanned for what is left of the image; "
        "--choice header=N takes another of the headers proposed than the first, size=SIZE says "
        "how large the disk was.",
        "With --plan, and without a terminal to ask at, it ends as `check` does: 0 no errors, "
        "2 corruptions, 3 leaked clusters only.",
    ),
    EXITS,
)
