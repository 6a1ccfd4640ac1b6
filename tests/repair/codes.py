"""docs/repair.md: every finding code, what it means, and the remedies that exist for it.

``python -m tests.repair.codes > docs/repair.md``

Codes and texts are those of the engine's catalogue.  Remedies are those that a diagnosis offers
for the images of the damage matrix; a test holds the page to both.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import qcow
from qcow.actions.repair.diagnosis import diagnose
from qcow.actions.repair.lost_header import mending_for
from qcow.actions.repair.remedy import Remedy
from qcow.errors import QcowError
from qcow.findings import FindingKind, Severity, catalogue
from qcow.image.image import Image
from qcow.inspect.lost import scan_lost
from qcow.storage.memory import MemoryStorage

from .matrix import Case, cases

DOCUMENT = Path(__file__).parents[2] / "docs" / "repair.md"

_HEAD = """\
# Findings and remedies

*Written by `python -m tests.repair.codes` from the engine; a test keeps it true.*

Every finding has a code that stays the same, in `check --output=json`, in `repair --plan` and in
the app. Below each one: what it means, what follows, what is safe to do next, and the remedies that
`repair` offers. A remedy that loses nothing may be part of the default plan; the others are taken
only when you choose them (`--choice ID=KEY`). Which of them apply to an image, and where, is told
by `repair --plan FILE`. All of them write only to free clusters and switch over at the end, so that
`undo` takes each one back.
"""
_SEVERITIES = {
    Severity.ERROR: "Cannot be read (exit code 1)",
    Severity.CORRUPTION: "Corrupt (exit code 2)",
    Severity.LEAK: "Leaks (exit code 3)",
    Severity.WARNING: "Warnings",
    Severity.INFO: "Worth knowing",
}


class Offer(NamedTuple):
    """A way to treat a finding, without the places it is about."""

    title: str
    loses: bool


def kinds() -> tuple[FindingKind, ...]:
    """All kinds of the engine, whatever was imported before."""
    for module in pkgutil.walk_packages(qcow.__path__, "qcow."):
        importlib.import_module(module.name)
    return catalogue()


def offers_of(case: Case) -> dict[str, set[Offer]]:
    """What a diagnosis of the damaged image offers, by finding code."""
    found: dict[str, set[Offer]] = {}
    for remedy in _remedies(case):
        for option in remedy.options:
            offer = Offer(general(option.title), bool(option.loses))
            found.setdefault(remedy.finding.code, set()).add(offer)
    return found


def _remedies(case: Case) -> tuple[Remedy, ...]:
    storage = MemoryStorage(case.damaged())
    try:
        if storage.read(0, 4) == b"QFI\xfb":
            return diagnose(Image(storage))[1]
        return diagnose(mending_for(scan_lost(storage), {}).seen(storage))[1]
    except QcowError:  # it has to be asked something first
        return ()


def general(title: str) -> str:
    """``Put the table at … back into entry … of the active L1 table``: no places, no names."""
    title = re.sub(r"0x[0-9a-f]+", "…", title)
    title = re.sub(r"(?<=[ (])(['\"])[^'\"]*\1", '"…"', title)
    title = re.sub(r'("…", )+', "", title)
    title = re.sub(r"(?<![\w.])\d[\d,.]*(?: [KMGTPE]?i?B)?(?![\w])", "…", title)
    title = re.sub(r"… \(… bytes\)", "…", title)
    title = re.sub(r"(?:…(?:,| and| to)? )+…", "…", title)
    return re.sub(r"(?<=… )(bitmap|byte|cluster)(?!\w)", r"\1s", title)


def page(offers: Iterable[dict[str, set[Offer]]]) -> str:
    """The text of the page."""
    return "\n".join(_lines(offers))


def _lines(offers: Iterable[dict[str, set[Offer]]]) -> Iterator[str]:
    known: dict[str, set[Offer]] = {}
    for found in offers:
        for code, some in found.items():
            known.setdefault(code, set()).update(some)
    yield _HEAD
    declared = kinds()
    for severity in sorted(Severity, reverse=True):
        yield f"## {_SEVERITIES[severity]}\n"
        for kind in declared:
            if kind.severity is severity:
                yield from _section(kind, known.get(kind.code, set()))


def _section(kind: FindingKind, offers: set[Offer]) -> Iterator[str]:
    yield f"### {kind.code}\n"
    yield f"**{kind.title[0].upper()}{kind.title[1:]}.** {kind.meaning}\n"
    yield f"{kind.consequence} {kind.next_step}\n"
    for offer in sorted(offers, key=lambda one: (one.loses, one.title)):
        yield f"- {offer.title} ({'may lose data' if offer.loses else 'loses nothing'})"
    if offers:
        yield ""


if __name__ == "__main__":
    sys.stdout.write(page(map(offers_of, cases())))
