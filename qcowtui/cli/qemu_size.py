"""Sizes as qemu-img prints and reads them."""

from __future__ import annotations

from qcow.errors import UsageError
from qcowtui.views.typed_size import size_value

_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_INT64_MAX = (1 << 63) - 1


def format_size(number: int) -> str:
    """Three significant digits and a binary unit: ``64 MiB``, ``0.977 GiB``.

    The unit is the one in which the number is below 1000 (not below 1024).
    """
    unit = 0
    while unit + 1 < len(_UNITS) and number >= 1000 << (10 * unit):
        unit += 1
    return f"{number / (1 << (10 * unit)):.3g} {_UNITS[unit]}B"


def parse_size(text: str, name: str, low: int = 0, high: int = _INT64_MAX) -> int:
    """Bytes from ``1536``, ``0x600``, ``1.5k``, ``10G``: powers of 1024, a fraction needs a suffix.

    ``name`` says what it is the size of.  Raises UsageError in qemu-img's words.
    """
    value = size_value(text.lstrip(" \t\n\v\f\r"))
    if value is None:
        raise UsageError(
            f"Invalid {name} specified. You may use k, M, G, T, P or E suffixes for\n"
            "kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes."
        )
    if not low <= value <= high:
        raise UsageError(f"Invalid {name} specified. Must be between {low} and {high}.")
    return value
