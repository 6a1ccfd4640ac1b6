"""Numbers that look random and are the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


class Numbers:
    """A small deterministic stream of numbers, the same on every Python version."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._block = 0
        self._bytes = b""

    def below(self, limit: int) -> int:
        """The next number, 0 <= n < limit (limit up to 2**32)."""
        if len(self._bytes) < 4:
            self._bytes = hashlib.shake_128(self._seed + b"/%d" % self._block).digest(4096)
            self._block += 1
        value = int.from_bytes(self._bytes[:4], "big")
        self._bytes = self._bytes[4:]
        return value * limit >> 32

    def pick(self, options: Sequence[str]) -> str:
        return options[self.below(len(options))]

    def shuffled(self, values: Sequence[int]) -> list[int]:
        """The values in another order (Fisher and Yates)."""
        out = list(values)
        for last in range(len(out) - 1, 0, -1):
            other = self.below(last + 1)
            out[last], out[other] = out[other], out[last]
        return out
