"""Sizes as people type them."""

from __future__ import annotations

import re

_SHIFTS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_NUMBER = re.compile(
    r"\+?(?:0x(?P<hex>[0-9a-f]+)|(?P<whole>[0-9]+)(?:\.(?P<fraction>[0-9]*))?)"
    r"(?P<suffix>[bkmgtpe]?)",
    re.IGNORECASE,
)


def size_value(text: str) -> int | None:
    """Bytes from ``1536``, ``0x600``, ``1.5k``, ``10G``; None when it is no size.

    Powers of 1024, as qemu-img reads them; a fraction needs a suffix.
    """
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    scale = 1 << _SHIFTS[found["suffix"].lower()]
    if found["hex"]:
        return int(found["hex"], 16) * scale
    fraction = (found["fraction"] or "").rstrip("0")
    if fraction and scale == 1:
        return None
    unit: int = 10 ** len(fraction)
    return int(found["whole"]) * scale + (2 * int(fraction or 0) * scale + unit) // (2 * unit)
