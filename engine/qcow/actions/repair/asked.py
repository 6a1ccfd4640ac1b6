"""Questions of a repair that are answered with a value of the user's own, not with a listed key."""

from __future__ import annotations

import re

from ...errors import UsageError
from ...text import safe

_SIZE = re.compile(r"(\d{1,19})\s*([bkmgtpe]?)(ib)?", re.IGNORECASE)
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def parse_size(text: str, low: int, high: int) -> int:
    """Bytes from ``2147483648`` or ``2G`` (powers of 1024), a multiple of 512.

    Raises UsageError, also outside of ``low`` to ``high``.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f'"{safe(text, 80)}" is no size: write bytes, or a number with K, M, G, T.'
        )
    size = int(found[1]) << 10 * "bkmgtpe".index((found[2] or "b").lower())
    if size % 512:
        raise UsageError(f"A size of {size} bytes is not a multiple of 512.")
    if not low <= size <= high:
        raise UsageError(
            f"The size {readable_size(size)} is not possible: it can be {readable_size(low)} to "
            f"{readable_size(high)} here."
        )
    return size


def readable_size(size: int) -> str:
    """Bytes for people: exact, in the largest unit that divides them."""
    for power in range(6, 0, -1):
        if size and size % (1 << 10 * power) == 0:
            return f"{size >> 10 * power} {_UNITS[power]}"
    return f"{size} bytes"
