"""Questions of a repair that are answered with a value of the user's own, not with a listed key."""

from __future__ import annotations

import re

from ...errors import UsageError
from ...text import exact, safe, size_and_bytes

_SIZE = re.compile(r"(\d{1,19})\s*([bkmgtpe]?)(ib)?", re.IGNORECASE)


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
        raise UsageError(f"A size of {exact(size)} is not a multiple of 512.")
    if not low <= size <= high:
        raise UsageError(
            f"The size {size_and_bytes(size)} is not possible: it can be {size_and_bytes(low)} to "
            f"{size_and_bytes(high)} here."
        )
    return size
