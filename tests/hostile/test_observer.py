"""The limits themselves: what breaks one of them is noticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qcow.findings import Severity

from .bases import Bases
from .observer import Failure, Observer, Said


@pytest.mark.parametrize(
    "breach",
    [
        {"cpu": 2.1},
        {"peak": 1 << 30},
        {"opened": ("/etc/passwd",)},
        {"events": ("socket.connect",)},
        {"failures": (Failure("open", "ValueError", False, "no"),)},
        {"failures": (Failure("open", "FormatError", True, "\x1b[2J"),)},
        {"problems": (Said("QCOW-X", Severity.INFO, ("fine", "not\u202efine")),)},
        {"findings": (Said("QCOW-X", Severity.INFO, ("C1 \x9b too",)),)},
    ],
    ids=str,
)
def test_breach_is_noticed(observer: Observer, bases: Bases, breach: dict[str, Any]) -> None:
    image = bases.path("v3")
    seen = observer.look(image)
    observer.assert_harmless(image, seen)
    with pytest.raises(AssertionError):
        observer.assert_harmless(image, replace(seen, **breach))


def test_memory_is_measured(observer: Observer, bases: Bases) -> None:
    """Python with the engine and numpy takes some MiB, and far from the limit of a row."""
    assert 8 << 20 < observer.look(bases.path("v3")).peak < 128 << 20
