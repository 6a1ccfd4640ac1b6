"""``audit``: is an image from somebody else safe to hand to programs?"""

from __future__ import annotations

import os
import textwrap
from typing import NamedTuple

from qcow.errors import QcowError, StorageError
from qcow.inspect.audit import AuditPolicy, AuditReport, audit
from qcow.text import safe
from qcowtui.views.units import plural

from .. import exit_codes
from ..opening import lock_mode
from ..options import (
    FORCE_SHARE,
    FORMAT,
    OUTPUTS,
    Arguments,
    CommandError,
    Option,
    wants_json,
)
from ..output import Output
from ..qemu_json import Json, JsonObject, dumps
from ..qemu_size import parse_size
from ..verb import Verb

_MAX_SIZE = "max-virtual-size"
_NO_ENCRYPTION = "no-encryption"
_ALL = "all"


class _Verdict(NamedTuple):
    """What is said of one file: a report, or why there is none."""

    path: str
    report: AuditReport | None
    error: str = ""

    @property
    def passed(self) -> bool:
        return self.report is not None and self.report.passed


def run(arguments: Arguments, output: Output) -> int:
    if not arguments.operands:
        raise CommandError("Expecting at least one image file name")
    as_json = wants_json(arguments)
    largest = arguments.get(_MAX_SIZE)
    policy = AuditPolicy(
        format=arguments.get(FORMAT.key),
        max_virtual_size=None if largest is None else parse_size(largest, "virtual size"),
        allow_encryption=not arguments.has(_NO_ENCRYPTION),
    )
    verdicts = [_judge(path, policy, arguments) for path in arguments.operands]
    if as_json:
        output.line(dumps([_json(verdict) for verdict in verdicts]))
    else:
        for verdict in verdicts:
            output.lines(_lines(verdict, everything=arguments.has(_ALL)))
    passed = all(verdict.passed for verdict in verdicts)
    return exit_codes.OK if passed else exit_codes.AUDIT_FAILED


def _judge(path: str, policy: AuditPolicy, arguments: Arguments) -> _Verdict:
    try:
        return _Verdict(path, audit(path, policy, lock=lock_mode(arguments)))
    except StorageError as error:
        return _Verdict(path, None, str(error))
    except QcowError as error:
        return _Verdict(path, None, f"Could not open '{safe(path)}': {error}")


def _json(verdict: _Verdict) -> Json:
    report = verdict.report
    members: JsonObject = {
        "filename": os.fsencode(verdict.path),
        "format": None if report is None else report.format,
        "passed": verdict.passed,
    }
    if report is None:
        members["error"] = verdict.error
    members["checks"] = [
        {"name": check.name, "passed": check.passed, "reason": check.reason}
        for check in (() if report is None else report.checks)
    ]
    return members


def _lines(verdict: _Verdict, *, everything: bool) -> list[str]:
    report = verdict.report
    word = "PASS" if verdict.passed else "FAIL"
    if report is None:
        rows = verdict.error.split("\n")
        return [f"{word} {safe(verdict.path)}", *(f"    {row}" for row in rows)]
    total, failed = len(report.checks), len(report.failures)
    summary = plural(total, "check") if not failed else f"{failed} of {plural(total, 'check')}"
    lines = [f"{word} {safe(verdict.path)} ({report.format}, {summary})"]
    for check in report.checks:
        if everything or not check.passed:
            mark = "pass" if check.passed else "FAIL"
            lines += _wrapped(f"{mark} {check.name}: ", check.reason)
    return lines


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        head + text,
        96,
        initial_indent="    ",
        subsequent_indent="         ",
        break_on_hyphens=False,
        break_long_words=False,
    )


VERB = Verb(
    "audit",
    "is an uploaded image safe to hand to programs? PASS or FAIL",
    "FILE...",
    (
        FORMAT._replace(help="What the files are said to be, qcow2 or raw: anything else fails"),
        FORCE_SHARE,
        *OUTPUTS,
        Option(_ALL, "a", help="Show the checks that passed as well"),
        Option(_MAX_SIZE, value="SIZE", help="Fail disks larger than this (k, M, G, T suffixes)"),
        Option(_NO_ENCRYPTION, help="Fail encrypted images"),
    ),
    run,
    (
        ("upload.qcow2", "Every reason why a program should not be trusted with it."),
        ("--json --max-virtual-size=100G uploads/*.qcow2", "For a program, with a limit."),
    ),
    (
        "Looks for other files the image would make a program open (backing file, data file, "
        "json: and protocol names), unknown features, absurd sizes, references in a circle, "
        "damage that makes programs hang, and names that are not what they seem. It opens FILE "
        "and nothing else.",
    ),
    (
        (exit_codes.OK, "every file passes"),
        (exit_codes.AUDIT_FAILED, "some file fails or cannot be read"),
    ),
)
