"""The tests' side of :mod:`tests.hostile.probe`, and the limits every image is held to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from qcow.findings import Severity

from .bases import NAMES, Bases

#: What one image may cost: seconds of CPU, bytes above what a healthy image takes.
_CPU = 2.0
_MEMORY = 64 << 20
_PER_METADATA_BYTE = 4
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Said:
    """One finding: its code, its severity, everything it says."""

    code: str
    severity: Severity
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """An exception: what was being done, its class, whether it is one of the engine's own."""

    step: str
    kind: str
    typed: bool
    text: str


@dataclass(frozen=True)
class Seen:
    """What came of opening, checking, mapping and reading one image."""

    problems: tuple[Said, ...]  # of the open image
    findings: tuple[Said, ...]  # of the check
    counts: dict[str, int]  # of the check, in qemu-img's words
    failures: tuple[Failure, ...]
    read: str | None  # SHA-256 of the first 64 KiB of the active disk, where they can be read
    layers: tuple[str, ...]  # if it was followed: how each layer fared, the image first
    data_file: str  # and the image's data file
    opened: tuple[str, ...]  # files other than the image
    events: tuple[str, ...]  # other things that only a reader gone wrong does
    cpu: float  # seconds
    peak: int  # bytes of memory

    @property
    def refused(self) -> bool:
        """Whether it did not open, or opened with something that cannot be used."""
        at_open = any(failure.step == "open" for failure in self.failures)
        return at_open or any(said.severity is Severity.ERROR for said in self.problems)

    @property
    def worst(self) -> Severity:
        """The gravest of all findings; an image that did not open is an ERROR."""
        if any(failure.step == "open" for failure in self.failures):
            return Severity.ERROR
        every = (*self.problems, *self.findings)
        return max((said.severity for said in every), default=Severity.INFO)

    def codes(self) -> list[str]:
        """What was found, in short, for a failing test."""
        every = (*self.problems, *self.findings)
        return [f"{said.severity.label} {said.code}" for said in every]


class Observer:
    """A probe that is kept running for many images."""

    def __init__(self, bases: Bases) -> None:
        self._probe = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.probe"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._send([str(bases.path(name)) for name in NAMES])
        self._base = max(self.look(bases.path(name)).peak for name in NAMES)

    def _send(self, request: Any) -> None:
        assert self._probe.stdin is not None
        self._probe.stdin.write(json.dumps(request) + "\n")
        self._probe.stdin.flush()

    def look(self, image: Path, cut: int | None = None) -> Seen:
        """Look at an image; ``cut`` shortens it to that many bytes while it is open.

        Fails the test if that killed the process.
        """
        return self._ask({"image": str(image), "cut": cut})

    def follow(self, image: Path, policy: str) -> Seen:
        """Look at an image through everything below it; ``policy``: a method that makes a Gate."""
        return self._ask({"image": str(image), "policy": policy})

    def _ask(self, request: dict[str, Any]) -> Seen:
        self._send(request)
        assert self._probe.stdout is not None
        line = self._probe.stdout.readline()
        assert line, "the probe died while warming up: see its stderr"
        answer = json.loads(line)
        assert answer["exit"] == 0, f"{request} ended with {answer['exit']}"
        return Seen(
            problems=_said(answer.get("problems", [])),
            findings=_said(answer.get("findings", [])),
            failures=tuple(
                Failure(each["step"], each["kind"], each["typed"], each["text"])
                for each in answer["errors"]
            ),
            counts=answer.get("counts", {}),
            read=answer.get("read"),
            layers=tuple(answer.get("layers", ())),
            data_file=answer.get("data_file", ""),
            opened=tuple(answer["opened"]),
            events=tuple(answer["events"]),
            cpu=answer["cpu"],
            peak=answer["peak"],
        )

    def assert_harmless(self, image: Path, seen: Seen, beside: Collection[str] = ()) -> None:
        """What holds for every image: typed errors, bounded costs, no second file, clean text.

        ``beside``: names of files that may be opened nevertheless.
        """
        untyped = [failure for failure in seen.failures if not failure.typed]
        assert not untyped
        assert seen.cpu <= _CPU
        present = sum(each.lstat().st_blocks * 512 for each in image.parent.iterdir())
        assert seen.peak <= self._base + _MEMORY + _PER_METADATA_BYTE * present
        assert set(map(os.path.basename, seen.opened)) <= set(beside)
        assert seen.events == ()
        for text in _texts(seen):
            hidden = [char for char in text if unicodedata.category(char) in _HIDDEN]
            assert not hidden, f"{hidden} in {text!r}"

    def __enter__(self) -> Observer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._probe.stdin is not None
        self._probe.stdin.close()
        self._probe.wait(timeout=60)


def _said(findings: list[dict[str, Any]]) -> tuple[Said, ...]:
    return tuple(
        Said(each["code"], Severity(each["severity"]), tuple(each["texts"])) for each in findings
    )


def _texts(seen: Seen) -> Iterable[str]:
    for said in (*seen.problems, *seen.findings):
        yield from said.texts
    for failure in seen.failures:
        yield failure.text
